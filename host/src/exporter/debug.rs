//! The `debug` exporter: spans in the log or on standard output, for people.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::component::{BoxFuture, ConsumeError, Exporter, Id, Outcome};
use crate::config::Section;
use crate::telemetry::{ExporterMetrics, reason};
use crate::traces::{Batch, Parcel};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verbosity {
    /// One line for each request.
    Basic,
    /// One line for each span.
    Normal,
    /// All that a span holds.
    Detailed,
}

#[derive(Debug, Clone)]
pub struct DebugSettings {
    verbosity: Verbosity,
    sampling: Sampling,
    /// None is the collector's log.
    outputs: Option<Vec<Output>>,
}

/// How many requests of each second are shown.
#[derive(Debug, Clone, Copy)]
struct Sampling {
    /// The first so many.
    initial: u64,
    /// Of those behind, every so-many-th; 0 is none.
    thereafter: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Stdout,
    Stderr,
}

/// Reads the exporter's section.
pub fn read(mut section: Section<'_>) -> DebugSettings {
    let verbosity = match section.choice_or("verbosity", &["basic", "normal", "detailed"], "basic") {
        "detailed" => Verbosity::Detailed,
        "normal" => Verbosity::Normal,
        _ => Verbosity::Basic,
    };
    section.refuse("loglevel", "was removed from the Collector", "write `verbosity: basic`, `normal` or `detailed`");
    let initial = section.u64_or("sampling_initial", 2);
    let thereafter = section.u64_or("sampling_thereafter", 1);
    let internal = section.boolean_or("use_internal_logger", true);
    let mut outputs = vec![];
    for path in section.texts_or("output_paths", &["stdout"]) {
        match path.as_str() {
            "stdout" => outputs.push(Output::Stdout),
            "stderr" => outputs.push(Output::Stderr),
            _ => section.problem_at(
                "output_paths",
                format!("`{path}` is neither stdout nor stderr"),
                "the `file` exporter writes files",
            ),
        }
    }
    let why = "has no effect: a request is shown at once, before its sender is answered";
    section.ignore_with_warning("sending_queue", why, "remove it");
    section.finish();
    DebugSettings { verbosity, sampling: Sampling { initial, thereafter }, outputs: (!internal).then_some(outputs) }
}

pub struct DebugExporter {
    id: Id,
    settings: DebugSettings,
    metrics: ExporterMetrics,
    sampler: Mutex<Sampler>,
}

impl DebugExporter {
    pub fn new(id: Id, settings: DebugSettings, metrics: ExporterMetrics) -> Self {
        let sampler = Sampler { began: Instant::now(), seen: 0 };
        Self { id, settings, metrics, sampler: Mutex::new(sampler) }
    }

    /// Shows a parcel, and settles for it.
    fn take(&self, mut parcel: Parcel) -> Result<Outcome, ConsumeError> {
        let (clerk, written) = (&self.metrics.clerk, self.write(&parcel));
        match &written {
            Ok(_) => parcel.held.sent(clerk, parcel.spans),
            Err(_) => parcel.held.all_rejected(clerk, reason::PERMANENT_ERROR),
        }
        written
    }

    fn write(&self, parcel: &Parcel) -> Result<Outcome, ConsumeError> {
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shown = sampler.pass(self.settings.sampling, Instant::now());
        drop(sampler);
        if is_shown {
            match &self.settings.outputs {
                None if tracing::enabled!(tracing::Level::INFO) => self.log(parcel)?,
                None => {}
                Some(outputs) => self.print(parcel, outputs)?,
            }
        }
        self.metrics.sent.inc_by(parcel.spans as u64);
        Ok(Outcome::default())
    }

    fn log(&self, parcel: &Parcel) -> Result<(), ConsumeError> {
        let resources = parcel.message.resource_spans();
        tracing::info!(exporter = %self.id, "resource spans" = resources, "spans" = parcel.spans, "Traces");
        if let Some(block) = self.text(parcel)? {
            tracing::info!(exporter = %self.id, block);
        }
        Ok(())
    }

    /// One write, so that the output of two exporters does not mix.
    fn print(&self, parcel: &Parcel, outputs: &[Output]) -> Result<(), ConsumeError> {
        let (id, resources, spans) = (&self.id, parcel.message.resource_spans(), parcel.spans);
        let mut out = format!("Traces\t{{\"otelcol.component.id\": \"{id}\", ");
        out.push_str(&format!("\"resource spans\": {resources}, \"spans\": {spans}}}\n"));
        out.push_str(&self.text(parcel)?.unwrap_or_default());
        for output in outputs {
            let written = match output {
                Output::Stdout => std::io::stdout().lock().write_all(out.as_bytes()),
                Output::Stderr => std::io::stderr().lock().write_all(out.as_bytes()),
            };
            let failed = |error| ConsumeError::permanent(format!("{output:?} cannot be written: {error}"));
            written.map_err(failed)?;
        }
        Ok(())
    }

    /// What is said of the spans, beside how many there are.
    fn text(&self, parcel: &Parcel) -> Result<Option<String>, ConsumeError> {
        if self.settings.verbosity == Verbosity::Basic {
            return Ok(None);
        }
        let mut batch = Batch::of(parcel);
        let index = batch.index().map_err(|error| ConsumeError::permanent(error.to_string()))?;
        let is_detailed = self.settings.verbosity == Verbosity::Detailed;
        Ok(Some(if is_detailed { index.show() } else { index.show_lines() }))
    }
}

impl Exporter for DebugExporter {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        Box::pin(std::future::ready(self.take(parcel)))
    }
}

/// The requests of the current second.
struct Sampler {
    began: Instant,
    seen: u64,
}

impl Sampler {
    fn pass(&mut self, sampling: Sampling, now: Instant) -> bool {
        if now.duration_since(self.began) >= Duration::from_secs(1) {
            (self.began, self.seen) = (now, 0);
        }
        self.seen += 1;
        match self.seen.checked_sub(sampling.initial) {
            None | Some(0) => true,
            Some(behind) => sampling.thereafter > 0 && behind % sampling.thereafter == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_second_the_first_are_shown_and_of_the_rest_every_so_many_th() {
        let start = Instant::now();
        let shown = |initial, thereafter| -> Vec<bool> {
            let mut sampler = Sampler { began: start, seen: 0 };
            let times = [0, 10, 20, 30, 40, 50, 1100, 1200, 1300];
            let pass = |time| sampler.pass(Sampling { initial, thereafter }, start + Duration::from_millis(time));
            times.into_iter().map(pass).collect()
        };
        assert_eq!(shown(2, 1), [true; 9]);
        assert_eq!(shown(2, 2), [true, true, false, true, false, true, true, true, false]);
        assert_eq!(shown(1, 0), [true, false, false, false, false, false, true, false, false]);
        assert_eq!(shown(0, 3), [false, false, true, false, false, true, false, false, true]);
    }
}
