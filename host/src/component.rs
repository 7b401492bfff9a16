//! What the parts of a pipeline are to each other. Every arrow between them
//! carries a batch one way and the answer the other: a receiver tells its
//! sender OK only when the last of these futures has said so.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::traces::{Batch, Context, Parcel};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The collector's own identity, as it stands in logs and metrics: `type/name`.
pub type Id = std::sync::Arc<str>;

/// Takes a batch and answers for it: `Ok` once every destination has it.
pub trait Consumer: Send + Sync {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>>;

    /// Whether some processor will look into the batch, so that the receiver's
    /// walk makes the index too.
    fn looks_inside(&self) -> bool;
}

/// Changes a batch on its way.
pub trait Processor: Send + Sync {
    fn process(&self, batch: Batch) -> BoxFuture<'_, Result<Batch, ConsumeError>>;

    fn looks_inside(&self) -> bool {
        true
    }
}

/// Hands spans to a destination; `Ok` when the destination has them.
pub trait Exporter: Send + Sync {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<(), ConsumeError>>;
}

/// Lets a request in by its headers, before its body is read: an extension that
/// a receiver's `auth.authenticator` names.
pub trait Authenticator: Send + Sync {
    fn authenticate(&self, headers: &http::HeaderMap) -> Result<(), Unauthenticated>;

    /// What `WWW-Authenticate` asks a refused client for.
    fn challenge(&self) -> &str;
}

/// Why a request was not let in; it never holds what the request showed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthenticated(pub &'static str);

/// Adds the headers that a destination wants to see: an extension that an
/// exporter's `auth.authenticator` names.
pub trait Authorizer: Send + Sync {
    fn authorize(&self, headers: &mut http::HeaderMap, context: &Context) -> Result<(), ConsumeError>;
}

/// A background task of a component: it ends when its handle is dropped.
#[derive(Debug)]
pub struct Task(tokio::task::JoinHandle<()>);

impl Task {
    pub fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why spans were not taken. Whether the sender should try again is all that
/// decides the status it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumeError {
    pub retryable: bool,
    pub message: String,
    /// How long the sender should wait, where the destination said so.
    pub retry_after: Option<Duration>,
    /// The destination's gRPC status code, where it gave one.
    pub code: Option<i32>,
}

impl ConsumeError {
    pub fn retryable(message: impl Into<String>) -> Self {
        Self { retryable: true, message: message.into(), retry_after: None, code: None }
    }

    pub fn permanent(message: impl Into<String>) -> Self {
        Self { retryable: false, message: message.into(), retry_after: None, code: None }
    }

    pub fn with_code(mut self, code: i32) -> Self {
        self.code = Some(code);
        self
    }

    /// The status' name, as the label `error_type` has it.
    pub fn reason(&self) -> &'static str {
        const NAMES: [&str; 17] = [
            "OK",
            "Canceled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        let code = self.code.and_then(|code| usize::try_from(code).ok());
        code.and_then(|code| NAMES.get(code)).copied().unwrap_or("_OTHER")
    }

    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// One answer for several destinations: worth a retry if it is for one of them.
    pub fn join(self, other: Self) -> Self {
        let (mut first, second) = if self.retryable || !other.retryable { (self, other) } else { (other, self) };
        first.message = format!("{}; {}", first.message, second.message);
        first.retry_after = first.retry_after.max(second.retry_after);
        first
    }
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConsumeError {}
