//! A log on the disk for things that wait: appended in order, synced before anyone
//! is told so, settled one by one in any order. It knows nothing of spans.

mod format;
mod log;
mod segment;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use log::{Log, LogSettings, Opened, Written};
pub use segment::{Damage, Stored};

/// Why something cannot be stored or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    #[error("`{path}` is in use by another process")]
    Locked { path: PathBuf },
    #[error("`{path}` cannot be used: {cause}")]
    Unusable { path: PathBuf, cause: String },
    /// There is no room on the disk, or none within the limit.
    #[error("the disk has no room: {0}")]
    Full(String),
    #[error("a record of {0} bytes is too large")]
    TooLarge(usize),
    /// The record is not what was written.
    #[error("a record in `{path}` is damaged: {cause}")]
    Damaged { path: PathBuf, cause: String },
    #[error("the storage is closed")]
    Closed,
}

impl StorageError {
    /// What an error of the file system means for whoever wants to write.
    fn of(path: &std::path::Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            _ => Self::Unusable { path: path.to_owned(), cause: error.to_string() },
        }
    }
}
