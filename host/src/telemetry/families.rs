//! The table of all families: name, unit, labels and the level from which on each
//! is told, as dashboards for the OpenTelemetry Collector expect them.

use std::sync::Arc;

use super::instrument::{About, Counter, Family, Gather, Gauge, Histogram, Level, Snapshot, UpDown};

pub(super) type Counters = Family<Counter>;

pub(super) struct Families {
    pub accepted: Counters,
    pub refused: Counters,
    pub failed: Counters,
    pub rejected: Counters,
    pub in_flight: Family<Gauge>,
    pub requests: Counters,
    pub sent: Counters,
    pub send_failed: Arc<Counters>,
    pub enqueue_failed: Counters,
    pub partial: Counters,
    pub queue_size: Family<Gauge>,
    pub queue_capacity: Family<Gauge>,
    pub queue_disk_bytes: Family<Gauge>,
    pub queue_damaged: Counters,
    pub in_flight_requests: Family<UpDown>,
    pub batch_size: Family<Histogram>,
    pub batch_bytes: Family<Histogram>,
    pub incoming: Counters,
    pub outgoing: Counters,
    pub duration: Family<Histogram>,
    pub processor_batch_size: Family<Histogram>,
    pub processor_batch_bytes: Family<Histogram>,
    pub size_triggers: Counters,
    pub timeout_triggers: Counters,
    pub cardinality: Family<UpDown>,
    pub limiter_accepted: Counters,
    pub limiter_refused: Counters,
}

const RECEIVER: &[&str] = &["receiver", "transport"];
const EXPORTER: &[&str] = &["exporter"];
const QUEUE: &[&str] = &["exporter", "data_type"];
const PROCESSOR: &[&str] = &["processor", "otel.signal"];

const OF_PROCESSOR: &[&str] = &["processor"];

const SIZES: &[f64] = &[
    10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1e3, 2e3, 3e3, 4e3, 5e3, 6e3, 7e3, 8e3, 9e3, 1e4, 2e4, 3e4,
    5e4, 1e5,
];
const BYTES: &[f64] = &[
    10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1e3, 2e3, 3e3, 4e3, 5e3, 6e3, 7e3, 8e3, 9e3, 1e4, 2e4, 3e4,
    5e4, 1e5, 2e5, 3e5, 4e5, 5e5, 6e5, 7e5, 8e5, 9e5, 1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 7e6, 8e6, 9e6,
];
/// Plugins take microseconds, so there are bounds below OpenTelemetry's usual first of 5 ms.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
    10.0,
];

/// Told from `basic` on.
const fn basic(name: &'static str, unit: &'static str, labels: &'static [&'static str], help: &'static str) -> About {
    About { name, help, unit, labels, level: Level::Basic, bounds: &[] }
}

const fn sizes(level: Level, name: &'static str, unit: &'static str, bounds: &'static [f64]) -> About {
    About { name, help: "Size of the requests that leave the queue", unit, labels: QUEUE, level, bounds }
}

/// The `batch` processor's own.
const fn batches(level: Level, name: &'static str, unit: &'static str, help: &'static str) -> About {
    About { name, help, unit, labels: OF_PROCESSOR, level, bounds: &[] }
}

const DURATION: About = About {
    level: Level::Detailed,
    bounds: SECONDS,
    ..basic("otelcol_processor_internal_duration", "s", PROCESSOR, "Time a batch spends in the processor")
};

impl Families {
    #[rustfmt::skip]
    pub fn new(level: Level) -> Self {
        let requests = &["receiver", "transport", "outcome"];
        let failures = &["exporter", "error.type", "error.permanent"];
        let batch = "otelcol_exporter_queue_batch_send_size";
        let batch_bytes = "otelcol_exporter_queue_batch_send_size_bytes";
        let counters = |name, unit, labels, help| Counters::new(basic(name, unit, labels, help), level);
        let normal = |name, unit, help| batches(Level::Normal, name, unit, help);
        let batch_send_size = About { bounds: SIZES, ..normal("otelcol_processor_batch_batch_send_size", "{unit}", "Spans of the batches that leave") };
        let batch_send_bytes = About { bounds: BYTES, ..batches(Level::Detailed, "otelcol_processor_batch_batch_send_size_bytes", "By", "Bytes of the batches that leave") };
        let gauges = |name, unit, labels, help| Family::<Gauge>::new(basic(name, unit, labels, help), level);
        Self {
            accepted: counters("otelcol_receiver_accepted_spans", "{span}", RECEIVER, "Spans the pipeline answered for"),
            refused: counters("otelcol_receiver_refused_spans", "{span}", RECEIVER, "Spans the pipeline refused"),
            failed: counters("otelcol_receiver_failed_spans", "{span}", RECEIVER, "Spans of malformed requests, as far as they could be told apart"),
            rejected: counters("vespid_receiver_rejected_spans", "{span}", RECEIVER, "Spans with invalid ids, taken out and reported as partial success"),
            in_flight: gauges("vespid_receiver_in_flight_spans", "{span}", RECEIVER, "Spans whose senders are waiting for an answer"),
            requests: counters("otelcol_receiver_requests", "{request}", requests, "Requests by what became of them"),
            sent: counters("otelcol_exporter_sent_spans", "{span}", EXPORTER, "Spans the destination took"),
            send_failed: Arc::new(counters("otelcol_exporter_send_failed_spans", "{span}", failures, "Spans given up on")),
            enqueue_failed: counters("otelcol_exporter_enqueue_failed_spans", "{span}", EXPORTER, "Spans that found the queue full"),
            partial: counters("vespid_exporter_rejected_spans", "{span}", EXPORTER, "Spans the destination refused in a partial success"),
            queue_size: gauges("otelcol_exporter_queue_size", "{batch}", QUEUE, "What waits or is being sent, in units of the queue's sizer"),
            queue_capacity: gauges("otelcol_exporter_queue_capacity", "{batch}", QUEUE, "What the queue holds, in units of its sizer"),
            queue_disk_bytes: gauges("vespid_exporter_queue_disk_bytes", "By", EXPORTER, "What the files of the queue take"),
            queue_damaged: counters("vespid_exporter_queue_damaged_records", "{record}", EXPORTER, "Records of the queue that cannot be read any more"),
            in_flight_requests: Family::new(basic("otelcol_exporter_in_flight_requests", "{request}", QUEUE, "Requests being sent"), level),
            batch_size: Family::new(sizes(Level::Normal, batch, "{unit}", SIZES), level),
            batch_bytes: Family::new(sizes(Level::Detailed, batch_bytes, "By", BYTES), level),
            incoming: counters("otelcol_processor_incoming_items", "{item}", PROCESSOR, "Spans into the processor"),
            outgoing: counters("otelcol_processor_outgoing_items", "{item}", PROCESSOR, "Spans out of the processor"),
            duration: Family::new(DURATION, level),
            processor_batch_size: Family::new(batch_send_size, level),
            processor_batch_bytes: Family::new(batch_send_bytes, level),
            size_triggers: Family::new(normal("otelcol_processor_batch_batch_size_trigger_send", "{time}", "Batches that left because they were large enough"), level),
            timeout_triggers: Family::new(normal("otelcol_processor_batch_timeout_trigger_send", "{time}", "Batches that left because they had waited long enough"), level),
            cardinality: Family::new(normal("otelcol_processor_batch_metadata_cardinality", "{combination}", "Open batches, one for each tenant and combination of metadata"), level),
            limiter_accepted: counters("otelcol_processor_memory_limiter_accepted_spans", "{span}", OF_PROCESSOR, "Spans that there was memory for"),
            limiter_refused: counters("otelcol_processor_memory_limiter_refused_spans", "{span}", OF_PROCESSOR, "Spans refused because of high memory usage"),
        }
    }

    pub fn gather(&self) -> Vec<Snapshot> {
        let all: [&dyn Gather; 27] = [
            &self.accepted,
            &self.refused,
            &self.failed,
            &self.rejected,
            &self.in_flight,
            &self.requests,
            &self.sent,
            &*self.send_failed,
            &self.enqueue_failed,
            &self.partial,
            &self.queue_size,
            &self.queue_capacity,
            &self.queue_disk_bytes,
            &self.queue_damaged,
            &self.in_flight_requests,
            &self.batch_size,
            &self.batch_bytes,
            &self.incoming,
            &self.outgoing,
            &self.duration,
            &self.processor_batch_size,
            &self.processor_batch_bytes,
            &self.size_triggers,
            &self.timeout_triggers,
            &self.cardinality,
            &self.limiter_accepted,
            &self.limiter_refused,
        ];
        all.iter().filter_map(|family| family.gather()).collect()
    }
}
