//! What was measured, as a table in Markdown and as JSON.

use serde_json::{Value, json};

use crate::systems::{FORWARDER, Scenario, VESPID};

/// One run of a system in a scenario.
#[derive(Clone)]
pub struct Measurement {
    pub cpu_us_per_span: f64,
    pub spans_per_second: f64,
    /// Of one core.
    pub cpu_percent: f64,
    pub peak_mib: f64,
    /// On the wire to the sink, compressed where it is.
    pub bytes_per_span: f64,
    /// Spans that the sender got no OK for.
    pub failed: u64,
    /// Spans that the sender got an OK for and the sink did not get.
    pub lost: u64,
}

/// A system in a scenario: a measurement for each round, or why there is none.
pub struct Row {
    pub system: String,
    pub scenario: Scenario,
    pub rounds: Vec<Measurement>,
    /// Milliseconds, where the start is timed.
    pub starts: Vec<f64>,
    /// MiB at the first answer, where the start is timed.
    pub peaks: Vec<f64>,
    pub failure: Option<String>,
}

impl Row {
    pub fn new(system: &str, scenario: Scenario) -> Self {
        Self { system: system.to_owned(), scenario, rounds: vec![], starts: vec![], peaks: vec![], failure: None }
    }

    fn spread(&self, of: impl Fn(&Measurement) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(of).collect())
    }
}

/// The middle, the least and the most of some figures.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = match figures.len() {
            0 => return None,
            count if count % 2 == 0 => (figures[middle - 1] + figures[middle]) / 2.0,
            _ => figures[middle],
        };
        Some(Self { median, least: figures[0], most: figures[figures.len() - 1] })
    }

    fn show(self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.least, self.most)
    }

    fn json(self) -> Value {
        json!({"median": self.median, "min": self.least, "max": self.most})
    }
}

/// How many times the other system's CPU time a row takes, round by round.
fn ratio(rows: &[Row], row: &Row, other: &str) -> Option<Spread> {
    // The forwarder has no processors: every scenario at full speed is held against its one.
    let scenario = match row.scenario {
        Scenario::Plugin | Scenario::Chain if other == FORWARDER => Scenario::None,
        Scenario::Attributes | Scenario::Redaction | Scenario::Bundled if other == FORWARDER => Scenario::None,
        Scenario::Waiting | Scenario::Early | Scenario::Persistent if other == FORWARDER => Scenario::None,
        same => same,
    };
    let base = rows.iter().find(|base| base.system == other && base.scenario == scenario)?;
    let pairs = row.rounds.iter().zip(&base.rounds);
    Spread::of(pairs.map(|(one, other)| one.cpu_us_per_span / other.cpu_us_per_span).collect())
}

pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| scenario | system | CPU µs/span | × forwarder | × vespid | spans/s | CPU % | peak MiB | B/span out | failed | lost |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows.iter().filter(|row| !row.scenario.is_start()) {
        text.push_str(&line(rows, row));
    }
    let starts: Vec<&Row> = rows.iter().filter(|row| row.scenario.is_start()).collect();
    if !starts.is_empty() {
        text.push_str("\n| scenario | system | start to first answer, ms | peak MiB |\n|---|---|---|---|\n");
    }
    for row in starts {
        let (time, peak) = (Spread::of(row.starts.clone()), Spread::of(row.peaks.clone()));
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            row.scenario.name(),
            row.system,
            cell(time, 1),
            cell(peak, 1)
        ));
    }
    text.push('\n');
    text.push_str(&failures(rows));
    text
}

fn line(rows: &[Row], row: &Row) -> String {
    let total = |of: fn(&Measurement) -> u64| row.rounds.iter().map(of).sum::<u64>();
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        row.scenario.name(),
        row.system,
        cell(row.spread(|round| round.cpu_us_per_span), 3),
        cell(ratio(rows, row, FORWARDER), 2),
        cell(ratio(rows, row, VESPID), 2),
        middle(row.spread(|round| round.spans_per_second), 0),
        middle(row.spread(|round| round.cpu_percent), 1),
        cell(row.spread(|round| round.peak_mib), 1),
        middle(row.spread(|round| round.bytes_per_span), 0),
        total(|round| round.failed),
        total(|round| round.lost),
    )
}

const NOTHING: &str = "–";

fn cell(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or(NOTHING.to_owned(), |spread| spread.show(digits))
}

fn middle(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or(NOTHING.to_owned(), |spread| format!("{:.digits$}", spread.median))
}

/// Nothing for a row that went well.
fn failures(rows: &[Row]) -> String {
    let failed = rows.iter().filter_map(|row| Some((row, row.failure.as_ref()?)));
    failed.map(|(row, failure)| format!("- {} {}: {failure}\n", row.scenario.name(), row.system)).collect()
}

pub fn json(rows: &[Row], conditions: Value) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let spread = |spread: Option<Spread>| spread.map_or(Value::Null, Spread::json);
            json!({
                "scenario": row.scenario.name(),
                "system": row.system,
                "cpu_us_per_span": spread(row.spread(|round| round.cpu_us_per_span)),
                "ratio_to_forwarder": spread(ratio(rows, row, FORWARDER)),
                "ratio_to_vespid": spread(ratio(rows, row, VESPID)),
                "spans_per_second": spread(row.spread(|round| round.spans_per_second)),
                "cpu_percent": spread(row.spread(|round| round.cpu_percent)),
                "peak_mib": spread(row.spread(|round| round.peak_mib)),
                "bytes_per_span": spread(row.spread(|round| round.bytes_per_span)),
                "failed_spans": row.rounds.iter().map(|round| round.failed).sum::<u64>(),
                "lost_spans": row.rounds.iter().map(|round| round.lost).sum::<u64>(),
                "start_ms": spread(Spread::of(row.starts.clone())),
                "failure": row.failure,
            })
        })
        .collect();
    json!({"conditions": conditions, "rows": rows})
}
