//! What the tests stand on: the real binary as a child process, a destination
//! that answers as it is told, senders that can be wrong on purpose, and guests
//! built once for each run. Nothing here sleeps for a fixed time: it waits for
//! a condition, and gives up loudly at a deadline.

pub mod account;
pub mod collector;
pub mod config;
pub mod disk;
pub mod guests;
pub mod metrics;
pub mod proto;
pub mod proxy;
pub mod send;
pub mod sink;
pub mod spans;
pub mod tempo;
pub mod tls;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

pub use collector::Collector;
pub use config::{Setup, module, plugin, script, to};
pub use sink::{Reply, Sink};
pub use spans::{request, span};

/// Nothing that a test waits for may take longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until there is an answer.
#[track_caller]
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

#[track_caller]
pub fn wait_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where the servers and clients of all tests run.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// The root of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A folder of the build that outlives the run: compiled plugins are kept there.
pub fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A folder of captured requests or real configs, where the machine has them:
/// in `VESPID_CORPUS`, or beside the tree.
pub fn corpus(part: &str) -> Option<PathBuf> {
    let named = std::env::var_os("VESPID_CORPUS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root().join("../shared/corpus")).join(part);
    folder.is_dir().then_some(folder)
}
