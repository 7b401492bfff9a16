//! What stands before a destination: a bounded queue and retries.
//!
//! The queue holds requests whose senders are waiting: each keeps its place
//! while its future lives, so one whose sender has gone leaves by itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::answer::{Failure, Remedy};
use super::batching::BatchingSettings;
use super::queue::{Limit, QueuedSettings};
use crate::component::{ConsumeError, Id, Outcome, Room};
use crate::config::{Reference, Section, Toggle};
use crate::telemetry::{ExporterMetrics, reason};
use crate::traces::Parcel;

#[derive(Debug, Clone)]
pub struct SendingSettings {
    queue: Option<QueueSettings>,
    /// Batching in front of the queue.
    pub batching: Option<BatchingSettings>,
    retry: Option<RetrySettings>,
    /// Whether RESOURCE_EXHAUSTED is worth a retry where no pause is asked for.
    pub retry_exhausted: bool,
}

#[derive(Debug, Clone)]
struct QueueSettings {
    size: usize,
    consumers: usize,
    sizer: Sizer,
    block_on_overflow: bool,
    answers: Answers,
}

/// When a request in the queue is answered.
#[derive(Debug, Clone)]
enum Answers {
    /// When the destination has it.
    Delivered,
    /// When it is on the disk, in the storage of this name.
    Stored(Reference),
    /// When it is in the queue.
    Early,
}

/// What the queue's size counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizer {
    Requests,
    Items,
    Bytes,
}

#[derive(Debug, Clone)]
struct RetrySettings {
    initial: Duration,
    randomization: f64,
    multiplier: f64,
    max: Duration,
    /// Zero has no end.
    max_elapsed: Duration,
    /// Whether the config says so.
    ends: bool,
}

/// When retries end of which the config does not say it. What is on the disk has been
/// answered for: it waits for its destination as long as that takes.
fn unwritten_end(is_stored: bool) -> Duration {
    if is_stored { Duration::ZERO } else { Duration::from_secs(300) }
}

impl SendingSettings {
    /// Neither queue nor retries: the sender does both.
    pub fn direct() -> Self {
        Self { queue: None, batching: None, retry: None, retry_exhausted: false }
    }

    /// What stands before the exporter where the queue answers by itself, and the
    /// storage that it names.
    pub fn queued(&self) -> Option<(QueuedSettings, Option<&Reference>)> {
        let queue = self.queue.as_ref()?;
        let storage = match &queue.answers {
            Answers::Delivered => return None,
            Answers::Stored(named) => Some(named),
            Answers::Early => None,
        };
        let limit = Limit { sizer: queue.sizer, size: queue.size };
        // Of batches there are as many under way, and one that is being filled.
        let window = match &self.batching {
            Some(batching) => batching.window(queue.consumers),
            None => Limit { sizer: Sizer::Requests, size: queue.consumers },
        };
        Some((QueuedSettings { limit, waits: queue.block_on_overflow, window }, storage))
    }

    pub fn read(section: &mut Section<'_>) -> Self {
        let (mut retry, retry_exhausted) = read_retry(section);
        let (queue, batching) = read_queue(section);
        let is_stored = queue.as_ref().is_some_and(|queue| matches!(queue.answers, Answers::Stored(_)));
        if let Some(retry) = retry.as_mut().filter(|retry| !retry.ends) {
            retry.max_elapsed = unwritten_end(is_stored);
        }
        Self { queue, batching, retry, retry_exhausted }
    }
}

fn read_queue(section: &mut Section<'_>) -> (Option<QueueSettings>, Option<BatchingSettings>) {
    let (block_on_overflow, answers) = (false, Answers::Delivered);
    let standard = QueueSettings { size: 1000, consumers: 10, sizer: Sizer::Requests, block_on_overflow, answers };
    let mut section = match section.toggle("sending_queue") {
        Toggle::Absent => return (Some(standard), None),
        Toggle::Off => return (None, None),
        Toggle::On(section) => section,
    };
    let sizer = match section.choice_or("sizer", &["requests", "items", "bytes"], "requests") {
        "items" => Sizer::Items,
        "bytes" => Sizer::Bytes,
        _ => Sizer::Requests,
    };
    let size = positive(&mut section, "queue_size", standard.size);
    let consumers = positive(&mut section, "num_consumers", standard.consumers);
    let block_on_overflow = section.boolean_or("block_on_overflow", false);
    let answers = read_answers(&mut section);
    let batching = match section.toggle("batch") {
        Toggle::On(batch) => Some(BatchingSettings::read_queue(batch, size, sizer)),
        Toggle::Absent | Toggle::Off => None,
    };
    section.finish();
    (Some(QueueSettings { size, consumers, sizer, block_on_overflow, answers }), batching)
}

fn read_answers(section: &mut Section<'_>) -> Answers {
    let waits = section.boolean("wait_for_result");
    match section.reference("storage") {
        Some(_) if waits == Some(true) => {
            let hint = "remove `wait_for_result`: a sender gets its OK when its spans are on the disk";
            section.problem_at("wait_for_result", "is not supported with `storage`", hint);
            Answers::Delivered
        }
        Some(named) => Answers::Stored(named),
        None if waits == Some(false) => Answers::Early,
        None => Answers::Delivered,
    }
}

fn positive(section: &mut Section<'_>, key: &str, default: usize) -> usize {
    let value = section.usize_or(key, default);
    if value == 0 {
        section.problem_at(key, "must be larger than 0", "");
    }
    value.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize))
}

fn read_retry(section: &mut Section<'_>) -> (Option<RetrySettings>, bool) {
    let standard = RetrySettings {
        initial: Duration::from_secs(5),
        randomization: 0.5,
        multiplier: 1.5,
        max: Duration::from_secs(30),
        max_elapsed: unwritten_end(false),
        ends: false,
    };
    let mut section = match section.toggle("retry_on_failure") {
        Toggle::Absent => return (Some(standard), true),
        Toggle::Off => return (None, true),
        Toggle::On(section) => section,
    };
    let retry_exhausted = section.boolean_or("resource_exhausted", true);
    let initial = section.duration_or("initial_interval", standard.initial);
    let randomization = section.f64_or("randomization_factor", standard.randomization);
    if !(0.0..=1.0).contains(&randomization) {
        section.problem_at("randomization_factor", "must be from 0 to 1", "");
    }
    let multiplier = section.f64_or("multiplier", standard.multiplier);
    if !(multiplier >= 1.0 && multiplier.is_finite()) {
        section.problem_at("multiplier", "must be at least 1", "");
    }
    let max = section.duration_or("max_interval", standard.max);
    let ends = section.has("max_elapsed_time");
    let max_elapsed = section.duration_or("max_elapsed_time", standard.max_elapsed);
    if !max_elapsed.is_zero() && (max_elapsed < initial || max_elapsed < max) {
        let hint = "raise it, or write `0s` for retries without an end";
        section.problem_at("max_elapsed_time", "is less than `initial_interval` or `max_interval`", hint);
    }
    section.finish();
    (Some(RetrySettings { initial, randomization, multiplier, max, max_elapsed, ends }), retry_exhausted)
}

/// Told to everything that waits when the collector shuts down: retries end,
/// and their senders hear that they should try again.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

impl Drain {
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    pub(super) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    pub(super) async fn begun(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|draining| *draining).await.is_err() {
            std::future::pending().await
        }
    }
}

/// How a protocol hands a parcel over.
pub trait Destination: Send + Sync {
    /// A request's body, made once for all attempts.
    fn body(&self, parcel: &Parcel) -> impl Future<Output = Result<Bytes, ConsumeError>> + Send;

    /// One attempt; it counts what the destination took.
    fn attempt(&self, parcel: &Parcel, body: &Bytes) -> impl Future<Output = Result<Outcome, Failure>> + Send;
}

/// The way to one destination.
pub struct Sending {
    id: Id,
    settings: SendingSettings,
    room: Arc<Semaphore>,
    consumers: Semaphore,
    pub metrics: ExporterMetrics,
    drain: Drain,
    /// The largest message that the destination takes, as it said itself.
    limit: AtomicUsize,
    /// Requests come from a queue that has answered for them: it counts what is in it,
    /// and keeps what was not decided.
    is_behind_queue: bool,
}

/// What a destination says of its limit is not believed below this.
const LEAST_LIMIT: usize = 16 << 10;

/// A request in the queue or on its way; it counts itself out, and what was not
/// settled counts as failed, also when its sender goes away first.
struct Place<'a> {
    metrics: &'a ExporterMetrics,
    spans: u64,
    size: i64,
    /// Whether a consumer has it.
    sending: bool,
    /// Why the spans that are left were not sent: a status' name, and whether a
    /// retry is of no use. `None` where somebody keeps them.
    failed: Option<(&'static str, bool)>,
}

impl Place<'_> {
    fn settle(&mut self, spans: usize) {
        self.spans = self.spans.saturating_sub(spans as u64);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.metrics.queue_size.sub(self.size);
        if self.sending {
            self.metrics.in_flight.sub(1);
        }
        if let (1.., Some((reason, is_permanent))) = (self.spans, self.failed) {
            self.metrics.send_failed(self.spans, reason, is_permanent);
        }
    }
}

fn queue_room(queue: &QueueSettings) -> Room {
    let room = Room { at_once: 1, ..Room::default() };
    match queue.sizer {
        Sizer::Requests => Room { at_once: queue.consumers.min(queue.size), ..room },
        Sizer::Items => Room { spans: queue.size, ..room },
        Sizer::Bytes => Room { bytes: queue.size, ..room },
    }
}

impl Sending {
    pub fn new(id: Id, settings: SendingSettings, metrics: ExporterMetrics, drain: Drain) -> Self {
        let is_behind_queue = settings.queued().is_some();
        let (size, consumers) = match &settings.queue {
            Some(queue) => (queue.size, queue.consumers),
            None => (Semaphore::MAX_PERMITS, Semaphore::MAX_PERMITS),
        };
        if settings.queue.is_some() && !is_behind_queue {
            metrics.queue_capacity.set(size as i64);
        }
        let (room, consumers) = (Arc::new(Semaphore::new(size)), Semaphore::new(consumers));
        let limit = AtomicUsize::new(usize::MAX);
        Self { id, settings, room, consumers, metrics, drain, limit, is_behind_queue }
    }

    /// What the queue takes at all. Where it counts what is in a request, parts of one
    /// batch that come together could find each other in their way.
    pub fn room(&self) -> Room {
        let Some(queue) = &self.settings.queue else { return Room::default() };
        if self.is_behind_queue {
            return Room { at_once: queue.consumers, ..Room::default() };
        }
        queue_room(queue)
    }

    /// Takes a place in the queue, then sends, again and again where that is of use.
    pub async fn run(&self, mut parcel: Parcel, to: &impl Destination) -> Result<Outcome, ConsumeError> {
        parcel.held.at(&self.metrics.clerk);
        let sizer = self.settings.queue.as_ref().map_or(Sizer::Requests, |queue| queue.sizer);
        let size = match sizer {
            // The queue counts it.
            _ if self.is_behind_queue => 0,
            Sizer::Requests => 1,
            Sizer::Items => parcel.spans,
            Sizer::Bytes => parcel.message.len(),
        };
        let _room = self.enter(size, &mut parcel).await?;
        self.metrics.queue_size.add(size as i64);
        let (metrics, spans) = (&self.metrics, parcel.spans as u64);
        let failed = (!self.is_behind_queue).then_some(("Canceled", false));
        let mut place = Place { metrics, spans, size: size as i64, sending: false, failed };
        let Ok(_consumer) = self.consumers.acquire().await else {
            return Err(ConsumeError::retryable("the collector is shutting down"));
        };
        place.sending = true;
        self.metrics.in_flight.add(1);
        self.metrics.batch_size.record(parcel.spans as f64);
        self.metrics.batch_bytes.record(parcel.message.len() as f64);
        let sent = self.deliver(parcel, to, &mut place).await;
        if let Err(error) = &sent {
            let is_kept = self.is_behind_queue && error.is_undecided;
            place.failed = (!is_kept).then_some((error.reason(), !error.retryable));
        }
        sent
    }

    /// Sends a parcel, in parts where the destination wants it so. What cannot be
    /// delivered even by itself is given up, and told as rejected beside the rest.
    async fn deliver(
        &self,
        parcel: Parcel,
        to: &impl Destination,
        place: &mut Place<'_>,
    ) -> Result<Outcome, ConsumeError> {
        let (mut waiting, mut outcome) = (vec![parcel], Outcome::default());
        let (mut delivered, mut given_up) = (false, None);
        while let Some(mut parcel) = waiting.pop() {
            let known = self.limit.load(Ordering::Relaxed);
            if parcel.message.len() > known
                && let Some(parts) = cut(&mut parcel, Some(known))
            {
                waiting.extend(parts);
                continue;
            }
            let failure = match self.send(&parcel, to).await {
                Ok(part) => {
                    place.settle(parcel.spans);
                    self.sent(&mut parcel, part.rejected);
                    (outcome, delivered) = (outcome.and(part), true);
                    continue;
                }
                Err(failure) => failure,
            };
            let Remedy::Split(limit) = failure.remedy else {
                // What is refused for good does not take the other parts with it.
                let is_part = delivered || given_up.is_some() || !waiting.is_empty();
                if is_part && !failure.error.retryable && !failure.error.is_undecided {
                    outcome = outcome.and(self.give_up(parcel, &why(&failure.error), &failure.error, place));
                    given_up = Some(failure.error);
                    continue;
                }
                for parcel in waiting.iter_mut().chain([&mut parcel]) {
                    self.failed(parcel, &failure.error);
                }
                return Err(failure.error);
            };
            if let Some(limit) = limit {
                self.limit.store(limit.max(LEAST_LIMIT), Ordering::Relaxed);
            }
            if let Some(parts) = cut(&mut parcel, limit) {
                let (bytes, error) = (parcel.message.len(), &failure.error);
                tracing::info!(exporter = %self.id, bytes, error = %error, "The request is too large and goes in parts.");
                waiting.extend(parts);
                continue;
            }
            let (error, dropped_items) = (&failure.error, parcel.spans);
            tracing::error!(exporter = %self.id, %error, dropped_items, "Exporting failed. Dropping data.");
            outcome = outcome.and(self.give_up(parcel, reason::TOO_LARGE, &failure.error, place));
            given_up = Some(failure.error);
        }
        match given_up {
            Some(error) if !delivered => Err(error),
            _ => Ok(outcome),
        }
    }

    /// A part is given up for good; its sender hears how many spans it had.
    fn give_up(&self, mut part: Parcel, why: &str, error: &ConsumeError, place: &mut Place<'_>) -> Outcome {
        place.settle(part.spans);
        self.metrics.send_failed(part.spans as u64, error.reason(), true);
        self.lost(&mut part, why);
        Outcome::rejected(part.spans, error.message.clone())
    }

    /// The destination has a parcel, but for the spans that it did not take.
    fn sent(&self, parcel: &mut Parcel, rejected: usize) {
        let rejected = rejected.min(parcel.spans);
        parcel.held.sent(&self.metrics.clerk, parcel.spans - rejected);
        parcel.held.rejected(&self.metrics.clerk, reason::PARTIAL_SUCCESS, rejected);
    }

    /// A parcel is given up: for good, or until its sender tries again.
    fn failed(&self, parcel: &mut Parcel, error: &ConsumeError) {
        // What a queue keeps, it accounts for.
        if !self.is_behind_queue {
            self.lost(parcel, &why(error));
        }
    }

    fn lost(&self, parcel: &mut Parcel, why: &str) {
        parcel.held.each_rejected(&self.metrics.clerk, why, &parcel.span_ids());
    }

    async fn enter(
        &self,
        size: usize,
        parcel: &mut Parcel,
    ) -> Result<Option<tokio::sync::SemaphorePermit<'_>>, ConsumeError> {
        let Some(queue) = self.settings.queue.as_ref().filter(|_| !self.is_behind_queue) else { return Ok(None) };
        let spans = parcel.spans;
        if size > queue.size {
            parcel.held.all_rejected(&self.metrics.clerk, reason::TOO_LARGE);
            self.metrics.enqueue_failed.inc_by(spans as u64);
            let message = format!("the request is larger than the queue of exporter `{}`", self.id);
            let error = ConsumeError::permanent(message);
            self.rejected(&error, spans);
            return Err(error);
        }
        // Bounded by the queue's size, which fits.
        let permits = size as u32;
        match self.room.try_acquire_many(permits) {
            Ok(permit) => Ok(Some(permit)),
            Err(_) if queue.block_on_overflow => Ok(self.room.acquire_many(permits).await.ok()),
            Err(_) => {
                self.metrics.enqueue_failed.inc_by(spans as u64);
                parcel.held.all_rejected(&self.metrics.clerk, reason::QUEUE_FULL);
                let error = ConsumeError::retryable("sending queue is full");
                self.rejected(&error, spans);
                Err(error)
            }
        }
    }

    /// What every runbook looks for.
    fn rejected(&self, error: &ConsumeError, spans: usize) {
        let exporter = &self.id;
        if self.is_behind_queue {
            tracing::error!(%exporter, %error, dropped_items = spans, "Exporting failed. Dropping data.");
        } else {
            tracing::error!(%exporter, %error, rejected_items = spans, "Exporting failed. Rejecting data.");
        }
    }

    /// What a failure is that no retry follows: with the senders gone and a queue that
    /// keeps the spans, nothing is given up while the collector shuts down.
    fn given_up(&self, mut failure: Failure, spans: usize) -> Failure {
        if self.is_behind_queue && self.drain.has_begun() {
            failure.error.is_undecided = true;
        } else {
            self.rejected(&failure.error, spans);
        }
        failure
    }

    /// Sends one request, with retries.
    async fn send(&self, parcel: &Parcel, to: &impl Destination) -> Result<Outcome, Failure> {
        let body = to.body(parcel).await?;
        let started = Instant::now();
        let mut interval = self.settings.retry.as_ref().map_or(Duration::ZERO, |retry| retry.initial);
        loop {
            let failure = match to.attempt(parcel, &body).await {
                Ok(outcome) => {
                    self.metrics.status.is_well();
                    return Ok(outcome);
                }
                // A smaller request is the caller's business.
                Err(failure) if matches!(failure.remedy, Remedy::Split(_)) => return Err(failure),
                Err(failure) => failure,
            };
            let error = &failure.error;
            self.metrics.status.ails(&error.message);
            let wait = match &self.settings.retry {
                Some(retry) if error.retryable && (failure.remedy == Remedy::Usual || self.is_behind_queue) => {
                    let spread = 1.0 + retry.randomization * (2.0 * fastrand::f64() - 1.0);
                    let wait = interval.mul_f64(spread).max(error.retry_after.unwrap_or_default());
                    interval = interval.mul_f64(retry.multiplier).min(retry.max);
                    let ends = retry.max_elapsed;
                    (ends.is_zero() || started.elapsed() + wait <= ends).then_some(wait)
                }
                _ => None,
            };
            let Some(wait) = wait else { return Err(self.given_up(failure, parcel.spans)) };
            tracing::info!(
                exporter = %self.id,
                interval = ?wait,
                error = %error,
                "Exporting failed. Will retry the request after interval."
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.drain.begun() => return Err(self.given_up(failure, parcel.spans)),
            }
        }
    }
}

/// Why the account has spans as rejected that were given up with this error.
pub(super) fn why(error: &ConsumeError) -> std::borrow::Cow<'static, str> {
    let why = if error.retryable { reason::RETRIES_EXHAUSTED } else { reason::PERMANENT_ERROR };
    match error.code {
        Some(_) => format!("{why}: {}", error.reason()).into(),
        None => why.into(),
    }
}

/// Cuts a parcel so that each part is within the limit or, where none is known, half
/// of it; the last part first. `None` where there is nothing to cut.
fn cut(parcel: &mut Parcel, limit: Option<usize>) -> Option<Vec<Parcel>> {
    let size = parcel.message.len();
    if parcel.spans < 2 {
        return None;
    }
    let most = limit.filter(|limit| *limit < size).unwrap_or(size / 2);
    let mut parts = parcel.split(usize::MAX, most).ok().flatten()?;
    parts.reverse();
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Problems, parse_for_tests};

    #[test]
    fn what_is_stored_is_tried_without_an_end_unless_the_config_says_one() {
        let end = |text: &str| {
            let (node, problems) = (parse_for_tests(text), Problems::new());
            let mut section = Section::new(&node, "exporters.otlp", &problems);
            SendingSettings::read(&mut section).retry.unwrap().max_elapsed.as_secs()
        };
        assert_eq!(end("retry_on_failure: {initial_interval: 1s}"), 300);
        assert_eq!(end("sending_queue: {wait_for_result: false}"), 300);
        assert_eq!(end("sending_queue: {storage: file_storage}"), 0);
        assert_eq!(end("sending_queue: {storage: file_storage}\nretry_on_failure: {max_interval: 1s}"), 0);
        assert_eq!(end("sending_queue: {storage: file_storage}\nretry_on_failure: {max_elapsed_time: 400s}"), 400);
    }
}
