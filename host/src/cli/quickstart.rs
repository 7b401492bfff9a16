//! `vespid quickstart`: a collector with a plugin in its path, and what the
//! plugin does to each span, on one screen.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::ConfigArgs;
use super::run::{runtime, start, until_stopped, workers};
use super::send::Sender;
use super::signals::Signals;

/// Receives on the usual ports and prints spans before and after the plugin.
const CONFIG: &str = include_str!("../../../examples/quickstart/collector.yaml");

#[derive(Debug, Args)]
pub(super) struct QuickstartArgs {
    /// The plugin
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// End after the sample spans instead of waiting for more
    #[arg(long)]
    once: bool,
}

pub(super) fn execute(args: &QuickstartArgs) -> anyhow::Result<()> {
    let module = args.module.canonicalize();
    let module = module.with_context(|| format!("the plugin `{}` cannot be read", args.module.display()))?;
    let set = vec![format!("processors.wasm/tidy.module={}", module.display())];
    let config = ConfigArgs { config: vec![format!("yaml:{CONFIG}")], set, feature_gates: vec![], traces_only: false };
    let (workers, grace) = (workers(), Duration::from_secs(5));
    runtime(workers)?.block_on(async {
        eprintln!("1/3  starting a collector with the plugin {}", args.module.display());
        let (running, _) = start(&config, workers, grace).await?;
        eprintln!("2/3  sending three sample spans: an order, its database call, and a health check");
        let sender = Sender::new("http://127.0.0.1:4317")?;
        sender.send().await?;
        eprintln!("3/3  above: `debug/before` is what came, `debug/after` is what the plugin made of it");
        if args.once {
            running.shut_down(grace).await;
            return Ok(());
        }
        eprintln!("     Point any OpenTelemetry SDK at http://localhost:4317 (gRPC) or :4318 (HTTP), or run");
        eprintln!("     `vespid send` in another terminal. Stop with Ctrl-C.");
        until_stopped(running, grace, &mut Signals::listen(grace)?).await;
        Ok(())
    })
}
