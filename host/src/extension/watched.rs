//! A value that is read from a file, and again whenever the file has changed.
//!
//! The content is compared, not the time stamp: Kubernetes swaps symbolic links
//! under a mounted secret, and some file systems count in whole seconds.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::component::Task;

/// Between two looks at a file.
const PERIOD: Duration = Duration::from_secs(1);
/// No file of credentials is larger.
const LARGEST: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("`{0}` cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("`{0}` is larger than {LARGEST} bytes")]
    TooLarge(PathBuf),
    #[error("`{0}`: {1}")]
    Content(PathBuf, String),
}

/// The latest good value; a file that goes bad changes nothing.
pub struct Watched<T> {
    current: Arc<RwLock<Arc<T>>>,
    _task: Option<Task>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    pub fn fixed(value: T) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(value))), _task: None }
    }

    /// Reads the file now, and again when its content changes. Needs a runtime.
    pub fn open(
        path: &Path,
        parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let path = path.to_owned();
        let mut known = read(&path)?;
        let parsed =
            move |path: &Path, text: &str| parse(text).map_err(|message| FileError::Content(path.to_owned(), message));
        let current = Arc::new(RwLock::new(Arc::new(parsed(&path, &known)?)));
        let shared = Arc::clone(&current);
        let task = Task::spawn(async move {
            let mut failing = false;
            loop {
                tokio::time::sleep(PERIOD).await;
                let file = path.clone();
                let Ok(found) = tokio::task::spawn_blocking(move || read(&file)).await else { continue };
                let outcome = match found {
                    Ok(text) if text == known => continue,
                    Ok(text) => parsed(&path, &text).map(|value| (text, value)),
                    Err(error) => Err(error),
                };
                match outcome {
                    Ok((text, value)) => {
                        (known, failing) = (text, false);
                        *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                        tracing::info!(file = %path.display(), "credentials were read again");
                    }
                    // Once, and not each second.
                    Err(error) if !failing => {
                        failing = true;
                        tracing::error!(%error, "credentials could not be read again; the former ones stay");
                    }
                    Err(_) => {}
                }
            }
        });
        Ok(Self { current, _task: Some(task) })
    }

    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    let failed = |error| FileError::Read(path.to_owned(), error);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST { Err(FileError::TooLarge(path.to_owned())) } else { Ok(text) }
}
