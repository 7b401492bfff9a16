//! Logs, in the shape that pipelines for the OpenTelemetry Collector's logs parse:
//! JSON lines with `level`, `ts` and `msg`, or the same parts with tabs between them.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::BuildHasher as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Layered;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

/// How the log is written (`service.telemetry.logs`).
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    pub level: Level,
    pub json: bool,
    /// Fields that every line carries.
    pub initial_fields: Vec<(String, serde_json::Value)>,
    pub outputs: Vec<LogOutput>,
    /// Where it is said that an output cannot be written.
    pub error_outputs: Vec<LogOutput>,
    pub sampling: Option<Sampling>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    Stderr,
    Stdout,
    /// It is appended to.
    File(PathBuf),
}

/// Of lines with one level and message: the first few of each tick, then every so manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    pub tick: Duration,
    pub initial: u64,
    /// None at all where it is zero.
    pub thereafter: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { tick: Duration::from_secs(10), initial: 10, thereafter: 100 }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: Level::INFO,
            json: false,
            initial_fields: vec![],
            outputs: vec![LogOutput::Stderr],
            error_outputs: vec![LogOutput::Stderr],
            sampling: Some(Sampling::default()),
        }
    }
}

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("service.telemetry.logs: `{}` cannot be opened", path.display())]
pub struct LogError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// A log whose outputs are open, to be written from `start` on.
pub struct Logging {
    targets: Targets,
    logger: Logger,
}

/// How what logs now can be exchanged.
struct Handles {
    targets: reload::Handle<Targets, Registry>,
    logger: reload::Handle<Logger, Layered<reload::Layer<Targets, Registry>, Registry>>,
}

static HANDLES: OnceLock<Handles> = OnceLock::new();

impl Logging {
    /// Opens the outputs.
    pub fn open(settings: &LogSettings) -> Result<Self, LogError> {
        // What the libraries log is for those who debug them.
        let quiet = settings.level.min(Level::WARN);
        let targets = Targets::new().with_default(LevelFilter::from_level(quiet)).with_target("vespid", settings.level);
        Ok(Self { targets, logger: Logger::new(settings)? })
    }

    /// Logs so from now on.
    pub fn start(self) {
        let Self { targets, logger } = self;
        if let Some(handles) = HANDLES.get() {
            // They fail only where the subscriber is gone, and it never goes.
            let _ = handles.logger.reload(logger);
            let _ = handles.targets.reload(targets);
            return;
        }
        let (targets, targets_handle) = reload::Layer::new(targets);
        let (logger, logger_handle) = reload::Layer::new(logger);
        if tracing_subscriber::registry().with(targets).with(logger).try_init().is_ok() {
            let _ = HANDLES.set(Handles { targets: targets_handle, logger: logger_handle });
        }
    }
}

/// Begins to log.
pub fn start_logging(settings: &LogSettings) -> Result<(), LogError> {
    Logging::open(settings).map(Logging::start)
}

struct Logger {
    json: bool,
    /// As they stand in a line, each with a comma before it.
    initial_fields: String,
    outputs: Mutex<Outputs>,
    sampler: Option<Sampler>,
}

struct Outputs {
    usual: Vec<Output>,
    errors: Vec<Output>,
}

enum Output {
    Stderr,
    Stdout,
    File(std::fs::File),
}

impl Output {
    fn open(wanted: &[LogOutput]) -> Result<Vec<Self>, LogError> {
        let open = |path: &PathBuf| {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            file.map(Self::File).map_err(|source| LogError { path: path.clone(), source })
        };
        let outputs = wanted.iter().map(|output| match output {
            LogOutput::Stderr => Ok(Self::Stderr),
            LogOutput::Stdout => Ok(Self::Stdout),
            LogOutput::File(path) => open(path),
        });
        outputs.collect()
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Stderr => std::io::stderr().lock().write_all(line),
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(line).and_then(|()| out.flush())
            }
            Self::File(file) => file.write_all(line),
        }
    }
}

impl Logger {
    fn new(settings: &LogSettings) -> Result<Self, LogError> {
        let outputs =
            Outputs { usual: Output::open(&settings.outputs)?, errors: Output::open(&settings.error_outputs)? };
        let mut fields = Fields::new(settings.json);
        for (name, value) in &settings.initial_fields {
            fields.put(name, &value.to_string());
        }
        let sampler = settings.sampling.map(Sampler::new);
        Ok(Self { json: settings.json, initial_fields: fields.text, outputs: Mutex::new(outputs), sampler })
    }

    fn line(&self, level: &str, now: SystemTime, fields: &Fields) -> String {
        let time = humantime::format_rfc3339_millis(now);
        let all = || [self.initial_fields.as_str(), fields.text.as_str()].concat();
        if self.json {
            let message = quoted(&fields.message);
            return format!("{{\"level\":\"{level}\",\"ts\":\"{time}\",\"msg\":{message}{}}}\n", all());
        }
        let mut line = format!("{time}\t{level}\t");
        // One line for one event, whatever a plugin or a destination has said; but
        // for a block of lines, in which nothing else is a control character.
        for c in fields.message.chars() {
            if c.is_control() && !(fields.is_block && matches!(c, '\n' | '\t')) {
                line.extend(c.escape_default())
            } else {
                line.push(c)
            }
        }
        let all = all();
        if let Some(fields) = all.strip_prefix(", ") {
            let _ = write!(line, "\t{{{fields}}}");
        }
        line.push('\n');
        line
    }
}

impl<S: Subscriber> Layer<S> for Logger {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new(self.json);
        event.record(&mut fields);
        let level = *event.metadata().level();
        if self.sampler.as_ref().is_some_and(|sampler| !sampler.pass(level, &fields.message, Instant::now())) {
            return;
        }
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let line = self.line(level, SystemTime::now(), &fields);
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let Outputs { usual, errors } = &mut *outputs;
        for output in usual {
            if let Err(error) = output.write(line.as_bytes()) {
                let text = format!("{} write error: {error}\n", humantime::format_rfc3339_millis(SystemTime::now()));
                for output in errors.iter_mut() {
                    let _ = output.write(text.as_bytes());
                }
            }
        }
    }
}

/// The fields of one event, as they stand in a line.
struct Fields {
    json: bool,
    message: String,
    has_message: bool,
    /// Whether the message has lines of its own.
    is_block: bool,
    text: String,
}

impl Fields {
    fn new(json: bool) -> Self {
        Self { json, message: String::new(), has_message: false, is_block: false, text: String::new() }
    }

    /// A field and its value as JSON. People read the console: blanks stand between its parts.
    fn put(&mut self, name: &str, json: &str) {
        let (comma, colon) = if self.json { (",", ":") } else { (", ", ": ") };
        let _ = write!(self.text, "{comma}{}{colon}{json}", quoted(name));
    }

    fn put_text(&mut self, name: &str, value: &str) {
        match name {
            "message" | "block" if !self.has_message => {
                self.message = value.to_owned();
                self.has_message = true;
                self.is_block = name == "block";
            }
            // A component names itself by its kind, and is told as the Collector does.
            "receiver" | "processor" | "exporter" => {
                self.put("otelcol.component.id", &quoted(value));
                self.put("otelcol.component.kind", &quoted(name));
                self.put("otelcol.signal", "\"traces\"");
            }
            "extension" => {
                self.put("otelcol.component.id", &quoted(value));
                self.put("otelcol.component.kind", "\"extension\"");
            }
            "pipeline" => self.put("otelcol.pipeline.id", &quoted(value)),
            _ => self.put(name, &quoted(value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put_text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), if value { "true" } else { "false" });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities.
        self.put(field.name(), &serde_json::Value::from(value).to_string());
    }
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Lines are told apart by the hash of level and message, in so many places.
const SAMPLER_PLACES: u64 = 4096;

struct Sampler {
    sampling: Sampling,
    hasher: RandomState,
    places: Mutex<Vec<Tick>>,
}

#[derive(Clone, Copy)]
struct Tick {
    began: Option<Instant>,
    seen: u64,
}

impl Sampler {
    fn new(sampling: Sampling) -> Self {
        let places = vec![Tick { began: None, seen: 0 }; SAMPLER_PLACES as usize];
        Self { sampling, hasher: RandomState::new(), places: Mutex::new(places) }
    }

    fn pass(&self, level: Level, message: &str, now: Instant) -> bool {
        let place = self.hasher.hash_one((level, message)) % SAMPLER_PLACES;
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tick) = places.get_mut(place as usize) else { return true };
        let Sampling { tick: length, initial, thereafter } = self.sampling;
        if tick.began.is_none_or(|began| now.duration_since(began) >= length) {
            *tick = Tick { began: Some(now), seen: 0 };
        }
        tick.seen += 1;
        tick.seen <= initial || (thereafter > 0 && (tick.seen - initial).is_multiple_of(thereafter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: bool) -> String {
        let initial_fields = vec![("team".to_owned(), serde_json::json!("blue"))];
        let logger = Logger::new(&LogSettings { json, initial_fields, ..LogSettings::default() }).unwrap();
        let mut fields = Fields::new(json);
        fields.put_text("message", "it\n\"broke\"");
        fields.put_text("exporter", "otlp/tempo");
        fields.put_text("message", "said");
        fields.put("spans", "3");
        logger.line("warn", SystemTime::UNIX_EPOCH, &fields)
    }

    #[test]
    fn the_console_has_the_collectors_tabs() {
        let expected = "1970-01-01T00:00:00.000Z\twarn\tit\\n\"broke\"\t{\"team\": \"blue\", \
                        \"otelcol.component.id\": \"otlp/tempo\", \"otelcol.component.kind\": \"exporter\", \
                        \"otelcol.signal\": \"traces\", \"message\": \"said\", \"spans\": 3}\n";
        assert_eq!(line(false), expected);
    }

    #[test]
    fn json_has_the_collectors_keys() {
        let expected = r#"{"level":"warn","ts":"1970-01-01T00:00:00.000Z","msg":"it\n\"broke\"","team":"blue","#;
        let found = line(true);
        assert!(found.starts_with(expected), "{found}");
        let parsed: serde_json::Value = serde_json::from_str(&found).unwrap();
        assert_eq!((&parsed["otelcol.component.kind"], &parsed["spans"]), (&"exporter".into(), &3.into()));
    }

    #[test]
    fn a_repeated_line_is_thinned_in_each_tick() {
        let sampler = Sampler::new(Sampling { tick: Duration::from_secs(1), initial: 2, thereafter: 3 });
        let now = Instant::now();
        let pass = |at| sampler.pass(Level::INFO, "again", at);
        let first: Vec<bool> = (0..8).map(|_| pass(now)).collect();
        assert_eq!(first, [true, true, false, false, true, false, false, true]);
        assert!(pass(now + Duration::from_secs(1)), "a new tick begins anew");
        assert!(sampler.pass(Level::WARN, "again", now), "another level is another line");
    }
}
