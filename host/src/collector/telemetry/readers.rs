//! `service.telemetry.metrics`: who reads the metrics, and how.

use super::push::PushSettings;
use crate::config::Section;
use crate::telemetry::{Exposition, Level};

#[derive(Debug, Clone)]
pub enum Reader {
    Pull(PullSettings),
    Push(Box<PushSettings>),
}

/// A page that a Prometheus reads.
#[derive(Debug, Clone)]
pub struct PullSettings {
    /// `host:port`.
    pub endpoint: String,
    pub exposition: Exposition,
}

impl Default for PullSettings {
    fn default() -> Self {
        Self { endpoint: "localhost:8888".into(), exposition: Exposition::default() }
    }
}

pub(super) fn read(mut section: Section<'_>) -> (Level, Vec<Reader>) {
    let level = match section.choice_or("level", &["none", "basic", "normal", "detailed"], "normal") {
        "none" => Level::None,
        "basic" => Level::Basic,
        "detailed" => Level::Detailed,
        _ => Level::Normal,
    };
    let has_readers = section.has("readers");
    let mut readers = vec![];
    for mut reader in section.sections("readers") {
        let (pull, periodic) = (reader.section("pull"), reader.section("periodic"));
        match (pull, periodic) {
            (Some(pull), None) => readers.extend(read_pull(pull).map(Reader::Pull)),
            (None, Some(periodic)) => {
                readers.extend(PushSettings::read(periodic).map(|push| Reader::Push(Box::new(push))));
            }
            _ => reader.problem("is not one reader", "write `pull: …` or `periodic: …`, each as an item of its own"),
        }
        reader.finish();
    }
    section.ignore_with_warning("address", "has no effect since the Collector's v0.123", "use `readers`");
    section.ignore_with_warning("views", "has no effect", "remove it");
    section.finish();
    if level == Level::None {
        readers.clear();
    } else if !has_readers {
        readers.push(Reader::Pull(PullSettings::default()));
    }
    (level, readers)
}

fn read_pull(mut pull: Section<'_>) -> Option<PullSettings> {
    let mut exporter = pull.section_or_default("exporter");
    let prometheus = exporter.section("prometheus");
    if prometheus.is_none() {
        exporter.problem("names no exporter", "write `prometheus: {host: localhost, port: 8888}`");
    }
    exporter.finish();
    pull.finish();
    prometheus.map(prometheus_settings)
}

fn prometheus_settings(mut section: Section<'_>) -> PullSettings {
    let host = section.text_or("host", "localhost");
    let port = section.u64_or("port", 8888);
    if port > 65535 {
        section.problem_at("port", format!("`{port}` is not a port"), "");
    }
    let standard = Exposition::default();
    let mut exposition = Exposition {
        without_type_suffix: section.boolean_or("without_type_suffix", true),
        without_units: section.boolean_or("without_units", true),
        without_scope_info: section.boolean_or("without_scope_info", true),
        ..standard.clone()
    };
    if let Some(mut labels) = section.section("with_resource_constant_labels") {
        // None named is all.
        exposition.included =
            labels.texts("included").filter(|patterns| !patterns.is_empty()).unwrap_or(standard.included);
        exposition.excluded = labels.texts_or("excluded", &[]);
        labels.finish();
    }
    section.finish();
    let endpoint = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    PullSettings { endpoint, exposition }
}
