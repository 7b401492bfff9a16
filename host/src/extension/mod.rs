//! Extensions: what runs beside the pipelines, and who may come in and go out.

pub mod basic_auth;
pub mod bearer_token;
pub mod headers_setter;
pub mod health_check;
mod htpasswd;
mod watched;

pub use watched::FileError;
