//! The collector's own counters, under the names that dashboards for the
//! OpenTelemetry Collector use. `families` has the table of them all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::account::{Clerk, Ledger};
use super::families::{self, Families};
use super::guest::GuestMetrics;
use super::instrument::{Counter, Gauge, Histogram, Kind, Level, Point, Snapshot, Value};
use super::reloads::Reloads;
use super::status::{Status, Statuses};

/// All families; a component takes its own series when it is built.
pub struct Metrics {
    level: Level,
    started: Instant,
    families: Families,
    guests: Mutex<Vec<Arc<GuestMetrics>>>,
    pub statuses: Statuses,
    pub reloads: Reloads,
    /// What became of every span.
    pub ledger: Arc<Ledger>,
}

/// A receiver's series, for one transport.
#[derive(Clone)]
pub struct ReceiverMetrics {
    /// Spans that the pipeline has answered for.
    pub accepted: Counter,
    /// Spans that the pipeline has refused.
    pub refused: Counter,
    /// Spans that did not come as far as the pipeline: those that could be told
    /// apart in requests that are malformed.
    pub failed: Counter,
    /// Spans with ids that no back end takes, answered as partial success.
    pub rejected: Counter,
    /// Spans in the pipelines, their senders waiting.
    pub in_flight: Gauge,
    /// Requests by their outcome: as `accepted`, `refused` and `failed` for spans.
    pub succeeded_requests: Counter,
    pub refused_requests: Counter,
    pub failed_requests: Counter,
    pub clerk: Clerk,
}

/// An exporter's series.
#[derive(Clone)]
pub struct ExporterMetrics {
    /// Spans that the destination has taken.
    pub sent: Counter,
    send_failed: SendFailed,
    /// Spans that found the queue full.
    pub enqueue_failed: Counter,
    /// Spans that the destination has refused within an accepted request.
    pub partial: Counter,
    pub queue_size: Gauge,
    pub queue_capacity: Gauge,
    /// Requests that a consumer of the queue is sending, pauses between tries included.
    pub in_flight: Gauge,
    /// Spans of a request that leaves the queue.
    pub batch_size: Histogram,
    /// Its bytes, before they are compressed.
    pub batch_bytes: Histogram,
    pub status: Status,
    pub clerk: Clerk,
}

/// The series of a queue that answers before the destination does.
#[derive(Clone)]
pub struct QueueMetrics {
    /// In units of the queue's sizer.
    pub size: Gauge,
    pub capacity: Gauge,
    /// Of a queue with a storage.
    pub disk: Option<DiskMetrics>,
}

#[derive(Clone)]
pub struct DiskMetrics {
    /// What the queue's files take.
    pub bytes: Gauge,
    /// Records that cannot be read any more.
    pub damaged: Counter,
}

/// Spans given up on after all retries, or at once where a retry is of no use.
#[derive(Clone)]
enum SendFailed {
    Plain(Counter),
    /// At level `detailed` the reason is told too.
    ByReason {
        id: Arc<str>,
        family: Arc<families::Counters>,
    },
}

/// A processor's series.
#[derive(Clone)]
pub struct ProcessorMetrics {
    pub incoming: Counter,
    pub outgoing: Counter,
    /// Time that a batch spends in the processor, waiting included.
    pub duration: Histogram,
    pub clerk: Clerk,
}

/// The series of a `batch` processor.
#[derive(Clone)]
pub struct BatchMetrics {
    /// Spans of a batch that leaves.
    pub size: Histogram,
    pub bytes: Histogram,
    /// Why batches left: they were large enough, or had waited long enough.
    pub size_triggers: Counter,
    pub timeout_triggers: Counter,
    /// Batches that are open, one for each tenant and combination of metadata.
    pub cardinality: Gauge,
}

/// The series of a `memory_limiter` processor.
#[derive(Clone)]
pub struct LimiterMetrics {
    pub accepted: Counter,
    pub refused: Counter,
}

impl ExporterMetrics {
    /// Spans that are given up on, and why: a gRPC status' name where there is one.
    pub fn send_failed(&self, spans: u64, reason: &str, permanent: bool) {
        match &self.send_failed {
            SendFailed::Plain(counter) => counter.inc_by(spans),
            SendFailed::ByReason { id, family } => {
                family.with(&[id, reason, if permanent { "true" } else { "false" }]).inc_by(spans);
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Level::default())
    }
}

impl Metrics {
    /// All families, empty.
    pub fn new(level: Level) -> Self {
        let families = Families::new(level);
        let (guests, statuses, reloads) = (Mutex::default(), Statuses::default(), Reloads::default());
        Self { level, started: Instant::now(), families, guests, statuses, reloads, ledger: Ledger::new() }
    }

    pub fn receiver(&self, id: &str, transport: &str) -> ReceiverMetrics {
        let (of, labels) = (&self.families, [id, transport]);
        let requests = |outcome| of.requests.with(&[id, transport, outcome]);
        ReceiverMetrics {
            accepted: of.accepted.with(&labels),
            refused: of.refused.with(&labels),
            failed: of.failed.with(&labels),
            rejected: of.rejected.with(&labels),
            in_flight: of.in_flight.with(&labels),
            succeeded_requests: requests("success"),
            refused_requests: requests("refused"),
            failed_requests: requests("failure"),
            clerk: Clerk::receiver(&self.ledger, id),
        }
    }

    pub fn exporter(&self, id: &str) -> ExporterMetrics {
        let (of, typed) = (&self.families, [id, "traces"]);
        let send_failed = if self.level < Level::Detailed {
            SendFailed::Plain(of.send_failed.with(&[id, "", ""]))
        } else {
            SendFailed::ByReason { id: id.into(), family: Arc::clone(&of.send_failed) }
        };
        ExporterMetrics {
            sent: of.sent.with(&[id]),
            send_failed,
            enqueue_failed: of.enqueue_failed.with(&[id]),
            partial: of.partial.with(&[id]),
            queue_size: of.queue_size.with(&typed),
            queue_capacity: of.queue_capacity.with(&typed),
            in_flight: of.in_flight_requests.with(&typed).0,
            batch_size: of.batch_size.with(&typed),
            batch_bytes: of.batch_bytes.with(&typed),
            status: self.statuses.of(&format!("exporter:{id}")),
            clerk: Clerk::exporter(&self.ledger, id),
        }
    }

    pub fn queue(&self, id: &str, is_on_disk: bool) -> QueueMetrics {
        let (of, typed) = (&self.families, [id, "traces"]);
        let disk = || DiskMetrics { bytes: of.queue_disk_bytes.with(&[id]), damaged: of.queue_damaged.with(&[id]) };
        let (size, capacity) = (of.queue_size.with(&typed), of.queue_capacity.with(&typed));
        QueueMetrics { size, capacity, disk: is_on_disk.then(disk) }
    }

    pub fn processor(&self, id: &str) -> ProcessorMetrics {
        let (of, labels) = (&self.families, [id, "traces"]);
        ProcessorMetrics {
            incoming: of.incoming.with(&labels),
            outgoing: of.outgoing.with(&labels),
            duration: of.duration.with(&labels),
            clerk: Clerk::processor(&self.ledger, id),
        }
    }

    pub fn batch(&self, id: &str) -> BatchMetrics {
        let (of, labels) = (&self.families, [id]);
        BatchMetrics {
            size: of.processor_batch_size.with(&labels),
            bytes: of.processor_batch_bytes.with(&labels),
            size_triggers: of.size_triggers.with(&labels),
            timeout_triggers: of.timeout_triggers.with(&labels),
            cardinality: of.cardinality.with(&labels).0,
        }
    }

    pub fn limiter(&self, id: &str) -> LimiterMetrics {
        let of = &self.families;
        LimiterMetrics { accepted: of.limiter_accepted.with(&[id]), refused: of.limiter_refused.with(&[id]) }
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
        self.families.in_flight.all().iter().map(Gauge::get).sum()
    }

    /// How much is told, from the start to the end.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Since when the collector runs.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Everything at this moment that the level lets be told.
    pub fn gather(&self) -> Vec<Snapshot> {
        if self.level == Level::None {
            return vec![];
        }
        let mut found = self.process();
        found.extend(self.reloads.gather());
        found.extend(self.families.gather());
        found.extend(self.ledger.gather());
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        found.extend(super::guest::gather(&guests));
        found
    }

    /// What the system tells of this process.
    fn process(&self) -> Vec<Snapshot> {
        let of = |name: &str, help, unit, kind, value| Snapshot {
            name: name.to_owned(),
            help,
            unit,
            kind,
            points: vec![Point { labels: vec![], value }],
        };
        let uptime = Value::Float(self.started.elapsed().as_secs_f64());
        let mut found =
            vec![of("otelcol_process_uptime", "Seconds since the process started", "s", Kind::Counter, uptime)];
        if let Some((cpu, resident)) = process() {
            let help = "CPU seconds, user and system";
            found.push(of("otelcol_process_cpu_seconds", help, "s", Kind::Counter, Value::Float(cpu)));
            let help = "Resident memory in bytes";
            found.push(of("otelcol_process_memory_rss", help, "By", Kind::Gauge, Value::Integer(resident)));
        }
        if let Some(bytes) = committed() {
            let (name, help) =
                ("otelcol_process_runtime_total_sys_memory_bytes", "Bytes the allocator has of the system");
            found.push(of(name, help, "By", Kind::Gauge, Value::Integer(bytes)));
        }
        found
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

/// What mimalloc holds. It does not count what of it is in use: that would cost
/// each allocation something.
fn committed() -> Option<i64> {
    let mut committed = 0;
    let none = std::ptr::null_mut();
    // SAFETY: it writes through those pointers that are not null, and the one is ours.
    unsafe { libmimalloc_sys::mi_process_info(none, none, none, none, none, &mut committed, none, none) };
    i64::try_from(committed).ok().filter(|bytes| *bytes > 0)
}
