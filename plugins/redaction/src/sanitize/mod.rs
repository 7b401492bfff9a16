//! URLs and database statements without what makes each of them different. Each
//! gives what the Collector's sanitizers give, oddities included.

mod json;
mod letters;
mod memcached;
mod redis;
mod sql;
mod url;

pub use json::sanitize as json;
pub use memcached::sanitize as memcached;
pub use redis::sanitize as redis;
pub use sql::{Dialect, sanitize as sql};
pub use url::{is_mere_stars, sanitize as url};
