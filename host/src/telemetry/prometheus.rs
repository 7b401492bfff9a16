//! The Prometheus text, version 0.0.4, with the suffixes and labels that a reader asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::instrument::{Kind, Point, Snapshot, Value};
use super::resource::Resource;

/// How one reader wants names and labels (`pull.exporter.prometheus`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposition {
    /// Whether counters lack `_total`.
    pub without_type_suffix: bool,
    /// Whether names lack `_seconds` and `_bytes`.
    pub without_units: bool,
    /// Whether series lack `otel_scope_name` and `otel_scope_version`.
    pub without_scope_info: bool,
    /// Patterns, with `*` and `?`, of the resource's attributes that every series carries.
    pub included: Vec<String>,
    /// Patterns of those that it does not carry all the same.
    pub excluded: Vec<String>,
}

impl Default for Exposition {
    fn default() -> Self {
        Self {
            without_type_suffix: true,
            without_units: true,
            without_scope_info: true,
            included: vec!["*".into()],
            excluded: vec![],
        }
    }
}

/// A family as it is written: series by their labels, so that none comes twice.
struct Lines {
    kind: &'static str,
    help: &'static str,
    series: BTreeSet<String>,
    text: String,
}

impl Exposition {
    pub fn render(&self, snapshots: &[Snapshot], resource: &Resource) -> String {
        let constant = self.constant(resource);
        let mut families: BTreeMap<String, Lines> = BTreeMap::new();
        for snapshot in snapshots {
            let (name, kind) = (self.name(snapshot), kind(snapshot.kind));
            let new = || Lines { kind, help: snapshot.help, series: BTreeSet::new(), text: String::new() };
            let lines = families.entry(name.clone()).or_insert_with(new);
            // A plugin's names may become one; a family has one kind.
            if lines.kind == kind {
                snapshot.points.iter().for_each(|point| lines.write(&name, point, &constant));
            }
        }
        let target = Point { labels: resource.attributes().to_vec(), value: Value::Integer(1) };
        let mut lines =
            Lines { kind: "gauge", help: "Who this collector is", series: BTreeSet::new(), text: String::new() };
        lines.write("target_info", &target, &[]);
        families.insert("target_info".into(), lines);
        let mut out = String::new();
        for (name, lines) in families {
            if !lines.help.is_empty() {
                let help = lines.help.replace('\\', "\\\\").replace('\n', "\\n");
                let _ = writeln!(out, "# HELP {name} {help}");
            }
            let _ = write!(out, "# TYPE {name} {}\n{}", lines.kind, lines.text);
        }
        out
    }

    fn name(&self, snapshot: &Snapshot) -> String {
        let mut name = identifier(&snapshot.name);
        let (before, total) = match name.strip_suffix("_total") {
            Some(before) if !self.without_type_suffix && snapshot.kind == Kind::Counter => (before.to_owned(), true),
            _ => (name.clone(), false),
        };
        if total {
            name = before;
        }
        let unit = match snapshot.unit {
            "s" => "seconds",
            "ms" => "milliseconds",
            "us" => "microseconds",
            "By" => "bytes",
            _ => "",
        };
        if !self.without_units && !unit.is_empty() && !name.ends_with(unit) {
            name = format!("{name}_{unit}");
        }
        if !self.without_type_suffix && snapshot.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }

    /// The labels that every series carries.
    fn constant(&self, resource: &Resource) -> Vec<(String, String)> {
        let any = |patterns: &[String], name: &str| patterns.iter().any(|pattern| matches(pattern, name));
        let chosen = |name: &str| any(&self.included, name) && !any(&self.excluded, name);
        let mut labels: Vec<_> = resource.attributes().iter().filter(|(name, _)| chosen(name)).cloned().collect();
        if !self.without_scope_info {
            labels.push(("otel_scope_name".into(), super::SCOPE.into()));
            labels.push(("otel_scope_version".into(), env!("CARGO_PKG_VERSION").into()));
        }
        labels
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::UpDown => "gauge",
        Kind::Histogram => "histogram",
    }
}

impl Lines {
    fn write(&mut self, name: &str, point: &Point, constant: &[(String, String)]) {
        let mut labels: BTreeMap<String, &str> = BTreeMap::new();
        // The series' own labels come last, and win.
        for (name, value) in constant.iter().chain(&point.labels) {
            labels.insert(identifier(name), value);
        }
        labels.remove("");
        let mut written = String::new();
        for (name, value) in &labels {
            let _ = write!(written, "{name}=\"{}\",", escape(value));
        }
        if !self.series.insert(written.clone()) {
            return;
        }
        let out = &mut self.text;
        let plain = |labels: &str| match labels.trim_end_matches(',') {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        match &point.value {
            Value::Integer(value) => drop(writeln!(out, "{name}{} {value}", plain(&written))),
            Value::Float(value) => drop(writeln!(out, "{name}{} {}", plain(&written), number(*value))),
            Value::Histogram(found) => {
                let mut below = 0_u64;
                let bounds = found.bounds.iter().map(|bound| number(*bound)).chain(["+Inf".to_owned()]);
                for (bound, bucket) in bounds.zip(&found.buckets) {
                    below = below.saturating_add(*bucket);
                    let _ = writeln!(out, "{name}_bucket{{{written}le=\"{bound}\"}} {below}");
                }
                let _ = writeln!(out, "{name}_sum{} {}", plain(&written), number(found.sum));
                let _ = writeln!(out, "{name}_count{} {below}", plain(&written));
            }
        }
    }
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A name as Prometheus takes it; what it does not take becomes `_`.
pub(super) fn identifier(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(fits).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Whether a name fits a pattern, in which `*` stands for any text and `?` for one character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut place) = (0, 0);
    // Where the last `*` stands, and up to where of the name it reaches.
    let mut star = None;
    while let Some(found) = name.get(place) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == found => {
                at += 1;
                place += 1;
            }
            _ => match &mut star {
                Some((star_at, reach)) => {
                    *reach += 1;
                    (at, place) = (*star_at + 1, *reach);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::instrument::Distribution;

    fn snapshot(name: &str, unit: &'static str, kind: Kind, value: Value) -> Snapshot {
        let labels = vec![("otel.signal".to_owned(), "a\"\\\nb".to_owned())];
        Snapshot { name: name.into(), help: "what\\it is\n", unit, kind, points: vec![Point { labels, value }] }
    }

    fn resource() -> Resource {
        let mut resource = Resource::standard();
        resource.set("service.instance.id", "1".into());
        resource.set("service.version", "2".into());
        resource
    }

    #[test]
    fn the_text_is_exact() {
        let found = Distribution { bounds: &[0.5, 10.0], buckets: vec![1, 2, 3], sum: 1.5 };
        let snapshots = [
            snapshot("up", "s", Kind::Counter, Value::Float(0.5)),
            snapshot("sizes", "By", Kind::Histogram, Value::Histogram(found)),
        ];
        let exposition = Exposition { included: vec!["service.na*".into()], ..Exposition::default() };
        let expected = r#"# HELP sizes what\\it is\n
# TYPE sizes histogram
sizes_bucket{otel_signal="a\"\\\nb",service_name="vespid",le="0.5"} 1
sizes_bucket{otel_signal="a\"\\\nb",service_name="vespid",le="10"} 3
sizes_bucket{otel_signal="a\"\\\nb",service_name="vespid",le="+Inf"} 6
sizes_sum{otel_signal="a\"\\\nb",service_name="vespid"} 1.5
sizes_count{otel_signal="a\"\\\nb",service_name="vespid"} 6
# HELP target_info Who this collector is
# TYPE target_info gauge
target_info{service_instance_id="1",service_name="vespid",service_version="2"} 1
# HELP up what\\it is\n
# TYPE up counter
up{otel_signal="a\"\\\nb",service_name="vespid"} 0.5
"#;
        assert_eq!(exposition.render(&snapshots, &resource()), expected);
    }

    #[test]
    fn suffixes_come_once_each() {
        let all = Exposition { without_type_suffix: false, without_units: false, ..Exposition::default() };
        let name = |name, unit, kind| all.name(&snapshot(name, unit, kind, Value::Integer(0)));
        assert_eq!(name("cpu_seconds", "s", Kind::Counter), "cpu_seconds_total");
        assert_eq!(name("uptime", "s", Kind::Counter), "uptime_seconds_total");
        assert_eq!(name("rss", "By", Kind::Gauge), "rss_bytes");
        assert_eq!(name("queue", "{batch}", Kind::Gauge), "queue");
        assert_eq!(name("done_total", "", Kind::Counter), "done_total");
    }

    #[test]
    fn no_series_and_no_family_comes_twice() {
        let one = snapshot("a.b", "", Kind::Counter, Value::Integer(1));
        let again = snapshot("a_b", "", Kind::Counter, Value::Integer(2));
        let other = snapshot("a:b", "", Kind::Gauge, Value::Integer(3));
        let text = Exposition::default().render(&[one, again, other], &resource());
        assert_eq!(text.matches("# TYPE a_b ").count(), 1);
        assert_eq!(text.lines().filter(|line| line.starts_with("a_b{")).count(), 1);
    }

    #[test]
    fn scope_labels_come_where_they_are_asked_for() {
        let with = Exposition { without_scope_info: false, excluded: vec!["*".into()], ..Exposition::default() };
        let text = with.render(&[snapshot("a", "", Kind::Gauge, Value::Integer(1))], &resource());
        assert!(text.contains("otel_scope_name=\"vespid\",otel_scope_version=\""), "{text}");
        assert_eq!(text.matches("service_name").count(), 1, "only in `target_info`: {text}");
    }

    #[test]
    fn patterns_fit_as_a_shells_do() {
        for (pattern, fits) in
            [("*", true), ("service.*", true), ("*.name", true), ("s*e?name", true), ("service", false), ("?", false)]
        {
            assert_eq!(matches(pattern, "service.name"), fits, "{pattern}");
        }
    }
}
