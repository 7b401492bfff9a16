//! `vespid --config FILE`: run the collector, and reload its config.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use super::load::{Attempt, Purpose, load};
use super::signals::Signals;
use super::watch::{Files, Watcher};
use super::{ConfigArgs, RunArgs};
use crate::collector::Running;
use crate::transport::budget::give_memory_back;

pub(super) fn execute(args: &RunArgs) -> anyhow::Result<()> {
    let mut signals = Signals::listen(args.grace_period)?;
    let workers = workers();
    let runtime = runtime(workers)?;
    let ran = runtime.block_on(async {
        tokio::select! {
            biased;
            () = signals.stop() => return Ok(()),
            started = start(&args.config, workers, args.grace_period) => {
                let (running, files) = started?;
                let watcher = args.watch.then(|| Watcher::new(files));
                let reloader = Reloader { args: &args.config, workers, watcher, last_error: String::new() };
                let running = reloader.run(running, &mut signals).await;
                shut_down(running, args.grace_period, &mut signals).await;
            }
        }
        anyhow::Ok(())
    });
    // What still runs on other threads, such as a write to a disk that hangs, is not
    // waited for. Nor is the runtime taken away from a plugin that is being configured,
    // which would panic without: both end with the process, now.
    std::mem::forget(runtime);
    ran
}

/// As many as the process may use: its affinity and its cgroup's quota count.
pub(super) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One worker needs no work stealing, and is a fifth faster without.
pub(super) fn runtime(workers: usize) -> anyhow::Result<Runtime> {
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(workers).enable_all().build().context("the runtime cannot be started")
}

pub(super) async fn start(args: &ConfigArgs, workers: usize, grace: Duration) -> anyhow::Result<(Running, Files)> {
    let Attempt { outcome, files } = load(args, workers, Purpose::Start).await?;
    let running = outcome?.graph.start(grace).await?;
    // What the start took for a moment.
    give_memory_back();
    Ok((running, files))
}

/// Reloads until a signal to stop comes.
struct Reloader<'a> {
    args: &'a ConfigArgs,
    workers: usize,
    watcher: Option<Watcher>,
    /// What was said of the last failure; while nobody acts it is not said again.
    last_error: String,
}

impl Reloader<'_> {
    async fn run(mut self, mut running: Running, signals: &mut Signals) -> Running {
        loop {
            let asked = tokio::select! {
                biased;
                reload = signals.next() => match reload {
                    true => "SIGHUP",
                    false => return running,
                },
                () = changed(self.watcher.as_mut()) => "a file has changed",
            };
            tokio::select! {
                biased;
                () = signals.stop() => return running,
                () = self.reload(&mut running, asked) => {}
            }
        }
    }

    /// May be dropped at any of its waits: until the new graph is in its place all at
    /// once, the old one is.
    async fn reload(&mut self, running: &mut Running, asked: &str) {
        let attempt = load(self.args, self.workers, Purpose::Reload(running.base())).await;
        let (outcome, files) = match attempt {
            Ok(Attempt { outcome: Ok(loaded), files }) => {
                (running.reload(loaded.graph).await.map_err(anyhow::Error::from), Some(files))
            }
            Ok(Attempt { outcome: Err(error), files }) => {
                running.reload_failed();
                (Err(error), Some(files))
            }
            Err(error) => {
                running.reload_failed();
                (Err(error), None)
            }
        };
        if let (Some(watcher), Some(files)) = (&mut self.watcher, files) {
            watcher.loaded(files, outcome.is_ok());
        }
        match outcome {
            Ok(()) => {
                self.last_error.clear();
                tracing::info!(asked, "The config was reloaded.");
            }
            Err(error) => {
                let error = format!("{error:#}");
                if asked == "SIGHUP" || error != self.last_error {
                    tracing::error!(asked, error, "The config was not reloaded; the former one runs on.");
                }
                self.last_error = error;
            }
        }
        give_memory_back();
    }
}

async fn changed(watcher: Option<&mut Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

/// Runs until a signal, or until its terminal is closed, then drains.
pub(super) async fn until_stopped(running: Running, grace: Duration, signals: &mut Signals) {
    signals.next().await;
    shut_down(running, grace, signals).await;
}

/// Drains. A second signal ends that at once.
async fn shut_down(running: Running, grace: Duration, signals: &mut Signals) {
    tokio::select! {
        () = running.shut_down(grace) => {}
        () = signals.stop() => tracing::warn!("a second signal: the drain ends here"),
    }
}
