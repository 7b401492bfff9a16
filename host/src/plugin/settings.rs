//! The settings of a `wasm` processor.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::builtin;
use super::guest::Limits;
use crate::config::{Section, Toggle};

/// What becomes of a batch whose plugin failed on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It goes on as it was before this plugin.
    Pass,
    /// Its spans are dropped, and counted.
    Drop,
    /// Its sender is told to try again later.
    Refuse,
}

impl OnError {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Refuse => "refuse",
        }
    }
}

/// Where a plugin's module is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The path as the user wrote it; relative ones count from the working directory.
    File(PathBuf),
    /// One of those inside the binary, by name.
    Builtin(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Builtin(name) => write!(f, "builtin:{name}"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct PluginSettings {
    pub module: Source,
    /// The SHA-256 that the module's bytes must have.
    pub digest: Option<String>,
    /// What the plugin gets, as JSON.
    pub config: String,
    pub on_error: OnError,
    pub limits: Limits,
    /// Log lines a second that the plugin may write.
    pub log_rate: u32,
}

impl PluginSettings {
    /// The module's file, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.module {
            Source::File(file) => Some(file),
            Source::Builtin(_) => None,
        }
    }
}

const DEADLINE: Duration = Duration::from_millis(100);
const MEMORY: u64 = 64 << 20;
const LOG_RATE: u32 = 10;

/// What is shipped inside the binary stands for the Collector's processors, which
/// take a batch of any size that the receiver takes.
const BUILTIN_DEADLINE: Duration = Duration::from_secs(5);
const BUILTIN_MEMORY: u64 = 512 << 20;

/// What a limit may be at least: less than this no guest can live with.
const LEAST_MEMORY: u64 = 1 << 20;
/// 32-bit linear memory ends here.
const MOST_MEMORY: u64 = 4 << 30;

impl PluginSettings {
    pub fn read(mut section: Section<'_>) -> Self {
        let module = section.text("module");
        if module.is_none() {
            section.problem("has no `module`", "name the plugin's file, such as `module: ./tidy.wasm`");
        }
        let module = source(&section, module.unwrap_or_default());
        let digest = section.text("digest");
        if let Some(text) = &digest
            && !text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_hex))
        {
            let hint = "write `sha256:` and 64 hexadecimal digits, as `sha256sum` prints them";
            section.problem_at("digest", format!("`{text}` is not a digest"), hint);
        }
        let config = section.json("config").unwrap_or_else(|| serde_json::json!({}));
        // A batch that was not redacted must not pass for one that was.
        let usual = if matches!(module, Source::Builtin(_)) { "refuse" } else { "pass" };
        let on_error = match section.choice_or("on_error", &["pass", "drop", "refuse"], usual) {
            "drop" => OnError::Drop,
            "refuse" => OnError::Refuse,
            _ => OnError::Pass,
        };
        let (limits, log_rate) = read_limits(&mut section, standard(&module));
        section.refuse(
            "permissions",
            "permissions cannot be restricted: a plugin may make every edit of its interface",
            "remove it",
        );
        if let Some("shadow") = section.choice("mode", &["enforce", "shadow"]) {
            section.problem_at("mode", "`shadow` is not available", "remove it, or write `enforce`");
        }
        section.finish();
        let digest = digest.map(|text| text.trim_start_matches("sha256:").to_ascii_lowercase());
        Self { module, digest, config: config.to_string(), on_error, limits, log_rate }
    }

    /// A processor of the Collector that a plugin of the same name stands for. Its
    /// keys are for the plugin to read.
    pub fn read_processor(name: &'static str, mut section: Section<'_>) -> Self {
        let config = section.as_json();
        section.finish();
        let module = Source::Builtin(name);
        let (limits, config) = (standard(&module), config.to_string());
        Self { module, digest: None, config, on_error: OnError::Refuse, limits, log_rate: LOG_RATE }
    }
}

fn source(section: &Section<'_>, module: String) -> Source {
    match module.split_once(':').filter(|(scheme, _)| SCHEMES.contains(scheme)) {
        None => Source::File(module.into()),
        Some(("builtin", name)) => match builtin::module(name) {
            Some((name, _)) => Source::Builtin(name),
            None => {
                let known: Vec<_> = builtin::names().map(|name| format!("`builtin:{name}`")).collect();
                let hint = format!("there are {}", known.join(", "));
                section.problem_at("module", format!("there is no plugin `{name}` in this program"), hint);
                Source::File(module.into())
            }
        },
        Some((scheme, _)) => {
            let message = format!("a module cannot be loaded from `{scheme}:`");
            section.problem_at("module", message, "name a file, such as `./tidy.wasm`");
            Source::File(module.into())
        }
    }
}

fn standard(module: &Source) -> Limits {
    match module {
        Source::File(_) => Limits { deadline: DEADLINE, memory: MEMORY as usize },
        Source::Builtin(_) => Limits { deadline: BUILTIN_DEADLINE, memory: BUILTIN_MEMORY as usize },
    }
}

/// What looks like a place and is no path.
const SCHEMES: [&str; 5] = ["builtin", "http", "https", "oci", "file"];

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn read_limits(section: &mut Section<'_>, standard: Limits) -> (Limits, u32) {
    let mut section = match section.toggle("limits") {
        Toggle::On(section) => section,
        Toggle::Off => {
            section.problem_at("limits", "limits cannot be switched off", "raise the one that is in the way");
            return (standard, LOG_RATE);
        }
        Toggle::Absent => return (standard, LOG_RATE),
    };
    let deadline = section.duration_or("deadline", standard.deadline);
    if deadline.is_zero() {
        section.problem_at("deadline", "a plugin needs time to run", "write at least `1ms`");
    }
    let memory = section.size_or("memory", standard.memory as u64);
    if !(LEAST_MEMORY..=MOST_MEMORY).contains(&memory) {
        section.problem_at("memory", format!("{memory} bytes is out of range"), "write `1MiB` to `4GiB`");
    }
    let mut log_rate = LOG_RATE;
    if let Some(text) = section.text("log_rate") {
        match text.strip_suffix("/s").and_then(|number| number.parse().ok()) {
            Some(rate) => log_rate = rate,
            None => section.problem_at(
                "log_rate",
                format!("`{text}` is not a rate"),
                "write lines a second, such as `10/s`",
            ),
        }
    }
    section.finish();
    (Limits { deadline, memory: memory.min(MOST_MEMORY) as usize }, log_rate)
}
