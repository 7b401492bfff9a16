//! Batching in front of an exporter. A parcel waits in the open batch of its
//! partition until the batch is large or old enough; then all of it leaves as one
//! request, and each sender hears what became of its own spans, no sooner.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::sync::oneshot;

use super::queue::Limit;
use super::sending::{Drain, Sizer};
use crate::component::{BoxFuture, ConsumeError, Exporter, Outcome, Room, Task};
use crate::config::Section;
use crate::telemetry::{BatchMetrics, ExporterMetrics, Held, reason};
use crate::traces::{Context, Parcel, concatenate};

/// When a batch is complete, and what may be in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchingSettings {
    /// A batch waits no longer for more; zero does not wait.
    timeout: Duration,
    /// From this size on it does not wait for more.
    least: usize,
    /// Larger requests are cut.
    most: usize,
    /// What both sizes count: spans or bytes.
    sizer: Sizer,
    /// The sender's headers, in lower case, that keep batches apart.
    keys: Vec<String>,
    /// So many batches may be open at once.
    partitions: usize,
}

/// A batch that more is added to never grows beyond this many bytes: lengths are 32-bit.
const LARGEST: usize = 64 << 20;
/// Batches that an exporter has open at once, where no setting says how many.
const PARTITIONS: usize = 10_000;

const SIZE: usize = 8192;
const TIMEOUT: Duration = Duration::from_millis(200);

impl BatchingSettings {
    /// Reads the keys of the `batch` processor.
    pub fn read_processor(mut section: Section<'_>) -> Self {
        let timeout = section.duration_or("timeout", TIMEOUT);
        let least = section.usize_or("send_batch_size", SIZE);
        let most = section.usize_or("send_batch_max_size", 0);
        if most > 0 && most < least {
            let message = "send_batch_max_size must be greater or equal to send_batch_size";
            section.problem_at("send_batch_max_size", message, "raise it, or write 0 for batches of any size");
        }
        let keys = read_keys(&mut section, "metadata_keys");
        let partitions = match section.usize_or("metadata_cardinality_limit", 1000) {
            0 => usize::MAX,
            limit => limit,
        };
        section.finish();
        Self { timeout, least, most: unless_zero(most), sizer: Sizer::Items, keys, partitions }
    }

    /// Reads `sending_queue.batch`; `queue` is the queue's size in units of its sizer.
    pub(super) fn read_queue(mut section: Section<'_>, queue: usize, queue_sizer: Sizer) -> Self {
        let timeout = section.duration_or("flush_timeout", TIMEOUT);
        if timeout.is_zero() {
            section.problem_at("flush_timeout", "must be larger than 0", "");
        }
        let sizer = match section.choice("sizer", &["items", "bytes"]) {
            Some("bytes") => Sizer::Bytes,
            Some(_) => Sizer::Items,
            None if queue_sizer == Sizer::Bytes => Sizer::Bytes,
            None => Sizer::Items,
        };
        let least = section.usize_or("min_size", SIZE);
        let most = section.usize_or("max_size", 0);
        if most > 0 && most < least {
            section.problem_at("max_size", "must be greater or equal to min_size", "raise it, or lower `min_size`");
        }
        if sizer == queue_sizer && least > queue {
            let message = "`min_size` must be less than or equal to `queue_size`";
            section.problem_at("min_size", message, format!("the queue holds {queue}: raise `queue_size`"));
        }
        let mut keys = vec![];
        if let Some(mut partition) = section.section("partition") {
            keys = read_keys(&mut partition, "metadata_keys");
            partition.finish();
        }
        section.finish();
        Self { timeout, least, most: unless_zero(most), sizer, keys, partitions: PARTITIONS }
    }
}

impl BatchingSettings {
    /// What a queue hands on at once: enough for so many batches, and one to be filled.
    pub(super) fn window(&self, batches: usize) -> Limit {
        Limit { sizer: self.sizer, size: self.least.max(1).saturating_mul(batches.saturating_add(1)) }
    }
}

fn unless_zero(size: usize) -> usize {
    if size == 0 { usize::MAX } else { size }
}

/// Names of headers; the same one in two spellings is one too many.
fn read_keys(section: &mut Section<'_>, key: &str) -> Vec<String> {
    let keys: Vec<_> = section.texts_or(key, &[]).iter().map(|name| name.to_lowercase()).collect();
    let mut seen = HashSet::new();
    if let Some(twice) = keys.iter().find(|name| !seen.insert(*name)) {
        section.problem_at(key, format!("duplicate entry in {key}: \"{twice}\" (case-insensitive)"), "remove one");
    }
    keys
}

type Answer = Result<Outcome, ConsumeError>;

/// Whose spans may share a batch: all that an exporter could tell them apart by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Partition {
    tenant: Option<String>,
    auth: Vec<(String, String)>,
    /// The named headers, in the order of the setting.
    metadata: Vec<(String, String)>,
}

/// A request that waits.
struct Waiting {
    ticket: u64,
    parcel: Parcel,
    sender: oneshot::Sender<Answer>,
}

/// The batch of a partition that still takes requests.
struct Open {
    /// Tells it from others of its partition.
    number: u64,
    requests: Vec<Waiting>,
    spans: usize,
    bytes: usize,
    /// Ends the wait; dropped together with the batch.
    timer: Option<Task>,
}

/// An exporter that gets its parcels in batches.
pub struct Batching(Arc<Shared>);

struct Shared {
    settings: BatchingSettings,
    room: Room,
    inner: Arc<dyn Exporter>,
    metrics: ExporterMetrics,
    /// The series of the `batch` processor, if one asked for this.
    told: Option<BatchMetrics>,
    drain: Drain,
    open: Mutex<HashMap<Partition, Open>>,
    tickets: AtomicU64,
}

impl Batching {
    pub fn new(
        settings: BatchingSettings,
        inner: Arc<dyn Exporter>,
        metrics: ExporterMetrics,
        told: Option<BatchMetrics>,
        drain: Drain,
    ) -> Self {
        let (open, tickets, room) = (Mutex::default(), AtomicU64::new(0), inner.room());
        Self(Arc::new(Shared { settings, room, inner, metrics, told, drain, open, tickets }))
    }

    async fn run(&self, mut parcel: Parcel) -> Answer {
        let shared = &self.0;
        parcel.held.at(&shared.metrics.clerk);
        let partition = shared.partition(&parcel.context);
        let (ticket, answer) = shared.join(&partition, parcel)?;
        let mut place = Place { shared, partition, ticket: Some(ticket) };
        let answer = answer.await;
        place.ticket = None;
        answer.unwrap_or_else(|_| Err(ConsumeError::retryable("the batch of this request was given up").undecided()))
    }
}

impl Exporter for Batching {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Answer> {
        Box::pin(self.run(parcel))
    }
}

/// Takes a request out of its open batch when its sender goes away first.
struct Place<'a> {
    shared: &'a Shared,
    partition: Partition,
    /// None once there is an answer.
    ticket: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.leave(&self.partition, ticket);
        }
    }
}

impl Shared {
    fn batches(&self) -> MutexGuard<'_, HashMap<Partition, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition(&self, context: &Context) -> Partition {
        let mut metadata = vec![];
        for key in &self.settings.keys {
            metadata.extend(context.metadata.iter().filter(|(name, _)| name == key).cloned());
        }
        Partition { tenant: context.tenant.clone(), auth: context.auth.clone(), metadata }
    }

    /// Puts a request into the open batch of its partition, and sends that if it is complete now.
    fn join(
        self: &Arc<Self>,
        partition: &Partition,
        mut parcel: Parcel,
    ) -> Result<(u64, oneshot::Receiver<Answer>), ConsumeError> {
        let (sender, receiver) = oneshot::channel();
        let mut batches = self.batches();
        // Taken inside the lock: the tickets in a batch ascend.
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let overflows = |open: &Open| open.bytes.saturating_add(parcel.message.len()) > LARGEST;
        if batches.get(partition).is_some_and(overflows) {
            self.send_by_size(batches.remove(partition));
        }
        if !batches.contains_key(partition) {
            if batches.len() >= self.settings.partitions {
                self.metrics.enqueue_failed.inc_by(parcel.spans as u64);
                parcel.held.all_rejected(&self.metrics.clerk, reason::TOO_MANY_PARTITIONS);
                return Err(ConsumeError::retryable("too many batcher metadata-value combinations").undecided());
            }
            let open = Open { number: ticket, requests: vec![], spans: 0, bytes: 0, timer: None };
            batches.insert(partition.clone(), open);
            self.count_partitions(1);
        }
        if let Some(open) = batches.get_mut(partition) {
            open.spans += parcel.spans;
            open.bytes += parcel.message.len();
            open.requests.push(Waiting { ticket, parcel, sender });
            if self.is_complete(open) {
                self.send_by_size(batches.remove(partition));
            } else if open.timer.is_none() {
                open.timer = Some(self.timer(partition.clone(), open.number));
            }
        }
        Ok((ticket, receiver))
    }

    fn is_complete(&self, open: &Open) -> bool {
        let size = if self.settings.sizer == Sizer::Bytes { open.bytes } else { open.spans };
        size >= self.settings.least || self.settings.timeout.is_zero()
    }

    fn count_partitions(&self, more: i64) {
        if let Some(told) = &self.told {
            told.cardinality.add(more);
        }
    }

    fn leave(&self, partition: &Partition, ticket: u64) {
        let mut batches = self.batches();
        let Some(open) = batches.get_mut(partition) else { return };
        let Ok(at) = open.requests.binary_search_by_key(&ticket, |waiting| waiting.ticket) else { return };
        let gone = open.requests.remove(at);
        open.spans -= gone.parcel.spans;
        open.bytes -= gone.parcel.message.len();
        self.metrics.send_failed(gone.parcel.spans as u64, "Canceled", false);
        if open.requests.is_empty() {
            batches.remove(partition);
            self.count_partitions(-1);
        }
    }

    /// Sends what is open when it is old enough, or when the collector shuts down.
    fn timer(self: &Arc<Self>, partition: Partition, number: u64) -> Task {
        let shared = Arc::clone(self);
        Task::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(shared.settings.timeout) => {}
                () = shared.drain.begun() => {}
            }
            let mut batches = shared.batches();
            if batches.get(&partition).is_none_or(|open| open.number != number) {
                return;
            }
            let due = batches.remove(&partition);
            drop(batches);
            if let Some(told) = &shared.told {
                told.timeout_triggers.inc();
            }
            shared.send(due);
        })
    }

    fn send_by_size(self: &Arc<Self>, complete: Option<Open>) {
        if let Some(told) = &self.told {
            told.size_triggers.inc();
        }
        self.send(complete);
    }

    /// Sends a batch that takes no more requests. It does so on a task of its own:
    /// the sender that completed it may go away before the others do.
    fn send(self: &Arc<Self>, complete: Option<Open>) {
        let Some(complete) = complete else { return };
        self.count_partitions(-1);
        tokio::spawn(Arc::clone(self).deliver(complete.requests));
    }

    async fn deliver(self: Arc<Self>, requests: Vec<Waiting>) {
        let (parcels, mut senders): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|waiting| (waiting.parcel, waiting.sender)).unzip();
        let sizes: Vec<usize> = parcels.iter().map(|parcel| parcel.spans).collect();
        let parts = tokio::select! {
            biased;
            parts = self.export_parts(parcels) => parts,
            // Nobody is left to hear of it; each will send again.
            _ = join_all(senders.iter_mut().map(|sender| sender.closed())) => return,
        };
        for (sender, answer) in senders.into_iter().zip(answers(&sizes, parts)) {
            // One that has gone meanwhile hears nothing.
            drop(sender.send(answer));
        }
    }

    /// Sends the spans of these requests, merged and cut: how many spans each part
    /// had, in the requests' order, and what became of it.
    async fn export_parts(&self, parcels: Vec<Parcel>) -> Vec<(usize, Answer)> {
        let spans: usize = parcels.iter().map(|parcel| parcel.spans).sum();
        let parts = match self.merge(parcels) {
            Ok(parts) => parts,
            Err(error) => {
                self.metrics.send_failed(spans as u64, error.reason(), true);
                return vec![(spans, Err(error))];
            }
        };
        let sends = parts.into_iter().map(|parcel| {
            let unsent = Unsent { spans: parcel.spans as u64, metrics: &self.metrics };
            Box::pin(self.export_part(parcel, unsent)) as BoxFuture<'_, _>
        });
        let sends: Vec<_> = sends.collect();
        stream::iter(sends).buffered(self.room.at_once.max(1)).collect().await
    }

    async fn export_part(&self, parcel: Parcel, mut unsent: Unsent<'_>) -> (usize, Answer) {
        let spans = parcel.spans;
        if let Some(told) = &self.told {
            told.size.record(spans as f64);
            told.bytes.record(parcel.message.len() as f64);
        }
        // From here on the exporter counts them.
        unsent.spans = 0;
        (spans, self.inner.export(parcel).await)
    }

    fn merge(&self, parcels: Vec<Parcel>) -> Result<Vec<Parcel>, ConsumeError> {
        let Some(first) = parcels.first() else { return Ok(vec![]) };
        let context = self.shared_context(&first.context);
        let spans = parcels.iter().map(|parcel| parcel.spans).sum();
        let message = match parcels.len() {
            1 => first.message.clone(),
            _ => concatenate(parcels.iter().map(|parcel| &parcel.message)),
        };
        // What was merged is needed no more.
        let held = Held::merge(parcels.into_iter().map(|parcel| parcel.held));
        let mut merged = Parcel { message, spans, context, held };
        let (most_spans, most_bytes) = match self.settings.sizer {
            Sizer::Bytes => (self.room.spans, self.room.bytes.min(self.settings.most)),
            _ => (self.room.spans.min(self.settings.most), self.room.bytes),
        };
        if spans <= most_spans && merged.message.len() <= most_bytes {
            return Ok(vec![merged]);
        }
        match merged.split(most_spans, most_bytes) {
            Ok(parts) => Ok(parts.unwrap_or_else(|| vec![merged])),
            Err(error) => {
                merged.held.all_rejected(&self.metrics.clerk, reason::MALFORMED);
                Err(ConsumeError::permanent(error.to_string()))
            }
        }
    }

    /// What the requests of a batch have in common: headers that no setting names are left out.
    fn shared_context(&self, context: &Arc<Context>) -> Arc<Context> {
        let mut shared = Arc::clone(context);
        if context.metadata.iter().any(|(name, _)| !self.settings.keys.contains(name)) {
            Arc::make_mut(&mut shared).metadata.retain(|(name, _)| self.settings.keys.contains(name));
        }
        shared
    }
}

/// A part that was not handed on, and counts as failed if it never is.
struct Unsent<'a> {
    spans: u64,
    metrics: &'a ExporterMetrics,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if self.spans > 0 {
            self.metrics.send_failed(self.spans, "Canceled", false);
        }
    }
}

/// What became of each request, by its spans, from what became of the parts. A
/// request is answered `Ok` if all parts are that hold spans of it. Which spans of a
/// part were rejected nobody says: they count as those of its first requests.
fn answers(sizes: &[usize], parts: Vec<(usize, Answer)>) -> Vec<Answer> {
    let mut parts = parts.into_iter();
    let mut part = parts.next();
    let mut answer = |size: usize| {
        let (mut left, mut whole) = (size, Ok(Outcome::default()));
        while left > 0 {
            let Some((spans, became)) = &mut part else {
                return Err(ConsumeError::retryable("not all spans of the request came to an end"));
            };
            let share = left.min(*spans);
            left -= share;
            *spans -= share;
            let own = match became {
                Ok(outcome) => Ok(own_share(outcome, share)),
                Err(error) => Err(error.clone()),
            };
            whole = both(whole, own);
            if *spans == 0 {
                part = parts.next();
            }
        }
        whole
    };
    sizes.iter().map(|size| answer(*size)).collect()
}

/// What of an outcome is for a request that has so many of its spans. A message
/// without a rejection is for all.
fn own_share(outcome: &mut Outcome, spans: usize) -> Outcome {
    let rejected = outcome.rejected.min(spans);
    if rejected == 0 && outcome.message.is_empty() {
        return Outcome::default();
    }
    if outcome.rejected == 0 {
        return Outcome { rejected: 0, message: outcome.message.clone() };
    }
    outcome.rejected -= rejected;
    let own = Outcome { rejected, message: outcome.message.clone() };
    if outcome.rejected == 0 {
        // It was about the rejected ones, and those are told.
        outcome.message.clear();
    }
    own
}

fn both(one: Answer, other: Answer) -> Answer {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok(one.and(other)),
        // Parts of one request mostly fail alike.
        (Err(one), Err(other)) if one == other => Err(one),
        (Err(one), Err(other)) => Err(one.join(other)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Answer {
        Ok(Outcome::default())
    }

    #[test]
    fn a_request_is_answered_by_the_parts_that_hold_its_spans() {
        let down = || Err(ConsumeError::retryable("down"));
        let found = answers(&[3, 4, 2, 1], vec![(5, fine()), (4, down()), (1, fine())]);
        assert_eq!(found, [fine(), down(), down(), fine()]);
        // One request in many parts.
        assert_eq!(answers(&[6], vec![(2, fine()), (2, fine()), (2, down())]), [down()]);
        assert_eq!(answers(&[6], vec![(2, down()), (2, down()), (2, down())]), [down()]);
        assert!(answers(&[2, 1], vec![(2, fine())])[1].is_err(), "there was no part for the last");
    }

    #[test]
    fn rejected_spans_are_told_once_and_no_request_has_more_of_them_than_spans() {
        let part = |spans, rejected| (spans, Ok(Outcome::rejected(rejected, "late")));
        let told = |rejected| Ok(Outcome::rejected(rejected, "late"));
        assert_eq!(answers(&[2, 3, 1], vec![part(6, 4)]), [told(2), told(2), fine()]);
        assert_eq!(answers(&[2, 3], vec![part(3, 1), part(2, 2)]), [told(1), told(2)]);
        assert_eq!(answers(&[1, 1], vec![part(2, 9)]), [told(1), told(1)], "more than there are");
        assert_eq!(answers(&[1, 1], vec![part(2, 0)]), [told(0), told(0)], "a warning is for all");
    }
}
