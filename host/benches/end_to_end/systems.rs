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
    /// The bundled `attributes`: one attribute set, one deleted
    Attributes,
    /// The bundled `redaction` with two patterns: e-mail addresses, card numbers
    Redaction,
    /// `attributes`, `redaction`, and a plugin that drops
    Bundled,
    /// The queue in memory; answered when the destination has the spans
    Waiting,
    /// The queue in memory; answered at once (`wait_for_result: false`)
    Early,
    /// The queue on the disk; answered when the destination has the spans, or they are synced
    Persistent,
    /// The queue in memory, answered at once; the destination takes 150 ms for each answer
    LateEarly,
    /// The queue on the disk and the same destination: every request is synced, read back or not, and settled
    LatePersistent,
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
    /// As fast as answers come, over 64 streams, to a sink that takes 10,000 spans/s
    Overload,
    /// Start to the first answer, one plugin, everything cached
    Start,
    /// The same with a million spans in the queue on the disk, whose destination is down
    Restart,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Scenario::None => "none",
            Scenario::Plugin => "plugin",
            Scenario::Chain => "chain",
            Scenario::Attributes => "attributes",
            Scenario::Redaction => "redaction",
            Scenario::Bundled => "bundled",
            Scenario::Waiting => "waiting",
            Scenario::Early => "early",
            Scenario::Persistent => "persistent",
            Scenario::LateEarly => "late-early",
            Scenario::LatePersistent => "late-persistent",
            Scenario::Rate10k => "rate10k",
            Scenario::Overload => "overload",
            Scenario::Restart => "restart",
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

    /// Requests under way at a time, where that is not for the user to say.
    pub fn streams(self) -> Option<usize> {
        (self == Scenario::Overload).then_some(64)
    }

    /// Whether only its start is timed.
    pub fn is_start(self) -> bool {
        matches!(self, Scenario::Start | Scenario::Restart)
    }

    fn rules(self) -> Vec<&'static Rule> {
        match self {
            Scenario::None | Scenario::Gzip | Scenario::Zstd | Scenario::Http | Scenario::Json => vec![],
            Scenario::Waiting | Scenario::Early | Scenario::Persistent => vec![],
            Scenario::LateEarly | Scenario::LatePersistent => vec![],
            Scenario::Overload | Scenario::Restart => vec![],
            Scenario::Plugin | Scenario::GzipPlugin | Scenario::ZstdPlugin | Scenario::Rate10k | Scenario::Start => {
                vec![&RULES[0]]
            }
            Scenario::Chain => RULES.iter().collect(),
            Scenario::Attributes => vec![&BUNDLED[0]],
            Scenario::Redaction => vec![&BUNDLED[1]],
            Scenario::Bundled => vec![&BUNDLED[0], &BUNDLED[1], &RULES[2]],
        }
    }

    /// The settings of `sending_queue`.
    fn queue(self) -> &'static str {
        match self {
            Scenario::Waiting => "{wait_for_result: true}",
            Scenario::Early => "{wait_for_result: false}",
            Scenario::Persistent => "{storage: file_storage}",
            Scenario::LateEarly => "{wait_for_result: false, queue_size: 100000, num_consumers: 2000}",
            Scenario::LatePersistent => "{storage: file_storage, queue_size: 100000, num_consumers: 2000}",
            Scenario::Restart => "{storage: file_storage, queue_size: 100000}",
            // As it is without a word.
            Scenario::Overload => "{}",
            // The Collector would otherwise answer before it has delivered.
            _ => "{enabled: false}",
        }
    }
}

/// A processor, as Vespid's plugin and as the Collector's native equivalent.
struct Rule {
    /// The plugin's id and config; `None` where it is shipped under the native's name.
    plugin: Option<(&'static str, &'static str)>,
    /// The processor's id and settings.
    native: (&'static str, &'static str),
}

const BUNDLED: [Rule; 2] = [
    Rule {
        plugin: None,
        native: (
            "attributes/bundled",
            "{actions: [{key: deployment.environment, value: production, action: upsert}, \
             {key: user_agent.original, action: delete}]}",
        ),
    },
    Rule {
        plugin: None,
        native: (
            "redaction/bundled",
            "{allow_all_keys: true, blocked_values: ['[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,}', \
             '4[0-9]{12}(?:[0-9]{3})?']}",
        ),
    },
];

const RULES: [Rule; 3] = [
    Rule {
        plugin: Some(("wasm/copy", "{mode: copy, read: http.route, set: seen.route}")),
        native: ("attributes/copy", "{actions: [{key: seen.route, from_attribute: http.route, action: upsert}]}"),
    },
    Rule {
        plugin: Some(("wasm/mask", "{mode: mask}")),
        native: ("redaction/mask", "{allow_all_keys: true, blocked_values: [\"@\"]}"),
    },
    Rule {
        plugin: Some(("wasm/drop", "{mode: drop}")),
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
        let storage = places.folder.join(format!("{}-storage", self.name));
        fs::create_dir_all(&storage)?;
        fs::write(&file, configuration(scenario, listen, sink, &processors, &storage))
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
    let rules = scenario.rules().into_iter();
    let processor = |rule: &Rule| match rule.plugin {
        Some((id, config)) => (id, format!("{{module: {guest:?}, config: {config}}}")),
        None => (rule.native.0, rule.native.1.to_owned()),
    };
    rules.map(processor).collect()
}

fn natives(scenario: Scenario) -> Processors {
    scenario.rules().into_iter().map(|rule| (rule.native.0, rule.native.1.to_owned())).collect()
}

fn configuration(
    scenario: Scenario,
    listen: SocketAddr,
    sink: SocketAddr,
    processors: &Processors,
    storage: &Path,
) -> String {
    let wire = scenario.wire();
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
    let (mut extensions, queue) = ("", scenario.queue());
    if queue.contains("storage") {
        extensions = "file_storage";
        text.push_str(&format!("extensions: {{file_storage: {{directory: {storage:?}}}}}\n"));
    }
    text.push_str(&format!(
        "exporters: {{{exporter}: {{endpoint: \"{scheme}{sink}\", compression: {compression}, tls: {{insecure: true}}, \
         sending_queue: {queue}}}}}\n\
         service:\n  extensions: [{extensions}]\n  telemetry: {{metrics: {{level: none}}}}\n  \
         pipelines: {{traces: {{receivers: [otlp], processors: [{}], exporters: [{exporter}]}}}}\n",
        ids.join(", ")
    ));
    text
}
