//! Counters, gauges and histograms, and families of them. To count is one or a
//! few relaxed atomic operations; a component takes its series once, when it is built.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much is told (`service.telemetry.metrics.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    None,
    Basic,
    #[default]
    Normal,
    Detailed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    Gauge,
    /// A sum that may also fall; Prometheus calls it a gauge.
    UpDown,
    Histogram,
}

/// A family at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Without the suffixes that some readers want.
    pub name: String,
    pub help: &'static str,
    /// As UCUM has it: `s`, `By`, `{span}`.
    pub unit: &'static str,
    pub kind: Kind,
    pub points: Vec<Point>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Under OpenTelemetry's names: `otel.signal`.
    pub labels: Vec<(String, String)>,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Integer(i64),
    Float(f64),
    Histogram(Distribution),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    pub bounds: &'static [f64],
    /// How many values lie in each bucket alone; one more than there are bounds.
    pub buckets: Vec<u64>,
    pub sum: f64,
}

impl Distribution {
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.saturating_add(*bucket))
    }
}

/// What a family is.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub name: &'static str,
    pub help: &'static str,
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    /// From this level on it is told.
    pub level: Level,
    /// A histogram's.
    pub bounds: &'static [f64],
}

pub(super) trait Instrument: Clone {
    const KIND: Kind;
    /// A series at zero. One that is not `told` need not count.
    fn new(about: &About, told: bool) -> Self;
    fn value(&self) -> Value;
}

#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn inc(&self) {
        self.inc_by(1);
    }

    pub fn inc_by(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Instrument for Counter {
    const KIND: Kind = Kind::Counter;

    fn new(_: &About, _: bool) -> Self {
        Self::default()
    }

    fn value(&self) -> Value {
        Value::Integer(i64::try_from(self.get()).unwrap_or(i64::MAX))
    }
}

#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn sub(&self, by: i64) {
        self.0.fetch_sub(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Instrument for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn new(_: &About, _: bool) -> Self {
        Self::default()
    }

    fn value(&self) -> Value {
        Value::Integer(self.get())
    }
}

/// A gauge that OpenTelemetry calls an up-down counter.
#[derive(Debug, Clone)]
pub(super) struct UpDown(pub Gauge);

impl Instrument for UpDown {
    const KIND: Kind = Kind::UpDown;

    fn new(_: &About, _: bool) -> Self {
        Self(Gauge::default())
    }

    fn value(&self) -> Value {
        self.0.value()
    }
}

/// It counts nothing where the level hides it.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Option<Arc<Cells>>);

#[derive(Debug)]
struct Cells {
    bounds: &'static [f64],
    buckets: Vec<AtomicU64>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub fn record(&self, value: f64) {
        let Some(cells) = &self.0 else { return };
        let bucket = cells.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = cells.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        let _ = cells.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Begins to measure, if somebody wants to know.
    pub fn start(&self) -> Stopwatch {
        Stopwatch(self.0.as_ref().map(|_| Instant::now()))
    }

    pub fn stop(&self, watch: &Stopwatch) {
        if let Some(started) = watch.0 {
            self.record_duration(started.elapsed());
        }
    }

    pub fn record_duration(&self, time: Duration) {
        self.record(time.as_secs_f64());
    }
}

/// Runs from [`Histogram::start`] to [`Histogram::stop`].
#[derive(Debug)]
pub struct Stopwatch(Option<Instant>);

impl Instrument for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn new(about: &About, told: bool) -> Self {
        let buckets = || (0..=about.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(told.then(|| Arc::new(Cells { bounds: about.bounds, buckets: buckets(), sum: AtomicU64::new(0) })))
    }

    fn value(&self) -> Value {
        let empty = Distribution { bounds: &[], buckets: vec![0], sum: 0.0 };
        Value::Histogram(self.0.as_ref().map_or(empty, |cells| Distribution {
            bounds: cells.bounds,
            buckets: cells.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            sum: f64::from_bits(cells.sum.load(Ordering::Relaxed)),
        }))
    }
}

/// All series of one name.
pub(super) struct Family<I> {
    about: About,
    told: bool,
    series: Mutex<Vec<(Vec<String>, I)>>,
}

impl<I: Instrument> Family<I> {
    pub fn new(about: About, level: Level) -> Self {
        Self { about, told: about.level <= level, series: Mutex::default() }
    }

    fn series(&self) -> std::sync::MutexGuard<'_, Vec<(Vec<String>, I)>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series of these labels, made now where there is none; in the order of the family's names.
    pub fn with(&self, labels: &[&str]) -> I {
        let mut series = self.series();
        if let Some((_, known)) = series.iter().find(|(values, _)| values.iter().eq(labels)) {
            return known.clone();
        }
        let made = I::new(&self.about, self.told);
        series.push((labels.iter().map(|&label| label.to_owned()).collect(), made.clone()));
        made
    }

    pub fn all(&self) -> Vec<I> {
        self.series().iter().map(|(_, series)| series.clone()).collect()
    }
}

/// A family as those see it who read all of them.
pub(super) trait Gather: Send + Sync {
    /// Nothing where the level hides it, or where nobody has a series of it.
    fn gather(&self) -> Option<Snapshot>;
}

impl<I: Instrument + Send> Gather for Family<I> {
    fn gather(&self) -> Option<Snapshot> {
        let About { name, help, unit, .. } = self.about;
        let series = self.series();
        if !self.told || series.is_empty() {
            return None;
        }
        let labels = |values: &[String]| {
            let names = self.about.labels.iter().map(|name| (*name).to_owned());
            // An empty value is as no label at all.
            names.zip(values.iter().cloned()).filter(|(_, value)| !value.is_empty()).collect()
        };
        let points = series.iter().map(|(values, it)| Point { labels: labels(values), value: it.value() }).collect();
        Some(Snapshot { name: name.to_owned(), help, unit, kind: I::KIND, points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About =
        About { name: "sizes", help: "", unit: "By", labels: &["of"], level: Level::Normal, bounds: &[1.0, 10.0] };

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let family = Family::<Histogram>::new(ABOUT, Level::Detailed);
        let histogram = family.with(&["a"]);
        for value in [0.5, 1.0, 1.5, 10.0, 11.0] {
            histogram.record(value);
        }
        let Value::Histogram(found) = histogram.value() else { panic!("it is a histogram") };
        assert_eq!((found.buckets.as_slice(), found.sum, found.count()), (&[2, 2, 1][..], 24.0, 5));
    }

    #[test]
    fn what_the_level_hides_neither_counts_nor_shows() {
        let family = Family::<Histogram>::new(ABOUT, Level::Basic);
        family.with(&["a"]).record(1.0);
        assert_eq!(family.gather(), None);
        assert!(family.with(&["a"]).start().0.is_none());
    }

    #[test]
    fn the_same_labels_are_the_same_series() {
        let family = Family::<Counter>::new(ABOUT, Level::Normal);
        family.with(&["a"]).inc_by(2);
        family.with(&["b"]).inc();
        family.with(&["a"]).inc();
        let points = family.gather().unwrap().points;
        assert_eq!(points.len(), 2);
        assert_eq!(points[0].value, Value::Integer(3));
        assert_eq!(points[0].labels, [("of".to_owned(), "a".to_owned())]);
    }
}
