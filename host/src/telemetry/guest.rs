//! A plugin's series: what the host counts of it, and what it counts itself.
//! Names and labels of the latter come from strangers, so there is a bound on
//! how many there may be, and what is no name is not written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::instrument::{Distribution, Kind, Point, Snapshot, Value};
use super::prometheus::identifier;

/// How many series of its own a plugin may have; more are counted as refused.
const SERIES_LIMIT: usize = 1000;
const LABEL_LIMIT: usize = 256;
/// How many different drop reasons are told apart.
const REASON_LIMIT: usize = 100;

/// Upper bounds of a histogram's buckets: OpenTelemetry's default ones.
static BUCKETS: [f64; 15] =
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
    histograms: BTreeMap<(String, Labels), Distribution>,
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
            let empty = || Distribution { bounds: &BUCKETS, buckets: vec![0; BUCKETS.len() + 1], sum: 0.0 };
            let histogram = tables.histograms.entry(key).or_insert_with(empty);
            if let Some(bucket) = histogram.buckets.get_mut(BUCKETS.partition_point(|bound| *bound < value)) {
                *bucket += 1;
            }
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
            .map(|(name, value)| (bounded(&name), value.chars().take(LABEL_LIMIT).collect()))
            .filter(|(name, _)| !is_reserved(name))
            .collect();
        labels.sort();
        labels.dedup_by(|a, b| a.0 == b.0);
        let key = (bounded(name), labels);
        if key.0.is_empty() || (series >= SERIES_LIMIT && !known(&key)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(key)
    }
}

/// Labels that are not a plugin's to set: one that comes twice, or has no name, makes
/// Prometheus refuse the whole page.
fn is_reserved(label: &str) -> bool {
    matches!(label, "" | "processor" | "le") || label.starts_with("__")
}

/// A name as Prometheus takes it, and not too long.
fn bounded(name: &str) -> String {
    identifier(&name.chars().take(LABEL_LIMIT).collect::<String>())
}

/// The families of all plugins.
pub(super) fn gather(guests: &[Arc<GuestMetrics>]) -> Vec<Snapshot> {
    let mut families = Families::default();
    for guest in guests {
        guest.put(&mut families);
    }
    let families = families.0.into_iter();
    families.map(|((name, _), (about, points))| Snapshot { name, points, ..about }).collect()
}

/// Families by name and kind: two plugins may mean different things by one name.
#[derive(Default)]
struct Families(BTreeMap<(String, bool), (Snapshot, Vec<Point>)>);

impl Families {
    fn put(&mut self, name: &str, help: &'static str, unit: &'static str, point: Point) {
        let is_histogram = matches!(point.value, Value::Histogram(_));
        let kind = if is_histogram { Kind::Histogram } else { Kind::Counter };
        let about = || Snapshot { name: String::new(), help, unit, kind, points: vec![] };
        self.0.entry((name.to_owned(), is_histogram)).or_insert_with(|| (about(), vec![])).1.push(point);
    }
}

impl GuestMetrics {
    fn put(&self, families: &mut Families) {
        let labelled = |more: &[(String, String)]| {
            let own = std::iter::once(("processor".to_owned(), self.id.clone()));
            own.chain(more.iter().cloned()).collect::<Labels>()
        };
        let point = |more: &[(String, String)], value| Point { labels: labelled(more), value };
        let count = |counter: &AtomicU64| integer(counter.load(Ordering::Relaxed));
        let seconds = Value::Float(self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9);
        for (name, help, unit, value) in [
            ("vespid_plugin_calls", "Batches a plugin was called with", "{call}", count(&self.calls)),
            ("vespid_plugin_run_seconds", "Time inside a plugin's calls", "s", seconds),
            ("vespid_plugin_instances_started", "Instances of a plugin", "{instance}", count(&self.instances)),
            ("vespid_plugin_instances_recycled", "Instances given up", "{instance}", count(&self.recycled)),
            ("vespid_plugin_metrics_refused", "Values of a plugin's own that do not count", "", count(&self.refused)),
        ] {
            families.put(name, help, unit, point(&[], value));
        }
        let tables = self.tables();
        for (reason, count) in &tables.failures {
            let reason = [("reason".to_owned(), (*reason).to_owned())];
            families.put(
                "vespid_plugin_failures",
                "Batches a plugin failed on",
                "{batch}",
                point(&reason, integer(*count)),
            );
        }
        for (reason, count) in &tables.drops {
            let reason = [("reason".to_owned(), reason.clone())];
            let help = "Spans a plugin, or its `on_error`, dropped";
            families.put("vespid_processor_dropped_spans", help, "{span}", point(&reason, integer(*count)));
        }
        for ((name, labels), value) in &tables.counters {
            families.put(&format!("plugin_{name}"), "", "", point(labels, Value::Float(*value)));
        }
        for ((name, labels), found) in &tables.histograms {
            families.put(&format!("plugin_{name}"), "", "", point(labels, Value::Histogram(found.clone())));
        }
    }
}

fn integer(count: u64) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Exposition, Resource};

    fn render(guest: GuestMetrics) -> String {
        let exposition = Exposition { included: vec![], ..Exposition::default() };
        exposition.render(&gather(&[Arc::new(guest)]), &Resource::standard())
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_counted() {
        let guest = GuestMetrics::new("wasm/x");
        for number in 0..2000 {
            guest.add(&format!("n{number}"), vec![], 1.0);
        }
        guest.add("n1", vec![], 1.0);
        let text = render(guest);
        assert!(text.contains("plugin_n1{processor=\"wasm/x\"} 2\n"));
        assert!(text.contains("vespid_plugin_metrics_refused{processor=\"wasm/x\"} 1000\n"));
    }

    #[test]
    fn hostile_names_and_labels_stay_one_line() {
        let guest = GuestMetrics::new("wasm/x");
        guest.add("a\nb c", vec![("k\"".into(), "v\n\"".into())], 1.0);
        let text = render(guest);
        assert!(text.contains("plugin_a_b_c{k_=\"v\\n\\\"\",processor=\"wasm/x\"} 1"), "{text}");
    }

    #[test]
    fn labels_that_would_spoil_the_page_are_left_out() {
        let guest = GuestMetrics::new("wasm/x");
        let labels = ["", "le", "__name__", "processor", "processor.", "kind"];
        guest.record("size", labels.map(|name| (name.to_owned(), "v".to_owned())).to_vec(), 7.0);
        let expected = "plugin_size_bucket{kind=\"v\",processor=\"wasm/x\",processor_=\"v\",le=\"0\"} 0\n";
        let text = render(guest);
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn one_name_for_a_counter_and_a_histogram_is_one_family() {
        let guest = GuestMetrics::new("wasm/x");
        guest.add("size", vec![], 1.0);
        guest.record("size", vec![], 7.0);
        let text = render(guest);
        assert_eq!(text.matches("# TYPE plugin_size ").count(), 1, "{text}");
        assert!(text.contains("plugin_size{processor=\"wasm/x\"} 1\n") && !text.contains("plugin_size_bucket"));
    }
}
