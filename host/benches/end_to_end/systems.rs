//! What is measured, and how each is configured and started.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use vespid::transport::compress::Codec;

use crate::wire::Wire;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// No processor, at full speed
    None,
    /// A plugin that reads one attribute and sets another, at full speed
    Plugin,
    /// Three plugins: one copies an attribute, one masks addresses, one drops; at full speed
    Chain,
    /// One plugin at 10,000 spans/s
    Rate10k,
    /// No processor, gzip both ways
    Gzip,
    /// The plugin, gzip both ways: what is changed has to be packed anew
    GzipPlugin,
    /// No processor, zstd both ways
    Zstd,
    /// The plugin, zstd both ways
    ZstdPlugin,
    /// No processor, protobuf over HTTP/1.1 both ways
    Http,
    /// No processor, JSON over HTTP/1.1 in, protobuf over HTTP/1.1 out
    Json,
    /// Start to the first answer, one plugin, everything cached
    Start,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Scenario::None => "none",
            Scenario::Plugin => "plugin",
            Scenario::Chain => "chain",
            Scenario::Rate10k => "rate10k",
            Scenario::Gzip => "gzip",
            Scenario::GzipPlugin => "gzip-plugin",
            Scenario::Zstd => "zstd",
            Scenario::ZstdPlugin => "zstd-plugin",
            Scenario::Http => "http",
            Scenario::Json => "json",
            Scenario::Start => "start",
        }
    }

    /// How requests come to the collector.
    pub fn wire(self) -> Wire {
        match self {
            Scenario::Gzip | Scenario::GzipPlugin => Wire::Grpc(Some(Codec::Gzip)),
            Scenario::Zstd | Scenario::ZstdPlugin => Wire::Grpc(Some(Codec::Zstd)),
            Scenario::Http => Wire::Http,
            Scenario::Json => Wire::Json,
            _ => Wire::Grpc(None),
        }
    }

    /// In spans a second; without one, as fast as answers come.
    pub fn rate(self) -> Option<f64> {
        (self == Scenario::Rate10k).then_some(10_000.0)
    }

    fn rules(self) -> &'static [Rule] {
        match self {
            Scenario::None | Scenario::Gzip | Scenario::Zstd | Scenario::Http | Scenario::Json => &[],
            Scenario::Plugin | Scenario::GzipPlugin | Scenario::ZstdPlugin | Scenario::Rate10k | Scenario::Start => {
                &RULES[..1]
            }
            Scenario::Chain => &RULES,
        }
    }
}

/// A processor, as Vespid's plugin and as the Collector's native equivalent.
struct Rule {
    /// The plugin's id and config.
    plugin: (&'static str, &'static str),
    /// The processor's id and settings.
    native: (&'static str, &'static str),
}

const RULES: [Rule; 3] = [
    Rule {
        plugin: ("wasm/copy", "{mode: copy, read: http.route, set: seen.route}"),
        native: ("attributes/copy", "{actions: [{key: seen.route, from_attribute: http.route, action: upsert}]}"),
    },
    Rule {
        plugin: ("wasm/mask", "{mode: mask}"),
        native: ("redaction/mask", "{allow_all_keys: true, blocked_values: [\"@\"]}"),
    },
    Rule {
        plugin: ("wasm/drop", "{mode: drop}"),
        native: ("filter/drop", "{traces: {span: ['status.code == STATUS_CODE_ERROR and name == \"GET /healthz\"']}}"),
    },
];

pub struct System {
    pub name: String,
    kind: Kind,
}

enum Kind {
    Forwarder,
    Vespid(PathBuf),
    Collector(PathBuf),
}

pub const FORWARDER: &str = "forwarder";
pub const VESPID: &str = "vespid";

impl System {
    pub fn forwarder() -> Self {
        Self { name: FORWARDER.to_owned(), kind: Kind::Forwarder }
    }

    pub fn vespid(binary: PathBuf) -> Self {
        Self { name: VESPID.to_owned(), kind: Kind::Vespid(binary) }
    }

    /// Any other that takes the OpenTelemetry Collector's configuration.
    pub fn collector(name: String, binary: PathBuf) -> Self {
        Self { name, kind: Kind::Collector(binary) }
    }

    pub fn runs(&self, scenario: Scenario) -> bool {
        let bare = matches!(scenario, Scenario::None | Scenario::Rate10k | Scenario::Start);
        bare || !matches!(self.kind, Kind::Forwarder)
    }

    /// Whether it runs the plugin under measurement.
    pub fn has_plugins(&self) -> bool {
        matches!(self.kind, Kind::Vespid(_))
    }

    /// The command that starts it, its configuration written into the folder.
    pub fn command(
        &self,
        scenario: Scenario,
        listen: SocketAddr,
        sink: SocketAddr,
        places: &Places,
    ) -> Result<Command> {
        let (binary, processors) = match &self.kind {
            Kind::Forwarder => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args([FORWARDER, &listen.to_string(), &sink.to_string()]);
                return Ok(command);
            }
            Kind::Vespid(binary) => (binary, plugins(scenario, &places.guest)),
            Kind::Collector(binary) => (binary, natives(scenario)),
        };
        let file = places.folder.join(format!("{}-{}.yaml", self.name, scenario.name()));
        fs::write(&file, configuration(scenario.wire(), listen, sink, &processors))
            .context("cannot write a configuration")?;
        let mut command = Command::new(binary);
        command.arg(format!("--config={}", file.display())).env("VESPID_CACHE_DIR", places.folder.join("cache"));
        Ok(command)
    }
}

/// Where the benchmark keeps its files.
pub struct Places {
    pub folder: PathBuf,
    /// The plugin under measurement; nowhere if no system runs it.
    pub guest: PathBuf,
}

/// Each processor's id and settings, in the order of the pipeline.
type Processors = Vec<(&'static str, String)>;

fn plugins(scenario: Scenario, guest: &Path) -> Processors {
    let rules = scenario.rules().iter();
    rules.map(|rule| (rule.plugin.0, format!("{{module: {:?}, config: {}}}", guest, rule.plugin.1))).collect()
}

fn natives(scenario: Scenario) -> Processors {
    scenario.rules().iter().map(|rule| (rule.native.0, rule.native.1.to_owned())).collect()
}

fn configuration(wire: Wire, listen: SocketAddr, sink: SocketAddr, processors: &Processors) -> String {
    let ids: Vec<&str> = processors.iter().map(|(id, _)| *id).collect();
    let (protocol, exporter, scheme) =
        if wire.is_grpc() { ("grpc", "otlp", "") } else { ("http", "otlphttp", "http://") };
    let compression = match wire {
        Wire::Grpc(Some(codec)) => codec.grpc_name(),
        _ => "none",
    };
    let mut text = format!("receivers: {{otlp: {{protocols: {{{protocol}: {{endpoint: \"{listen}\"}}}}}}}}\n");
    if !processors.is_empty() {
        text.push_str("processors:\n");
    }
    for (id, settings) in processors {
        text.push_str(&format!("  {id}: {settings}\n"));
    }
    // The Collector would otherwise answer before it has delivered.
    text.push_str(&format!(
        "exporters: {{{exporter}: {{endpoint: \"{scheme}{sink}\", compression: {compression}, tls: {{insecure: true}}, \
         sending_queue: {{enabled: false}}}}}}\n\
         service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
         pipelines: {{traces: {{receivers: [otlp], processors: [{}], exporters: [{exporter}]}}}}\n",
        ids.join(", ")
    ));
    text
}
