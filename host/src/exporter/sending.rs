//! What stands before a destination: a bounded queue and retries.
//!
//! The queue holds requests whose senders are waiting: each keeps its place
//! while its future lives, so one whose sender has gone leaves by itself.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::component::{ConsumeError, Id, Outcome};
use crate::config::{Section, Toggle};
use crate::telemetry::ExporterMetrics;
use crate::traces::Parcel;

#[derive(Debug, Clone)]
pub struct SendingSettings {
    queue: Option<QueueSettings>,
    retry: Option<RetrySettings>,
}

#[derive(Debug, Clone)]
struct QueueSettings {
    size: usize,
    consumers: usize,
    sizer: Sizer,
    block_on_overflow: bool,
}

/// What the queue's size counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizer {
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
}

impl SendingSettings {
    pub fn read(section: &mut Section<'_>) -> Self {
        Self { queue: read_queue(section), retry: read_retry(section) }
    }
}

fn read_queue(section: &mut Section<'_>) -> Option<QueueSettings> {
    let standard = QueueSettings { size: 1000, consumers: 10, sizer: Sizer::Requests, block_on_overflow: false };
    let mut section = match section.toggle("sending_queue") {
        Toggle::Absent => return Some(standard),
        Toggle::Off => return None,
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
    if section.boolean("wait_for_result") == Some(false) {
        section.problem_at(
            "wait_for_result",
            "an answer before the destination's would promise what a crash can break",
            "remove it: a sender gets its OK when the destination has the spans",
        );
    }
    section.refuse(
        "storage",
        "the queue cannot be kept on disk",
        "remove it: senders wait for the destination instead",
    );
    section.refuse("batch", "requests are not batched", "remove it");
    section.finish();
    Some(QueueSettings { size, consumers, sizer, block_on_overflow })
}

fn positive(section: &mut Section<'_>, key: &str, default: usize) -> usize {
    let value = section.usize_or(key, default);
    if value == 0 {
        section.problem_at(key, "must be larger than 0", "");
    }
    value.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize))
}

fn read_retry(section: &mut Section<'_>) -> Option<RetrySettings> {
    let standard = RetrySettings {
        initial: Duration::from_secs(5),
        randomization: 0.5,
        multiplier: 1.5,
        max: Duration::from_secs(30),
        max_elapsed: Duration::from_secs(300),
    };
    let mut section = match section.toggle("retry_on_failure") {
        Toggle::Absent => return Some(standard),
        Toggle::Off => return None,
        Toggle::On(section) => section,
    };
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
    let max_elapsed = section.duration_or("max_elapsed_time", standard.max_elapsed);
    section.finish();
    Some(RetrySettings { initial, randomization, multiplier, max, max_elapsed })
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

    async fn begun(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|draining| *draining).await.is_err() {
            std::future::pending().await
        }
    }
}

/// The way to one destination.
pub struct Sending {
    id: Id,
    settings: SendingSettings,
    room: Arc<Semaphore>,
    consumers: Semaphore,
    pub metrics: ExporterMetrics,
    drain: Drain,
}

/// A request in the queue or on its way; it counts itself out, and counts as
/// failed when its sender goes away first.
struct Place<'a> {
    metrics: &'a ExporterMetrics,
    spans: u64,
    size: i64,
    /// Whether a consumer has it.
    sending: bool,
    end: End,
}

enum End {
    Sent,
    /// A status' name, and whether a retry is of no use.
    Failed(&'static str, bool),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.metrics.queue_size.sub(self.size);
        if self.sending {
            self.metrics.in_flight.sub(1);
        }
        if let End::Failed(reason, permanent) = self.end {
            self.metrics.send_failed(self.spans, reason, permanent);
        }
    }
}

impl Sending {
    pub fn new(id: Id, settings: SendingSettings, metrics: ExporterMetrics, drain: Drain) -> Self {
        let (size, consumers) = match &settings.queue {
            Some(queue) => (queue.size, queue.consumers),
            None => (Semaphore::MAX_PERMITS, Semaphore::MAX_PERMITS),
        };
        if settings.queue.is_some() {
            metrics.queue_capacity.set(size as i64);
        }
        let (room, consumers) = (Arc::new(Semaphore::new(size)), Semaphore::new(consumers));
        Self { id, settings, room, consumers, metrics, drain }
    }

    /// Takes a place in the queue, then sends, again and again where that is of
    /// use; `send` counts what the destination took.
    pub async fn run<F>(&self, parcel: &Parcel, send: impl Fn() -> F) -> Result<Outcome, ConsumeError>
    where
        F: Future<Output = Result<Outcome, ConsumeError>>,
    {
        let sizer = self.settings.queue.as_ref().map_or(Sizer::Requests, |queue| queue.sizer);
        let size = match sizer {
            Sizer::Requests => 1,
            Sizer::Items => parcel.spans,
            Sizer::Bytes => parcel.message.len(),
        };
        let _room = self.enter(size, parcel.spans).await?;
        let spans = parcel.spans as u64;
        self.metrics.queue_size.add(size as i64);
        let end = End::Failed("Canceled", false);
        let mut place = Place { metrics: &self.metrics, spans, size: size as i64, sending: false, end };
        let Ok(_consumer) = self.consumers.acquire().await else {
            return Err(ConsumeError::retryable("the collector is shutting down"));
        };
        place.sending = true;
        self.metrics.in_flight.add(1);
        self.metrics.batch_size.record(parcel.spans as f64);
        self.metrics.batch_bytes.record(parcel.message.len() as f64);
        let sent = self.send(spans, send).await;
        place.end = match &sent {
            Ok(_) => End::Sent,
            Err(error) => End::Failed(error.reason(), !error.retryable),
        };
        sent
    }

    async fn enter(&self, size: usize, spans: usize) -> Result<Option<tokio::sync::SemaphorePermit<'_>>, ConsumeError> {
        let Some(queue) = &self.settings.queue else { return Ok(None) };
        if size > queue.size {
            self.metrics.enqueue_failed.inc_by(spans as u64);
            let message = format!("the request is larger than the queue of exporter `{}`", self.id);
            let error = ConsumeError::permanent(message);
            self.rejected(&error, spans as u64);
            return Err(error);
        }
        // Bounded by the queue's size, which fits.
        let permits = size as u32;
        match self.room.try_acquire_many(permits) {
            Ok(permit) => Ok(Some(permit)),
            Err(_) if queue.block_on_overflow => Ok(self.room.acquire_many(permits).await.ok()),
            Err(_) => {
                self.metrics.enqueue_failed.inc_by(spans as u64);
                let error = ConsumeError::retryable("sending queue is full");
                self.rejected(&error, spans as u64);
                Err(error)
            }
        }
    }

    /// What every runbook looks for.
    fn rejected(&self, error: &ConsumeError, spans: u64) {
        let (exporter, rejected_items) = (&self.id, spans);
        tracing::error!(%exporter, %error, rejected_items, "Exporting failed. Rejecting data.");
    }

    async fn send<F>(&self, spans: u64, send: impl Fn() -> F) -> Result<Outcome, ConsumeError>
    where
        F: Future<Output = Result<Outcome, ConsumeError>>,
    {
        let started = Instant::now();
        let mut interval = self.settings.retry.as_ref().map_or(Duration::ZERO, |retry| retry.initial);
        loop {
            let error = match send().await {
                Ok(outcome) => {
                    self.metrics.status.is_well();
                    return Ok(outcome);
                }
                Err(error) => error,
            };
            self.metrics.status.ails(&error.message);
            let wait = match &self.settings.retry {
                Some(retry) if error.retryable => {
                    let spread = 1.0 + retry.randomization * (2.0 * fastrand::f64() - 1.0);
                    let wait = interval.mul_f64(spread).max(error.retry_after.unwrap_or_default());
                    interval = interval.mul_f64(retry.multiplier).min(retry.max);
                    let ends = retry.max_elapsed;
                    (ends.is_zero() || started.elapsed() + wait <= ends).then_some(wait)
                }
                _ => None,
            };
            let Some(wait) = wait else {
                self.rejected(&error, spans);
                return Err(error);
            };
            tracing::info!(
                exporter = %self.id,
                interval = ?wait,
                error = %error,
                "Exporting failed. Will retry the request after interval."
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.drain.begun() => {
                    self.rejected(&error, spans);
                    return Err(error);
                }
            }
        }
    }
}
