//! Where requests of a queue wait: in memory or, with a storage, on the disk. A shelf
//! belongs to the process and not to an exporter, so that the exporters of an old and
//! a new graph share it: what the one has not sent, the other one does.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::pending::{Pace, Pending};
use super::{Answer, Limit, record};
use crate::storage::{Log, StorageError, Stored};
use crate::telemetry::{Clerk, Held, QueueMetrics, Traces};
use crate::traces::Parcel;
use crate::transport::budget::share;

use super::super::sending::Sizer;

/// What tells a queue from all others: a folder, or the exporter's id for one in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Memory(String),
    Folder(PathBuf),
}

/// The shelves that somebody uses.
static SHELVES: LazyLock<Mutex<HashMap<Key, Weak<Shelf>>>> = LazyLock::new(Mutex::default);

/// Requests that were just stored are kept at hand for consumers that keep up, so that
/// these need not read them again: so many, of so many bytes.
const WARM_REQUESTS: usize = 64;
const WARM_BYTES: usize = 8 << 20;
/// At most this part of what the process gives to requests: none of those stands for them.
const WARM_SHARE: usize = 8;

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    requests: usize,
    items: usize,
    bytes: usize,
}

impl Size {
    fn of(parcel: &Parcel) -> Self {
        Self { requests: 1, items: parcel.spans, bytes: parcel.message.len() }
    }

    fn by(&self, sizer: Sizer) -> usize {
        match sizer {
            Sizer::Requests => self.requests,
            Sizer::Items => self.items,
            Sizer::Bytes => self.bytes,
        }
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.items += other.items;
        self.bytes += other.bytes;
    }

    fn sub(&mut self, other: Self) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.items = self.items.saturating_sub(other.items);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

pub(super) struct Entry {
    size: Size,
    stored: Option<Stored>,
    /// Always there in a queue in memory, and while it is not stored.
    parcel: Option<Parcel>,
    /// Its spans in the account, from when it is put in to when it is settled.
    pub held: Held,
    /// Its sender has no answer yet.
    pending: Option<Arc<Pending>>,
}

impl Entry {
    /// Looks whether it was stored meanwhile; `false` where nobody wants it any more.
    fn is_wanted(&mut self) -> bool {
        let Some(pending) = &self.pending else { return true };
        if let Some(stored) = pending.stored() {
            (self.stored, self.pending) = (Some(stored), None);
            return true;
        }
        !pending.is_withdrawn()
    }
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Entry>,
    /// What waits, is being sent, or is being written.
    held: Size,
    warm: Size,
    /// The last request's number.
    last: u64,
    /// Whose metrics show the queue, and what they count.
    shown: Option<(QueueMetrics, Sizer)>,
    /// The number of the exporter that takes from it.
    user: u64,
}

impl State {
    /// Answers with the entry where nobody wants it any more.
    fn put(&mut self, number: u64, mut entry: Entry) -> Option<Entry> {
        if !entry.is_wanted() {
            return Some(entry);
        }
        if entry.stored.is_some() && entry.parcel.is_some() {
            let most = WARM_BYTES.min(share() / WARM_SHARE);
            let is_cold = self.warm.requests >= WARM_REQUESTS || self.warm.bytes + entry.size.bytes > most;
            if is_cold {
                entry.parcel = None;
            } else {
                self.warm.add(entry.size);
            }
        }
        self.waiting.insert(number, entry);
        None
    }

    fn show(&self) {
        if let Some((metrics, sizer)) = &self.shown {
            metrics.size.set(self.held.by(*sizer) as i64);
        }
    }
}

pub(super) struct Shelf {
    key: Key,
    pub log: Option<Log>,
    pub pace: Pace,
    state: Mutex<State>,
    /// Something waits.
    arrived: Notify,
    /// Something has left.
    left: Notify,
}

impl Shelf {
    /// The shelf under this key, whose requests the clerk counts; `open` makes it where there is none, and blocks.
    pub fn find(
        key: Key,
        clerk: &Clerk,
        open: impl FnOnce() -> Result<(Option<Log>, Vec<Stored>), StorageError>,
    ) -> Result<Arc<Self>, StorageError> {
        // One is opened at a time: two would be in each other's way.
        let mut shelves = SHELVES.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.retain(|_, shelf| shelf.strong_count() > 0);
        if let Some(shelf) = shelves.get(&key).and_then(Weak::upgrade) {
            return Ok(shelf);
        }
        let (log, stored) = open()?;
        let mut state = State::default();
        for stored in stored {
            let size = Size { requests: 1, items: stored.items as usize, bytes: stored.weight as usize };
            state.held.add(size);
            let mut held = Held::of(size.items, Traces::default());
            held.recovered(clerk);
            let entry = Entry { size, stored: Some(stored), parcel: None, held, pending: None };
            state.waiting.insert(stored.sequence, entry);
            state.last = state.last.max(stored.sequence);
        }
        let (arrived, left) = (Notify::new(), Notify::new());
        let (state, pace) = (Mutex::new(state), Pace::default());
        let shelf = Arc::new(Self { key: key.clone(), log, pace, state, arrived, left });
        shelves.insert(key, Arc::downgrade(&shelf));
        Ok(shelf)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An exporter takes from it from now on, and its metrics show it.
    pub fn join(self: &Arc<Self>, metrics: QueueMetrics, limit: Limit) -> Arc<User> {
        let mut state = self.state();
        state.user += 1;
        let number = state.user;
        metrics.capacity.set(limit.size as i64);
        state.shown = Some((metrics, limit.sizer));
        state.show();
        drop(state);
        self.show_bytes();
        // The one before hears that it is superseded.
        self.arrived.notify_waiters();
        Arc::new(User { shelf: Arc::clone(self), number })
    }

    fn show_bytes(&self) {
        let Some(log) = &self.log else { return };
        if let Some((QueueMetrics { disk: Some(disk), .. }, _)) = &self.state().shown {
            disk.bytes.set(i64::try_from(log.bytes()).unwrap_or(i64::MAX));
        }
    }

    /// Wakes one that waits for an arrival.
    pub fn wake(&self) {
        self.arrived.notify_one();
    }

    pub fn is_empty(&self) -> bool {
        self.state().held.requests == 0
    }

    /// Requests and spans in it.
    pub fn held(&self) -> (usize, usize) {
        let held = self.state().held;
        (held.requests, held.items)
    }

    /// Where it is on the disk.
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.log.as_ref().map(Log::folder)
    }

    /// Keeps room for a request; `None` where there is none. A request that is larger
    /// than the whole queue never finds any.
    fn try_reserve(self: &Arc<Self>, size: Size, limit: Limit) -> Option<Reserved> {
        let mut state = self.state();
        let is_full = state.held.by(limit.sizer).saturating_add(size.by(limit.sizer)) > limit.size;
        // What is in memory has its answer, so that no request under way stands for its bytes.
        if is_full || (self.log.is_none() && state.held.bytes.saturating_add(size.bytes) > share()) {
            return None;
        }
        state.held.add(size);
        state.show();
        Some(Reserved { shelf: Arc::clone(self), size, is_used: false })
    }

    /// Keeps room for a request, and waits for it if that is wanted.
    pub async fn reserve(self: &Arc<Self>, parcel: &Parcel, limit: Limit, waits: bool) -> Option<Reserved> {
        let size = Size::of(parcel);
        loop {
            // Asked for before looking, so that nothing that leaves in between is missed.
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            let reserved = self.try_reserve(size, limit);
            if reserved.is_some() || !waits || size.by(limit.sizer) > limit.size {
                return reserved;
            }
            left.await;
        }
    }

    /// Takes what has waited longest.
    pub fn take(self: &Arc<Self>) -> Option<Taken> {
        let mut state = self.state();
        let (number, mut entry) = state.waiting.pop_first()?;
        if entry.stored.is_some() && entry.parcel.is_some() {
            state.warm.sub(entry.size);
        }
        drop(state);
        entry.is_wanted();
        Some(Taken { shelf: Arc::clone(self), number, entry: Some(entry) })
    }

    /// Takes a request out whose sender has given it up, unless it is being sent.
    pub fn withdraw(&self, number: u64) -> Option<Entry> {
        let entry = self.state().waiting.remove(&number)?;
        self.release(entry.size);
        // Whoever waits for the end of all requests looks again.
        self.wake();
        Some(entry)
    }

    /// A request that waits is stored now, and may do without its memory.
    pub fn cool(&self, number: u64) {
        let mut state = self.state();
        if let Some(entry) = state.waiting.remove(&number) {
            state.put(number, entry);
        }
        drop(state);
        self.show_bytes();
    }

    /// Waits for something that waits; may wake for nothing.
    pub async fn arrival(&self) {
        self.arrived.notified().await;
    }

    fn put(&self, number: u64, entry: Entry) {
        let mut state = self.state();
        let unwanted = state.put(number, entry);
        drop(state);
        match unwanted {
            Some(entry) => self.release(entry.size),
            None => self.arrived.notify_one(),
        }
    }

    fn release(&self, size: Size) {
        let mut state = self.state();
        state.held.sub(size);
        state.show();
        drop(state);
        self.left.notify_waiters();
        self.show_bytes();
    }

    /// Waits until the disk knows what was settled.
    pub async fn flush(&self) {
        if let Some(log) = &self.log {
            log.flush().await;
            self.show_bytes();
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let mut shelves = SHELVES.lock().unwrap_or_else(PoisonError::into_inner);
        if shelves.get(&self.key).is_some_and(|known| known.strong_count() == 0) {
            shelves.remove(&self.key);
        }
    }
}

/// An exporter that takes from a shelf, as long as no later one does.
pub(super) struct User {
    pub shelf: Arc<Shelf>,
    number: u64,
}

impl User {
    pub fn is_superseded(&self) -> bool {
        self.shelf.state().user != self.number
    }
}

/// Room for a request.
pub(super) struct Reserved {
    shelf: Arc<Shelf>,
    size: Size,
    is_used: bool,
}

impl Reserved {
    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    /// Puts the request in, and answers with its number. It is in nobody's storage yet;
    /// where there is one, its sender waits behind `pending`.
    pub fn fill(mut self, parcel: &mut Parcel, pending: Option<Arc<Pending>>) -> u64 {
        let mut state = self.shelf.state();
        state.last += 1;
        let number = state.last;
        drop(state);
        self.is_used = true;
        let held = std::mem::take(&mut parcel.held);
        let entry = Entry { size: self.size, stored: None, parcel: Some(parcel.clone()), held, pending };
        self.shelf.put(number, entry);
        number
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.is_used {
            self.shelf.release(self.size);
        }
    }
}

/// A request that is being sent. Dropped without `settle` it waits again.
pub(super) struct Taken {
    shelf: Arc<Shelf>,
    number: u64,
    entry: Option<Entry>,
}

impl Taken {
    pub fn spans(&self) -> usize {
        self.entry.as_ref().map_or(0, |entry| entry.size.items)
    }

    pub fn size(&self, sizer: Sizer) -> usize {
        self.entry.as_ref().map_or(0, |entry| entry.size.by(sizer))
    }

    /// The request, read from the disk if need be. It is in the account here.
    pub async fn parcel(&mut self) -> Result<Parcel, StorageError> {
        let Some(entry) = &mut self.entry else { return Err(StorageError::Closed) };
        if let Some(parcel) = &entry.parcel {
            let parcel = parcel.clone();
            if entry.stored.is_some() {
                // From here on the exporter has it; a second try reads it again.
                entry.parcel = None;
            }
            return Ok(parcel);
        }
        let (Some(log), Some(stored)) = (&self.shelf.log, entry.stored) else { return Err(StorageError::Closed) };
        let record = log.read(stored).await?;
        let parcel = record::decode(&record).ok_or_else(|| StorageError::Damaged {
            path: log.folder().to_owned(),
            cause: "it is none of this version's records".to_owned(),
        })?;
        if entry.held.traces().marks().is_empty() {
            entry.held.are_of(parcel.traces());
        }
        Ok(parcel)
    }

    /// How its destination does of late.
    pub fn pace(&self) -> &Pace {
        &self.shelf.pace
    }

    /// Comes, with the reason, when the sender takes it back, before it is stored.
    pub async fn withdrawn(&self) -> &'static str {
        match self.entry.as_ref().and_then(|entry| entry.pending.as_ref()) {
            Some(pending) => pending.withdrawn().await,
            None => std::future::pending().await,
        }
    }

    /// The request's spans in the account.
    pub fn held(&mut self) -> Option<&mut Held> {
        self.entry.as_mut().map(|entry| &mut entry.held)
    }

    /// The request is done with, and its sender hears how, unless it has its answer.
    pub fn settle(mut self, answer: Answer) {
        if let Some(entry) = &mut self.entry
            && let Some(pending) = entry.pending.take()
        {
            entry.stored = pending.decide(answer);
        }
        self.end(|log, stored| log.settle(stored));
    }

    /// The request cannot be read, and never will.
    pub fn set_aside(mut self) {
        self.end(|log, stored| log.set_aside(stored));
    }

    fn end(&mut self, tell: impl FnOnce(&Log, Stored)) {
        let Some(entry) = self.entry.take() else { return };
        if let (Some(log), Some(stored)) = (&self.shelf.log, entry.stored) {
            tell(log, stored);
        }
        self.shelf.release(entry.size);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.shelf.put(self.number, entry);
        }
    }
}

/// What a request takes of a queue.
pub(super) fn size_by(parcel: &Parcel, sizer: Sizer) -> usize {
    Size::of(parcel).by(sizer)
}
