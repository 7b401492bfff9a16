//! `vespid send`: sample spans for a collector, so that there is something to see.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::run::runtime;
use super::sample;
use crate::component::Exporter as _;
use crate::config::{Key, Map, Node, Position, Problems, Section, Value};
use crate::exporter::Drain;
use crate::exporter::otlp_grpc::{self, OtlpGrpcExporter};
use crate::telemetry::Metrics;
use crate::traces::{Context, Parcel};

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// Where OTLP over gRPC is received; `https://` for TLS
    #[arg(long, default_value = "http://localhost:4317")]
    endpoint: String,
    /// How many requests to send; 0 has no end
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// The pause between them
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
}

pub(super) fn execute(args: &SendArgs) -> anyhow::Result<()> {
    runtime(1)?.block_on(async {
        // As process 1 of a container it would not hear of its end by itself.
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            sent = send(args) => sent,
            _ = terminate.recv() => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

async fn send(args: &SendArgs) -> anyhow::Result<()> {
    let sender = Sender::new(&args.endpoint)?;
    let mut sent = 0;
    loop {
        let (trace, spans) = sender.send().await?;
        println!("sent {spans} spans; trace {trace}");
        sent += 1;
        if sent == args.count {
            return Ok(());
        }
        tokio::time::sleep(args.interval).await;
    }
}

/// Where the command line stands in error messages.
fn place() -> Position {
    Position::new("--endpoint", 1, 1)
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let key = |name: &str| Key { name: name.into(), is_text: true, at: place() };
    Value::Map(Map {
        entries: entries.into_iter().map(|(name, value)| (key(name), Node::new(value, place()))).collect(),
    })
}

/// Sends sample spans by the collector's own exporter.
pub(super) struct Sender(OtlpGrpcExporter);

impl Sender {
    pub(super) fn new(endpoint: &str) -> anyhow::Result<Self> {
        let plain = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let problems = Problems::new();
        let off = map([("enabled", Value::Bool(false))]);
        let node = map([
            ("endpoint", Value::Text(plain)),
            ("compression", Value::Text("none".into())),
            ("retry_on_failure", off),
        ]);
        let node = Node::new(node, place());
        let settings = otlp_grpc::read(Section::new(&node, "send", &problems));
        problems.finish()?;
        let settings = settings.with_context(|| format!("`{endpoint}` is no endpoint"))?;
        let (_, drain) = Drain::new();
        let metrics = Metrics::default().exporter("send");
        Ok(Self(OtlpGrpcExporter::new("send".into(), settings, None, metrics, drain)?))
    }

    /// Sends one request; answers the trace to look for, and how many spans were sent.
    pub(super) async fn send(&self) -> anyhow::Result<(String, usize)> {
        let (message, spans, trace) = sample::request();
        let parcel = Parcel::new(message, spans, Arc::new(Context::default()));
        self.0.export(parcel).await.context("the spans were not taken")?;
        Ok((trace, spans))
    }
}
