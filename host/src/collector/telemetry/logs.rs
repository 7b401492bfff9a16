//! `service.telemetry.logs`.

use tracing::Level;

use crate::config::{Section, Toggle};
use crate::telemetry::{LogOutput, LogSettings, Sampling};

pub(super) fn read(mut section: Section<'_>) -> LogSettings {
    let level = section.text_or("level", "info");
    let level = match level.to_ascii_lowercase().as_str() {
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" => Level::WARN,
        // What zap has above `error` is said at `error` here.
        "error" | "dpanic" | "panic" | "fatal" => Level::ERROR,
        _ => {
            section.problem_at("level", format!("`{level}` is not a log level"), "write debug, info, warn or error");
            Level::INFO
        }
    };
    let json = section.choice_or("encoding", &["console", "json"], "console") == "json";
    let initial_fields = match section.json("initial_fields") {
        None | Some(serde_json::Value::Null) => vec![],
        Some(serde_json::Value::Object(fields)) => fields.into_iter().collect(),
        Some(_) => {
            section.problem_at("initial_fields", "is not a mapping", "write `key: value` lines here");
            vec![]
        }
    };
    let outputs = outputs(&mut section, "output_paths");
    let error_outputs = self::outputs(&mut section, "error_output_paths");
    let sampling = sampling(section.toggle("sampling"));
    // Lines carry neither the place in the source nor stack traces, whatever these say.
    for key in ["development", "disable_caller", "disable_stacktrace"] {
        section.boolean(key);
    }
    section.ignore_with_warning(
        "processors",
        "has no effect: logs go to `output_paths`",
        "let a log agent collect them, as JSON with `encoding: json`",
    );
    section.finish();
    LogSettings { level, json, initial_fields, outputs, error_outputs, sampling }
}

fn outputs(section: &mut Section<'_>, key: &str) -> Vec<LogOutput> {
    let mut outputs = vec![];
    for path in section.texts_or(key, &["stderr"]) {
        outputs.push(match path.as_str() {
            "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            path => match path.split_once("://") {
                None if !path.is_empty() => LogOutput::File(path.into()),
                Some(("file", path)) if path.starts_with('/') => LogOutput::File(path.into()),
                _ => {
                    let hint = "write stderr, stdout or a file's path";
                    section.problem_at(key, format!("`{path}` is no place for logs"), hint);
                    continue;
                }
            },
        });
    }
    outputs
}

fn sampling(toggle: Toggle<'_>) -> Option<Sampling> {
    let standard = Sampling::default();
    let mut section = match toggle {
        Toggle::Absent => return Some(standard),
        Toggle::Off => return None,
        Toggle::On(section) => section,
    };
    let sampling = Sampling {
        tick: section.duration_or("tick", standard.tick),
        initial: section.u64_or("initial", standard.initial),
        thereafter: section.u64_or("thereafter", standard.thereafter),
    };
    section.finish();
    Some(sampling)
}
