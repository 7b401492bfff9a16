//! Configs of collectors under test. Every port is 0: the collector's log tells
//! which ones it got.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::guests::guest;
use super::{Collector, Sink};

/// An `otlp` exporter's settings, with retries that do not keep a test waiting.
pub fn to(address: impl ToString) -> Value {
    let retry = json!({"initial_interval": "10ms", "max_interval": "50ms", "max_elapsed_time": "20s"});
    json!({"endpoint": address.to_string(), "tls": {"insecure": true}, "retry_on_failure": retry})
}

/// An `otlphttp` exporter's settings.
pub fn to_http(address: impl ToString) -> Value {
    let mut settings = to(format!("http://{}", address.to_string()));
    settings.as_object_mut().unwrap().remove("tls");
    settings
}

/// A `wasm` processor's settings.
pub fn plugin(guest_name: &str, config: Value) -> Value {
    json!({"module": guest(guest_name), "config": config})
}

/// The `script` guest with these steps.
pub fn script(steps: Value) -> Value {
    plugin("script", json!({"steps": steps}))
}

/// A module's path as text.
pub fn module(name: &str) -> String {
    guest(name).display().to_string()
}

/// Puts keys into settings, nested ones with dots.
pub fn with<const N: usize>(mut settings: Value, keys: [(&str, Value); N]) -> Value {
    for (path, value) in keys {
        put(&mut settings, path, value);
    }
    settings
}

fn put(settings: &mut Value, path: &str, value: Value) {
    let mut place = settings;
    for key in path.split('.') {
        if place.is_null() {
            *place = json!({});
        }
        place = place.as_object_mut().unwrap().entry(key).or_insert(Value::Null);
    }
    *place = value;
}

/// A collector to be. Without `pipeline` there is one from `otlp` through all
/// processors to all exporters.
pub struct Setup {
    config: Value,
    processors: Vec<String>,
    exporters: Vec<String>,
    pub(super) arguments: Vec<OsString>,
    pub(super) variables: Vec<(String, OsString)>,
    pub(super) cache: Option<PathBuf>,
    /// Whether the config is given as `--config=env:…` and not as a file.
    pub(super) in_environment: bool,
    /// No file that the process writes grows beyond this.
    pub(super) file_limit: Option<u64>,
    /// Whether the harness leaves the config as it is, and so cannot read the account.
    pub(super) without_account: bool,
}

/// The extension by which the harness reads the account.
pub(super) const ACCOUNT: &str = "zpages/account";

impl Setup {
    /// OTLP over both protocols, a health check and metrics.
    pub fn new() -> Self {
        let prometheus = json!({"host": "127.0.0.1", "port": 0});
        let readers = json!([{"pull": {"exporter": {"prometheus": prometheus}}}]);
        let protocols = json!({"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": "127.0.0.1:0"}});
        let config = json!({
            "receivers": {"otlp": {"protocols": protocols}},
            "extensions": {"health_check": {"endpoint": "127.0.0.1:0"}},
            "service": {"extensions": ["health_check"], "telemetry": {"metrics": {"readers": readers}}},
        });
        let (processors, exporters) = (vec![], vec![]);
        let (arguments, variables) = (vec![], vec![]);
        Self {
            config,
            processors,
            exporters,
            arguments,
            variables,
            cache: None,
            in_environment: false,
            file_limit: None,
            without_account: false,
        }
    }

    /// From `otlp` to this sink over gRPC.
    pub fn line(sink: &Sink) -> Self {
        Self::new().exporter("otlp", to(sink))
    }

    pub fn receiver(mut self, id: &str, settings: Value) -> Self {
        self.section("receivers").insert(id.to_owned(), settings);
        self
    }

    pub fn processor(mut self, id: &str, settings: Value) -> Self {
        self.section("processors").insert(id.to_owned(), settings);
        self.processors.push(id.to_owned());
        self
    }

    pub fn exporter(mut self, id: &str, settings: Value) -> Self {
        self.section("exporters").insert(id.to_owned(), settings);
        self.exporters.push(id.to_owned());
        self
    }

    pub fn pipeline(mut self, id: &str, receivers: &[&str], processors: &[&str], exporters: &[&str]) -> Self {
        let pipeline = json!({"receivers": receivers, "processors": processors, "exporters": exporters});
        let service = self.section("service");
        let pipelines = service.entry("pipelines").or_insert_with(|| json!({}));
        pipelines.as_object_mut().unwrap().insert(id.to_owned(), pipeline);
        self
    }

    /// Any key of the config, with dots.
    pub fn set(mut self, path: &str, value: Value) -> Self {
        put(&mut self.config, path, value);
        self
    }

    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Another cache of compiled modules than the run's own.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Makes writing beyond this fail, as on a full disk.
    pub fn file_limit(mut self, bytes: u64) -> Self {
        self.file_limit = Some(bytes);
        self
    }

    /// Leaves the config's extensions alone: for tests of what they are, and of collectors
    /// that cannot answer at their end.
    pub fn without_account(mut self) -> Self {
        self.without_account = true;
        self
    }

    pub fn in_environment(mut self) -> Self {
        self.in_environment = true;
        self
    }

    /// Starts the collector and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Collector {
        Collector::start(self)
    }

    /// Starts a collector that is to refuse; answers with what it said.
    #[track_caller]
    pub fn refused(self) -> String {
        let ended = Collector::spawn(self).wait();
        assert_eq!(ended.code, Some(1), "{}", ended.log);
        ended.log
    }

    /// The config's text: JSON, which is YAML.
    pub fn text(mut self) -> String {
        self.finish();
        self.add_account();
        self.to_text()
    }

    pub(super) fn finish(&mut self) {
        if self.config.pointer("/service/pipelines").is_none() {
            let pipeline = json!({
                "receivers": ["otlp"], "processors": self.processors, "exporters": self.exporters,
            });
            put(&mut self.config, "service.pipelines.traces", pipeline);
        }
    }

    /// Adds the pages of the account, behind all other extensions, where they are not yet.
    pub(super) fn add_account(&mut self) {
        if self.without_account || self.section("extensions").contains_key(ACCOUNT) {
            return;
        }
        self.section("extensions").insert(ACCOUNT.to_owned(), json!({"endpoint": "127.0.0.1:0"}));
        let listed = self.section("service").entry("extensions").or_insert_with(|| json!([]));
        listed.as_array_mut().expect("extensions are a list").push(json!(ACCOUNT));
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string_pretty(&self.config).unwrap()
    }

    fn section(&mut self, name: &str) -> &mut Map<String, Value> {
        let config = self.config.as_object_mut().unwrap();
        config.entry(name).or_insert_with(|| json!({})).as_object_mut().unwrap()
    }
}
