//! The collector's own counters, under the names that dashboards for the
//! OpenTelemetry Collector use: no `_total`, as its defaults have it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{Encoder as _, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::guest::GuestMetrics;

/// All families; a component takes its own series when it is built.
pub struct Metrics {
    registry: Registry,
    started: Instant,
    uptime: Gauge,
    cpu: Gauge,
    resident: IntGauge,
    accepted: IntCounterVec,
    refused: IntCounterVec,
    rejected: IntCounterVec,
    in_flight: IntGaugeVec,
    sent: IntCounterVec,
    send_failed: IntCounterVec,
    enqueue_failed: IntCounterVec,
    partial: IntCounterVec,
    queue_size: IntGaugeVec,
    queue_capacity: IntGaugeVec,
    incoming: IntCounterVec,
    outgoing: IntCounterVec,
    guests: Mutex<Vec<Arc<GuestMetrics>>>,
}

/// A receiver's series, for one transport.
#[derive(Clone)]
pub struct ReceiverMetrics {
    /// Spans that the pipeline has answered for.
    pub accepted: IntCounter,
    /// Spans that the pipeline has refused.
    pub refused: IntCounter,
    /// Spans with ids that no back end takes, answered as partial success.
    pub rejected: IntCounter,
    /// Spans in the pipelines, their senders waiting.
    pub in_flight: IntGauge,
}

/// An exporter's series.
#[derive(Clone)]
pub struct ExporterMetrics {
    /// Spans that the destination has taken.
    pub sent: IntCounter,
    /// Spans given up on after all retries, or at once where a retry is of no use.
    pub send_failed: IntCounter,
    /// Spans that found the queue full.
    pub enqueue_failed: IntCounter,
    /// Spans that the destination has refused within an accepted request.
    pub partial: IntCounter,
    pub queue_size: IntGauge,
    pub queue_capacity: IntGauge,
}

/// A processor's series.
#[derive(Clone)]
pub struct ProcessorMetrics {
    pub incoming: IntCounter,
    pub outgoing: IntCounter,
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    let family = IntCounterVec::new(Opts::new(name, help), labels)?;
    keep(registry, family)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
    keep(registry, family)
}

fn keep<F: Collector + Clone + 'static>(registry: &Registry, family: F) -> prometheus::Result<F> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

impl Metrics {
    /// All families, empty. It fails only if two have one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let of = &registry;
        let receiver = ["receiver", "transport"];
        let exporter = ["exporter"];
        let processor = ["processor", "otel_signal"];
        Ok(Self {
            uptime: keep(of, Gauge::new("otelcol_process_uptime", "Seconds since the process started")?)?,
            cpu: keep(of, Gauge::new("otelcol_process_cpu_seconds", "CPU seconds, user and system")?)?,
            resident: keep(of, IntGauge::new("otelcol_process_memory_rss", "Resident memory in bytes")?)?,
            accepted: counters(of, "otelcol_receiver_accepted_spans", "Spans the pipeline answered for", &receiver)?,
            refused: counters(of, "otelcol_receiver_refused_spans", "Spans the pipeline refused", &receiver)?,
            rejected: counters(
                of,
                "vespid_receiver_rejected_spans",
                "Spans with invalid ids, taken out and reported as partial success",
                &receiver,
            )?,
            in_flight: gauges(
                of,
                "vespid_receiver_in_flight_spans",
                "Spans whose senders are waiting for an answer",
                &receiver,
            )?,
            sent: counters(of, "otelcol_exporter_sent_spans", "Spans the destination took", &exporter)?,
            send_failed: counters(of, "otelcol_exporter_send_failed_spans", "Spans given up on", &exporter)?,
            enqueue_failed: counters(
                of,
                "otelcol_exporter_enqueue_failed_spans",
                "Spans that found the queue full",
                &exporter,
            )?,
            partial: counters(
                of,
                "vespid_exporter_rejected_spans",
                "Spans the destination refused in a partial success",
                &exporter,
            )?,
            queue_size: gauges(
                of,
                "otelcol_exporter_queue_size",
                "Requests waiting or being sent",
                &["exporter", "data_type"],
            )?,
            queue_capacity: gauges(
                of,
                "otelcol_exporter_queue_capacity",
                "Requests the queue holds",
                &["exporter", "data_type"],
            )?,
            incoming: counters(of, "otelcol_processor_incoming_items", "Spans into the processor", &processor)?,
            outgoing: counters(of, "otelcol_processor_outgoing_items", "Spans out of the processor", &processor)?,
            guests: Mutex::default(),
            started: Instant::now(),
            registry,
        })
    }

    pub fn receiver(&self, id: &str, transport: &str) -> ReceiverMetrics {
        let labels = [id, transport];
        ReceiverMetrics {
            accepted: self.accepted.with_label_values(&labels),
            refused: self.refused.with_label_values(&labels),
            rejected: self.rejected.with_label_values(&labels),
            in_flight: self.in_flight.with_label_values(&labels),
        }
    }

    pub fn exporter(&self, id: &str) -> ExporterMetrics {
        ExporterMetrics {
            sent: self.sent.with_label_values(&[id]),
            send_failed: self.send_failed.with_label_values(&[id]),
            enqueue_failed: self.enqueue_failed.with_label_values(&[id]),
            partial: self.partial.with_label_values(&[id]),
            queue_size: self.queue_size.with_label_values(&[id, "traces"]),
            queue_capacity: self.queue_capacity.with_label_values(&[id, "traces"]),
        }
    }

    pub fn processor(&self, id: &str) -> ProcessorMetrics {
        let labels = [id, "traces"];
        ProcessorMetrics {
            incoming: self.incoming.with_label_values(&labels),
            outgoing: self.outgoing.with_label_values(&labels),
        }
    }

    /// A plugin's series, and room for those that it makes itself.
    pub fn guest(&self, id: &str) -> Arc<GuestMetrics> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = guests.iter().find(|known| known.id() == id) {
            return Arc::clone(known);
        }
        let guest = Arc::new(GuestMetrics::new(id));
        guests.push(Arc::clone(&guest));
        guest
    }

    /// Spans whose senders are waiting, over all receivers.
    pub fn in_flight_spans(&self) -> i64 {
        let families = self.in_flight.collect();
        let series = families.iter().flat_map(|family| family.get_metric());
        series.map(|series| series.get_gauge().get_value() as i64).sum()
    }

    /// The Prometheus text.
    pub fn render(&self) -> String {
        self.uptime.set(self.started.elapsed().as_secs_f64());
        if let Some((cpu, resident)) = process() {
            self.cpu.set(cpu);
            self.resident.set(resident);
        }
        let mut out = vec![];
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        let mut text = String::from_utf8_lossy(&out).into_owned();
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        super::guest::render(&guests, &mut text);
        text
    }
}

/// CPU seconds and resident bytes of this process, where the system tells.
fn process() -> Option<(f64, i64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold blanks; what follows its parenthesis does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i64>().ok());
    let ticks = number(11)? + number(12)?;
    let pages = number(21)?;
    let (per_second, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as i64);
    Some((ticks as f64 / per_second, pages * page))
}
