//! What the parts of a pipeline are to each other. Every arrow between them
//! carries a batch one way and the answer the other: a receiver tells its
//! sender OK only when the last of these futures has said so.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ComponentId, Problem, Reference};
use crate::traces::{Batch, Context, Parcel};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The collector's own identity, as it stands in logs and metrics: `type/name`.
pub type Id = std::sync::Arc<str>;

/// Takes a batch and answers for it: `Ok` once every destination has it.
pub trait Consumer: Send + Sync {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<Outcome, ConsumeError>>;

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
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>>;

    /// What it takes, for those who can choose what to hand it.
    fn room(&self) -> Room {
        Room::default()
    }

    /// What its `Ok` means.
    fn delivery(&self) -> Delivery {
        Delivery::Delivered
    }

    /// Gets what it needs to take parcels: all of it that can fail. Asked again, it has
    /// nothing to do.
    fn open(&self) -> BoxFuture<'_, Result<(), OpenError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Goes on with what it has from before; nothing is exported earlier.
    fn begin(&self) {}

    /// Sends what it has answered `Ok` for and still has, as far as that goes without
    /// retries. The collector is shutting down, and hands it no more.
    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Ends what it does in the background, and says what is left.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// When an exporter answers `Ok`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The destination has the spans.
    Delivered,
    /// They are synced to this storage, or the destination has them.
    Synced(String),
    /// They are in memory: a crash loses them.
    Early,
}

/// Why an exporter cannot begin.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    pub message: String,
}

/// A folder that queues can be kept in: an extension that `sending_queue.storage` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePlace {
    /// The extension's id.
    pub id: String,
    pub directory: std::path::PathBuf,
    /// The mode that the folder is made with where it is missing; without it, it must be there.
    pub create: Option<u32>,
    /// How long another process may keep a queue.
    pub patience: Duration,
    /// The files of one queue take no more.
    pub max_bytes: u64,
}

/// What an exporter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// A parcel with more spans is refused.
    pub spans: usize,
    /// So is one of more bytes.
    pub bytes: usize,
    /// More parcels of one batch than this are better handed over one after the other.
    pub at_once: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { spans: usize::MAX, bytes: usize::MAX, at_once: 10 }
    }
}

/// What a good answer still has to say: the spans that were not taken, whose
/// number and reason travel back to the sender as OTLP's partial success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub rejected: usize,
    /// Why; with no span rejected, a warning.
    pub message: String,
}

/// No more of what others say is logged and passed on. gRPC puts it in headers, in
/// the escaped form and once more in the details, and some clients take 8 KiB of those.
pub const LONGEST_MESSAGE: usize = 1 << 10;

/// A message within the limit; a longer one is cut between two characters.
pub fn shortened(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push('…');
    }
    message
}

impl Outcome {
    pub fn rejected(rejected: usize, message: impl Into<String>) -> Self {
        Self { rejected, message: shortened(message.into()) }
    }

    /// The outcome of two batches of different spans.
    pub fn and(mut self, other: Self) -> Self {
        self.rejected += other.rejected;
        self.say(&other.message)
    }

    /// The outcome of one batch at two destinations.
    pub fn beside(mut self, other: Self) -> Self {
        self.rejected = self.rejected.max(other.rejected);
        self.say(&other.message)
    }

    fn say(mut self, more: &str) -> Self {
        if self.message.is_empty() {
            self.message = more.to_owned();
        } else if !more.is_empty() && !self.message.contains(more) {
            self.message = shortened(format!("{}; {more}", self.message));
        }
        self
    }
}

/// Lets a request in by its headers, before its body is read: an extension that
/// a receiver's `auth.authenticator` names.
pub trait Authenticator: Send + Sync {
    fn authenticate<'a>(&'a self, headers: &'a http::HeaderMap) -> BoxFuture<'a, Result<Identity, Unauthenticated>>;

    /// What `WWW-Authenticate` asks a refused client for.
    fn challenge(&self) -> &str;
}

/// What an authenticator knows of a sender, by name: `username`, `subject`.
pub type Identity = Vec<(String, String)>;

/// Why a request was not let in; it never holds what the request showed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthenticated(pub &'static str);

/// Adds the headers that a destination wants to see: an extension that an
/// exporter's `auth.authenticator` names.
pub trait Authorizer: Send + Sync {
    fn authorize(&self, headers: &mut http::HeaderMap, context: &Context) -> Result<(), ConsumeError>;

    /// Whether what it adds is not for everyone on the way to read.
    fn shows_secrets(&self) -> bool;
}

/// Lets requests in, or none for a while, before anything of them is read: an
/// extension that a receiver's `middlewares` name.
pub trait Gate: Send + Sync {
    fn admit(&self) -> Result<(), ConsumeError>;
}

/// What an extension can do for receivers and exporters.
#[derive(Clone, Default)]
pub struct Extension {
    pub gate: Option<Arc<dyn Gate>>,
    pub authenticator: Option<Arc<dyn Authenticator>>,
    pub authorizer: Option<Arc<dyn Authorizer>>,
    pub storage: Option<StoragePlace>,
}

/// What became of an extension of the config.
pub enum Built {
    /// `service.extensions` does not list it.
    NotListed,
    /// Why was told before.
    Failed,
    Done(Extension),
}

/// The extensions of the config.
#[derive(Default)]
pub struct Extensions {
    known: HashMap<ComponentId, Built>,
}

impl Extensions {
    pub fn insert(&mut self, id: ComponentId, built: Built) {
        self.known.insert(id, built);
    }

    /// What lets requests in under the name that stands at `path`.
    pub fn authenticator(&self, path: &str, named: &Reference) -> Result<Arc<dyn Authenticator>, Problem> {
        self.find(path, "authenticator", named)?.authenticator.clone().ok_or_else(|| {
            let message = format!("requested authenticator \"{}\" is not a server authenticator", named.id);
            problem(path, named, message, "it is for exporters; a receiver wants one that checks what comes in")
        })
    }

    /// What gives requests their credentials under the name that stands at `path`.
    pub fn authorizer(&self, path: &str, named: &Reference) -> Result<Arc<dyn Authorizer>, Problem> {
        self.find(path, "authenticator", named)?.authorizer.clone().ok_or_else(|| {
            let message = format!("requested authenticator \"{}\" is not a client authenticator", named.id);
            problem(path, named, message, "it is for receivers; an exporter wants one that shows credentials")
        })
    }

    /// What requests are led through under the name that stands at `path`.
    pub fn gate(&self, path: &str, named: &Reference) -> Result<Arc<dyn Gate>, Problem> {
        self.find(path, "middleware", named)?.gate.clone().ok_or_else(|| {
            let message = format!("requested middleware \"{}\" is none that requests can be led through", named.id);
            problem(path, named, message, "only `memory_limiter` can stand here")
        })
    }

    /// Where a queue is kept under the name that stands at `path`.
    pub fn storage(&self, path: &str, named: &Reference) -> Result<StoragePlace, Problem> {
        self.find(path, "storage", named)?.storage.clone().ok_or_else(|| {
            let message = format!("requested storage \"{}\" is no storage extension", named.id);
            problem(path, named, message, "name a `file_storage`")
        })
    }

    /// All folders that queues can be kept in.
    pub fn storages(&self) -> impl Iterator<Item = &StoragePlace> {
        self.known.values().filter_map(|built| match built {
            Built::Done(extension) => extension.storage.as_ref(),
            _ => None,
        })
    }

    fn find(&self, path: &str, what: &str, named: &Reference) -> Result<&Extension, Problem> {
        let id = &named.id;
        match self.known.get(id) {
            Some(Built::Done(extension)) => Ok(extension),
            Some(Built::Failed) => {
                let message = format!("failed to resolve {what} \"{id}\": it cannot be started");
                Err(problem(path, named, message, ""))
            }
            Some(Built::NotListed) => {
                let message = format!("failed to resolve {what} \"{id}\": it is not started");
                Err(problem(path, named, message, format!("add `{id}` to `service.extensions`")))
            }
            None => {
                let message = format!("failed to resolve {what} \"{id}\": {what} not found");
                Err(problem(
                    path,
                    named,
                    message,
                    format!("add `{id}:` under `extensions` and to `service.extensions`"),
                ))
            }
        }
    }
}

fn problem(path: &str, named: &Reference, message: String, hint: impl Into<String>) -> Problem {
    Problem::new(path, message).at(&named.at).hint(hint)
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
    /// Nobody has given the spans up: who keeps them should go on keeping them.
    pub is_undecided: bool,
}

impl ConsumeError {
    pub fn retryable(message: impl Into<String>) -> Self {
        Self { retryable: true, message: shortened(message.into()), retry_after: None, code: None, is_undecided: false }
    }

    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            retryable: false,
            message: shortened(message.into()),
            retry_after: None,
            code: None,
            is_undecided: false,
        }
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

    pub fn undecided(mut self) -> Self {
        self.is_undecided = true;
        self
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
        first.is_undecided |= second.is_undecided;
        first
    }
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConsumeError {}
