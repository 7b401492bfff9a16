//! `vespid --config FILE`: run the collector.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigArgs, RunArgs, read};
use crate::collector::{self, Graph, Running};
use crate::config::{Config, Problems};
use crate::telemetry::start_logging;
use crate::transport::budget::give_memory_back;

pub(super) fn execute(args: &RunArgs) -> anyhow::Result<()> {
    let workers = workers();
    let runtime = runtime(workers)?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            biased;
            () = signals.next() => Ok(()),
            running = start(&args.config, workers) => until_stopped(running?, args.grace_period, &mut signals).await,
        }
    })
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

/// Reads the config on a thread of its own: it may be fetched from somewhere, and a
/// signal that comes meanwhile is not to wait.
async fn read_aside(args: ConfigArgs) -> anyhow::Result<(Option<Config>, Problems)> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("config".into()).spawn(move || {
        let problems = Problems::new();
        let config = read(&args, &problems);
        // Nobody waits any more after a signal.
        drop(sender.send((config, problems)));
    })?;
    receiver.await.context("the config cannot be read")
}

/// Reads, checks and builds; every error of every stage that can be reached is in the answer.
pub(super) async fn build(args: &ConfigArgs, workers: usize, log: bool) -> anyhow::Result<(Graph, Config)> {
    let (config, problems) = read_aside(args.clone()).await?;
    let Some(config) = config else {
        problems.finish()?;
        anyhow::bail!("the config cannot be read");
    };
    let (blueprint, telemetry) = collector::read(&config, &problems);
    if problems.has_errors() {
        // A warning may be the cause: a variable that is not set reads as nothing.
        for warning in &config.warnings {
            eprintln!("{}\n", warning.as_warning());
        }
        problems.finish()?;
        anyhow::bail!("the config has errors");
    }
    if log {
        start_logging(&telemetry.logs)?;
    }
    let graph = Graph::build(&config, blueprint, telemetry, workers, &problems).await;
    for warning in config.warnings.iter().chain(&problems.finish()?) {
        let text = warning.as_warning().to_string();
        if log { tracing::warn!("{}", text.replace('\n', " ")) } else { eprintln!("{text}\n") }
    }
    Ok((graph.context("the config has errors")?, config))
}

pub(super) async fn start(args: &ConfigArgs, workers: usize) -> anyhow::Result<Running> {
    let (graph, _) = build(args, workers, true).await?;
    let running = graph.start().await?;
    // What the start took for a moment.
    give_memory_back();
    Ok(running)
}

/// SIGTERM and SIGINT. They are asked for before anything starts: until then they
/// kill without a drain, or, for a process 1, are not heard at all.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs until a signal, then drains. A second signal ends the drain at once.
pub(super) async fn until_stopped(running: Running, grace: Duration, signals: &mut Signals) -> anyhow::Result<()> {
    signals.next().await;
    tokio::select! {
        () = running.shut_down(grace) => {}
        () = signals.next() => tracing::warn!("a second signal: the drain ends here"),
    }
    Ok(())
}
