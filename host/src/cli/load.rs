//! From the flags to a graph: read, check, build. Starts, reloads and `validate` all
//! come this way, so that they say the same of the same config.

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::watch::{Content, Files};
use super::{ConfigArgs, read};
use crate::collector::{self, Base, Graph};
use crate::config::{Config, Problems};
use crate::registry::ProcessorSettings;
use crate::telemetry::start_logging;

/// What a graph is built for.
#[derive(Clone)]
pub(super) enum Purpose {
    Check,
    Start,
    /// It is to take the place of the one that this is of.
    Reload(Base),
}

/// What was loaded.
pub(super) struct Loaded {
    pub graph: Graph,
    pub config: Config,
}

/// The outcome, and the files that it depends on whatever it is.
pub(super) struct Attempt {
    pub outcome: anyhow::Result<Loaded>,
    pub files: Files,
}

/// Loads on a thread of its own: sources may be far away and plugins take seconds to
/// compile, and neither requests nor a signal that come meanwhile are to wait.
pub(super) async fn load(args: &ConfigArgs, workers: usize, purpose: Purpose) -> anyhow::Result<Attempt> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (args, runtime) = (args.clone(), Handle::current());
    std::thread::Builder::new().name("config".into()).spawn(move || {
        let files = Mutex::default();
        let outcome = build(&args, workers, purpose, &runtime, &files);
        let files = files.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Nobody waits any more after a signal.
        drop(sender.send(Attempt { outcome, files }));
    })?;
    receiver.await.context("the config cannot be read")
}

/// Every error of every stage that can be reached is in the answer.
fn build(
    args: &ConfigArgs,
    workers: usize,
    purpose: Purpose,
    runtime: &Handle,
    files: &Mutex<Files>,
) -> anyhow::Result<Loaded> {
    let problems = Problems::new();
    let saw = |path: PathBuf, content| drop(files.lock().map(|mut files| files.insert(path, content)));
    let seen = |path: &str, content: Option<&[u8]>| saw(path.into(), content.map(|bytes| Sha256::digest(bytes).into()));
    let Some(config) = read(args, &seen, &problems) else {
        problems.finish()?;
        anyhow::bail!("the config cannot be read");
    };
    let (blueprint, telemetry) = collector::read(&config, &problems);
    // Before they are loaded: what is written later is a change.
    for settings in blueprint.processors.values() {
        if let ProcessorSettings::Plugin(settings) = settings
            && let Some(file) = settings.file()
        {
            saw(file.to_owned(), Content::of(file));
        }
    }
    let log = !matches!(purpose, Purpose::Check);
    if problems.has_errors() {
        // A warning may be the cause: a variable that is not set reads as nothing.
        for warning in &config.warnings {
            say(&warning.as_warning().to_string(), matches!(purpose, Purpose::Reload(_)));
        }
        problems.finish()?;
        anyhow::bail!("the config has errors");
    }
    let base = match purpose {
        Purpose::Reload(base) => base,
        Purpose::Start => {
            start_logging(&telemetry.logs)?;
            Base::new(telemetry.level)
        }
        Purpose::Check => Base::new(telemetry.level),
    };
    let graph = runtime.block_on(Graph::build(&config, blueprint, telemetry, workers, base, &problems));
    for warning in config.warnings.iter().chain(&problems.finish()?) {
        say(&warning.as_warning().to_string(), log);
    }
    Ok(Loaded { graph: graph.context("the config has errors")?, config })
}

fn say(text: &str, log: bool) {
    if log { tracing::warn!("{}", text.replace('\n', " ")) } else { eprintln!("{text}\n") }
}
