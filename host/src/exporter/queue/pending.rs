//! A queue with a storage writes nothing that its destination takes in time: a request
//! is handed on at once, and is stored when that takes longer than [`PATIENCE`].
//! Whichever comes first, delivered or synced, is its sender's answer.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::super::LARGE;
use super::shelf::{Reserved, Shelf};
use super::{Answer, record};
use crate::component::Outcome;
use crate::storage::{Log, StorageError, Stored, Written};
use crate::telemetry::{ExporterMetrics, Held, reason};
use crate::traces::Parcel;

/// What a destination gets to take a request in, before the disk has to.
const PATIENCE: Duration = Duration::from_millis(100);
/// What it gets where the disk cannot.
const LAST_HOPE: Duration = Duration::from_secs(1);

/// What became of a request whose sender waits.
#[derive(Default)]
enum Fate {
    #[default]
    Open,
    /// Synced, and its sender answered; the destination is still to have it.
    Stored(Stored),
    /// The destination has it, or never will; taken out by its sender.
    Decided(Option<Answer>),
    /// Its sender heard nothing, or this reason, and has it still.
    Withdrawn(&'static str),
}

/// Stands between a request's sender, the disk and the destination.
#[derive(Default)]
pub(super) struct Pending {
    fate: Mutex<Fate>,
    decided: Notify,
    withdrawn: Notify,
}

impl Pending {
    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its record, if it is stored.
    pub fn stored(&self) -> Option<Stored> {
        match *self.fate() {
            Fate::Stored(stored) => Some(stored),
            _ => None,
        }
    }

    pub fn is_withdrawn(&self) -> bool {
        matches!(*self.fate(), Fate::Withdrawn(_))
    }

    /// The destination has decided. Where the request was stored before, its sender has
    /// an answer, and its record is to be settled.
    pub fn decide(&self, answer: Answer) -> Option<Stored> {
        let mut fate = self.fate();
        match *fate {
            Fate::Stored(stored) => return Some(stored),
            Fate::Open => *fate = Fate::Decided(Some(answer)),
            Fate::Decided(_) | Fate::Withdrawn(_) => return None,
        }
        drop(fate);
        self.decided.notify_one();
        None
    }

    /// What the destination decided. Only its sender asks.
    async fn decision(&self) -> Answer {
        loop {
            if let Fate::Decided(answer) = &mut *self.fate()
                && let Some(answer) = answer.take()
            {
                return answer;
            }
            self.decided.notified().await;
        }
    }

    /// Keeps the record of a request that is still open.
    fn store(&self, written: Written) -> bool {
        let mut fate = self.fate();
        if !matches!(*fate, Fate::Open) {
            return false;
        }
        let Some(stored) = written.keep() else { return false };
        *fate = Fate::Stored(stored);
        true
    }

    /// The sender takes it back; `false` where it was decided upon before.
    fn withdraw(&self, reason: &'static str) -> bool {
        let mut fate = self.fate();
        if !matches!(*fate, Fate::Open) {
            return false;
        }
        *fate = Fate::Withdrawn(reason);
        drop(fate);
        self.withdrawn.notify_one();
        true
    }

    /// Comes, with the reason, when the sender has taken it back.
    pub async fn withdrawn(&self) -> &'static str {
        loop {
            if let Fate::Withdrawn(reason) = *self.fate() {
                return reason;
            }
            self.withdrawn.notified().await;
        }
    }
}

/// How a destination does of late.
pub(super) struct Pace {
    is_prompt: AtomicBool,
    delivered: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { is_prompt: AtomicBool::new(true), delivered: AtomicU64::new(0) }
    }
}

impl Pace {
    /// Something was delivered, in this time.
    pub fn delivered(&self, took: Duration) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.is_prompt.store(took < PATIENCE, Ordering::Relaxed);
    }

    /// Waits for the destination alone, as long as that promises something.
    async fn grant(&self, pending: &Pending) -> Option<Answer> {
        if !self.is_prompt.load(Ordering::Relaxed) {
            return None;
        }
        let before = self.delivered.load(Ordering::Relaxed);
        let decision = timeout(PATIENCE, pending.decision()).await.ok();
        if decision.is_none() && self.delivered.load(Ordering::Relaxed) == before {
            // It takes nothing: the next ones need not wait for it.
            self.is_prompt.store(false, Ordering::Relaxed);
        }
        decision
    }
}

/// A sender that waits. Dropped, it takes its request back.
struct Sender<'a> {
    shelf: &'a Shelf,
    metrics: &'a ExporterMetrics,
    pending: Arc<Pending>,
    number: u64,
    spans: usize,
}

impl Sender<'_> {
    /// Takes the request back where nothing was decided; `false` where something was.
    fn withdraw(&self, reason: &'static str) -> bool {
        if !self.pending.withdraw(reason) {
            return false;
        }
        // What is being sent ends by itself, and says so.
        if let Some(mut entry) = self.shelf.withdraw(self.number) {
            entry.held.all_rejected(&self.metrics.clerk, reason);
            if reason == reason::CANCELED {
                self.metrics.send_failed(self.spans as u64, "Canceled", false);
            }
        }
        true
    }
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        self.withdraw(reason::CANCELED);
    }
}

/// Puts a request in; answers when the destination has decided on it, or when it is
/// stored.
pub(super) async fn answer(
    room: Reserved,
    parcel: &mut Parcel,
    log: &Log,
    metrics: &ExporterMetrics,
) -> Result<Answer, StorageError> {
    let (shelf, pending) = (room.shelf(), Arc::<Pending>::default());
    let number = room.fill(parcel, Some(Arc::clone(&pending)));
    let sender = Sender { shelf: &shelf, metrics, pending, number, spans: parcel.spans };
    let pending = &*sender.pending;
    if let Some(answer) = shelf.pace.grant(pending).await {
        return Ok(answer);
    }
    let mut decision = pin!(pending.decision());
    // Where the destination comes first, the record is taken back.
    let stored = tokio::select! {
        biased;
        answer = &mut decision => return Ok(answer),
        written = store(parcel, log) => written,
    };
    match stored {
        Ok(written) => {
            if !pending.store(written) {
                return Ok(decision.await);
            }
            shelf.cool(number);
            Ok(Ok(Outcome::default()))
        }
        Err(error) => match timeout(LAST_HOPE, &mut decision).await {
            Ok(answer) => Ok(answer),
            Err(_) if sender.withdraw(reason::NOT_STORED) => Err(error),
            Err(_) => Ok(decision.await),
        },
    }
}

/// Writes a request's record. Packing a large one takes a worker too long.
async fn store(parcel: &Parcel, log: &Log) -> Result<Written, StorageError> {
    let items = u32::try_from(parcel.spans).unwrap_or(u32::MAX);
    let weight = u32::try_from(parcel.message.len()).unwrap_or(u32::MAX);
    let pieces: Vec<Bytes> = if parcel.message.len() <= LARGE {
        record::encode(parcel)
    } else {
        let (message, spans, context) = (parcel.message.clone(), parcel.spans, Arc::clone(&parcel.context));
        let bare = Parcel { message, spans, context, held: Held::default() };
        let encoded = tokio::task::spawn_blocking(move || record::encode(&bare)).await;
        encoded.map_err(|_| StorageError::Closed)?
    };
    log.append(pieces, items, weight).await
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::component::ConsumeError;
    use crate::storage::{LogSettings, Opened};

    fn open(folder: &std::path::Path) -> Opened {
        let (folder, patience) = (folder.join("queue"), Duration::from_secs(5));
        let settings = LogSettings { folder, parents: None, patience, segment_bytes: 1 << 20, max_bytes: 1 << 20 };
        Log::open(settings).unwrap()
    }

    #[tokio::test]
    async fn whoever_comes_first_answers_and_the_others_find_that_out() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path()).log;
        let written = async || log.append(vec![Bytes::from_static(b"record")], 1, 6).await.unwrap();
        let refused = || Err(ConsumeError::permanent("no"));

        let decided = Pending::default();
        assert_eq!(decided.decide(refused()), None);
        assert!(!decided.store(written().await) && !decided.withdraw(reason::CANCELED));
        assert_eq!((decided.decision().await, decided.decide(Ok(Outcome::default()))), (refused(), None));

        let stored = Pending::default();
        assert!(stored.store(written().await) && !stored.withdraw(reason::CANCELED) && !stored.is_withdrawn());
        assert!(stored.stored().is_some());
        assert_eq!(stored.decide(refused()), stored.stored(), "the record is to be settled");
        assert_eq!(stored.decision().now_or_never(), None, "its sender has an OK");

        let withdrawn = Pending::default();
        assert_eq!(withdrawn.withdrawn().now_or_never(), None);
        assert!(withdrawn.withdraw(reason::NOT_STORED) && !withdrawn.store(written().await));
        assert_eq!((withdrawn.withdrawn().await, withdrawn.decide(refused())), (reason::NOT_STORED, None));

        // Of the three records only the stored one is left.
        log.flush().await;
        drop(log);
        assert_eq!(open(folder.path()).stored, [stored.stored().unwrap()]);
    }
}
