//! A plugin's series: what the host counts of it, and what it counts itself.
//! Names and labels of the latter come from strangers, so there is a bound on
//! how many there may be, and what is no name is not written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many series of its own a plugin may have; more are counted as refused.
const SERIES_LIMIT: usize = 1000;
const LABEL_LIMIT: usize = 256;
/// How many different drop reasons are told apart.
const REASON_LIMIT: usize = 100;

/// Upper bounds of a histogram's buckets: OpenTelemetry's default ones.
const BUCKETS: [f64; 15] =
    [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0];

pub struct GuestMetrics {
    id: String,
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    instances: AtomicU64,
    recycled: AtomicU64,
    refused: AtomicU64,
    tables: Mutex<Tables>,
}

type Labels = Vec<(String, String)>;

#[derive(Default)]
struct Tables {
    failures: BTreeMap<&'static str, u64>,
    drops: BTreeMap<String, u64>,
    counters: BTreeMap<(String, Labels), f64>,
    histograms: BTreeMap<(String, Labels), Histogram>,
}

#[derive(Default, Clone)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl GuestMetrics {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            calls: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            instances: AtomicU64::new(0),
            recycled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            tables: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of `process` took so long.
    pub fn ran(&self, time: Duration) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn started(&self) {
        self.instances.fetch_add(1, Ordering::Relaxed);
    }

    pub fn recycled(&self) {
        self.recycled.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed(&self, reason: &'static str) {
        *self.tables().failures.entry(reason).or_default() += 1;
    }

    /// Spans that the plugin, or its `on_error`, has dropped.
    pub fn dropped(&self, reason: &str, spans: usize) {
        let mut tables = self.tables();
        let known = tables.drops.len() < REASON_LIMIT || tables.drops.contains_key(reason);
        let reason: String = if known { reason.chars().take(LABEL_LIMIT).collect() } else { "other".into() };
        *tables.drops.entry(reason).or_default() += spans as u64;
    }

    /// The guest's own counter; `amount` is finite and not negative, else it does not count.
    pub fn add(&self, name: &str, labels: Labels, amount: f64) {
        if !amount.is_finite() || amount < 0.0 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut tables = self.tables();
        let series = tables.counters.len() + tables.histograms.len();
        if let Some(key) = self.key(name, labels, series, |key| tables.counters.contains_key(key)) {
            *tables.counters.entry(key).or_default() += amount;
        }
    }

    /// The guest's own histogram.
    pub fn record(&self, name: &str, labels: Labels, value: f64) {
        if value.is_nan() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut tables = self.tables();
        let series = tables.counters.len() + tables.histograms.len();
        if let Some(key) = self.key(name, labels, series, |key| tables.histograms.contains_key(key)) {
            let histogram = tables.histograms.entry(key).or_default();
            for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
                *bucket += u64::from(value <= bound);
            }
            histogram.count += 1;
            histogram.sum += value;
        }
    }

    fn key(
        &self,
        name: &str,
        labels: Labels,
        series: usize,
        known: impl Fn(&(String, Labels)) -> bool,
    ) -> Option<(String, Labels)> {
        let mut labels: Labels = labels
            .into_iter()
            .map(|(name, value)| (identifier(&name), value.chars().take(LABEL_LIMIT).collect()))
            .filter(|(name, _)| name != "processor")
            .collect();
        labels.sort();
        labels.dedup_by(|a, b| a.0 == b.0);
        let key = (identifier(name), labels);
        if key.0.is_empty() || (series >= SERIES_LIMIT && !known(&key)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(key)
    }
}

/// A name as Prometheus takes it; what it does not take becomes `_`.
fn identifier(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().take(LABEL_LIMIT).map(fits).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Appends the series of all plugins, each family's together.
pub(super) fn render(guests: &[Arc<GuestMetrics>], out: &mut String) {
    let mut families: BTreeMap<String, (&str, Vec<String>)> = BTreeMap::new();
    let mut put = |family: &str, kind: &'static str, series: String| {
        families.entry(family.to_owned()).or_insert((kind, vec![])).1.push(series);
    };
    for guest in guests {
        let id = escape(&guest.id);
        let plain = [
            ("vespid_plugin_calls", guest.calls.load(Ordering::Relaxed).to_string()),
            ("vespid_plugin_run_seconds", (guest.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9).to_string()),
            ("vespid_plugin_instances_started", guest.instances.load(Ordering::Relaxed).to_string()),
            ("vespid_plugin_instances_recycled", guest.recycled.load(Ordering::Relaxed).to_string()),
            ("vespid_plugin_metrics_refused", guest.refused.load(Ordering::Relaxed).to_string()),
        ];
        for (name, value) in plain {
            put(name, "counter", format!("{name}{{processor=\"{id}\"}} {value}"));
        }
        let tables = guest.tables();
        for (reason, count) in &tables.failures {
            let name = "vespid_plugin_failures";
            put(name, "counter", format!("{name}{{processor=\"{id}\",reason=\"{reason}\"}} {count}"));
        }
        for (reason, count) in &tables.drops {
            let name = "vespid_processor_dropped_spans";
            put(name, "counter", format!("{name}{{processor=\"{id}\",reason=\"{}\"}} {count}", escape(reason)));
        }
        for ((name, labels), value) in &tables.counters {
            let name = format!("plugin_{name}");
            put(&name, "counter", format!("{name}{} {value}", braces(&id, labels, None)));
        }
        for ((name, labels), histogram) in &tables.histograms {
            let name = format!("plugin_{name}");
            let mut lines = vec![];
            for (bound, count) in BUCKETS.iter().zip(histogram.buckets) {
                lines.push(format!("{name}_bucket{} {count}", braces(&id, labels, Some(&bound.to_string()))));
            }
            lines.push(format!("{name}_bucket{} {}", braces(&id, labels, Some("+Inf")), histogram.count));
            lines.push(format!("{name}_sum{} {}", braces(&id, labels, None), histogram.sum));
            lines.push(format!("{name}_count{} {}", braces(&id, labels, None), histogram.count));
            put(&name, "histogram", lines.join("\n"));
        }
    }
    for (name, (kind, series)) in families {
        let _ = writeln!(out, "# TYPE {name} {kind}\n{}", series.join("\n"));
    }
}

fn braces(id: &str, labels: &Labels, bound: Option<&str>) -> String {
    let mut out = format!("{{processor=\"{id}\"");
    for (name, value) in labels {
        let _ = write!(out, ",{name}=\"{}\"", escape(value));
    }
    if let Some(bound) = bound {
        let _ = write!(out, ",le=\"{bound}\"");
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_names_is_bounded_and_counted() {
        let guest = Arc::new(GuestMetrics::new("wasm/x"));
        for number in 0..2000 {
            guest.add(&format!("n{number}"), vec![], 1.0);
        }
        guest.add("n1", vec![], 1.0);
        let mut text = String::new();
        render(&[Arc::clone(&guest)], &mut text);
        assert!(text.contains("plugin_n1{processor=\"wasm/x\"} 2\n"));
        assert!(text.contains("vespid_plugin_metrics_refused{processor=\"wasm/x\"} 1000\n"));
    }

    #[test]
    fn hostile_names_and_labels_stay_one_line() {
        let guest = Arc::new(GuestMetrics::new("wasm/x"));
        guest.add("a\nb c", vec![("k\"".into(), "v\n\"".into())], 1.0);
        let mut text = String::new();
        render(&[guest], &mut text);
        assert!(text.contains("plugin_a_b_c{processor=\"wasm/x\",k_=\"v\\n\\\"\"} 1"));
    }
}
