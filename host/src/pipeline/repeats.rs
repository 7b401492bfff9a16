//! Requests that some destinations took and others did not. When their senders repeat
//! them, they go only to those that lack them.
//!
//! What is compared is the bytes behind the processors, whose they are, and the
//! destination. Only such requests are remembered, so in good times nothing is hashed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::component::ConsumeError;
use crate::traces::{Context, Message, Parcel};

/// So many requests at destinations are remembered, and for so long: longer than
/// OpenTelemetry's exporters repeat anything.
const MOST: usize = 1024;
const LONGEST: Duration = Duration::from_secs(600);

/// What is remembered. Hashes are cryptographic: a sender must not be able to make a
/// request that passes for another one's.
#[derive(Default)]
pub struct Repeats {
    taken: Mutex<VecDeque<Taken>>,
    count: AtomicUsize,
    destinations: AtomicU32,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    by: u32,
    /// Of the message; only where it is equal is anything hashed.
    length: usize,
    digest: [u8; 32],
    since: Instant,
}

impl Repeats {
    /// A number for a destination in a pipeline.
    pub fn destination(&self) -> u32 {
        self.destinations.fetch_add(1, Ordering::Relaxed)
    }

    fn taken(&self) -> MutexGuard<'_, VecDeque<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of a request at a destination.
    fn find(&self, by: u32, parcel: &Parcel) -> Option<[u8; 32]> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let length = parcel.message.len();
        let candidates: Vec<[u8; 32]> = {
            let mut taken = self.taken();
            while taken.front().is_some_and(|oldest| oldest.since.elapsed() > LONGEST) {
                taken.pop_front();
            }
            self.count.store(taken.len(), Ordering::Relaxed);
            taken.iter().filter(|it| it.by == by && it.length == length).map(|it| it.digest).collect()
        };
        if candidates.is_empty() {
            return None;
        }
        let digest = digest(&parcel.message, &parcel.context);
        candidates.contains(&digest).then_some(digest)
    }

    fn remember(&self, by: u32, message: &Message, context: &Context) {
        let (length, digest, since) = (message.len(), digest(message, context), Instant::now());
        let mut taken = self.taken();
        if taken.len() >= MOST {
            taken.pop_front();
        }
        taken.push_back(Taken { by, length, digest, since });
        self.count.store(taken.len(), Ordering::Relaxed);
    }

    fn forget(&self, by: u32, digest: &[u8; 32]) {
        let mut taken = self.taken();
        taken.retain(|it| it.by != by || it.digest != *digest);
        self.count.store(taken.len(), Ordering::Relaxed);
    }
}

/// A request's bytes, and whose they are. Of the sender's headers those count that
/// say who it is: others may differ from one try to the next.
fn digest(message: &Message, context: &Context) -> [u8; 32] {
    let Context { tenant, metadata, auth, .. } = context;
    let who = metadata.iter().filter(|(name, _)| name == "x-scope-orgid" || name == "authorization");
    let mut hasher = Sha256::new();
    let mut text = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    text(tenant.as_deref().unwrap_or_default());
    for (name, value) in who.chain(auth) {
        text(name);
        text(value);
    }
    hasher.update(message.bytes());
    hasher.finalize().into()
}

/// One request on its way to several destinations.
pub(super) struct Round<'a> {
    repeats: &'a Repeats,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// Who has taken what, now.
    took: Vec<(u32, Message, Arc<Context>)>,
    /// What was left out, because it had been taken before.
    skipped: Vec<(u32, [u8; 32])>,
    /// Whether the sender will not come back with it.
    is_over: bool,
}

impl<'a> Round<'a> {
    pub fn new(repeats: &'a Repeats) -> Self {
        Self { repeats, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this destination has these bytes already.
    pub fn has(&self, destination: u32, parcel: &Parcel) -> bool {
        let Some(digest) = self.repeats.find(destination, parcel) else { return false };
        self.entries().skipped.push((destination, digest));
        true
    }

    pub fn took(&self, destination: u32, message: Message, context: Arc<Context>) {
        self.entries().took.push((destination, message, context));
    }

    /// All have answered.
    pub fn close<T>(&self, answer: &Result<T, ConsumeError>) {
        self.entries().is_over = answer.as_ref().err().is_none_or(|error| !error.retryable);
    }
}

/// Also where the sender has gone before all had answered: it may come again.
impl Drop for Round<'_> {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut *self.entries());
        if entries.is_over {
            entries.skipped.iter().for_each(|(by, digest)| self.repeats.forget(*by, digest));
        } else {
            entries.took.iter().for_each(|(by, message, context)| self.repeats.remember(*by, message, context));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Held;

    fn parcel(bytes: &[u8], tenant: &str) -> Parcel {
        let context = Context { tenant: Some(tenant.to_owned()), ..Context::default() };
        Parcel { message: Message::copy_of(bytes), spans: 1, context: Arc::new(context), held: Held::default() }
    }

    fn took(round: &Round<'_>, by: u32, parcel: Parcel) {
        round.took(by, parcel.message.clone(), Arc::clone(&parcel.context));
    }

    const FAILED: fn() -> Result<(), ConsumeError> = || Err(ConsumeError::retryable("down"));

    #[test]
    fn what_one_took_and_another_did_not_is_remembered_until_all_have_it() {
        let repeats = Repeats::default();
        let (a, b) = (repeats.destination(), repeats.destination());
        let first = Round::new(&repeats);
        assert!(!first.has(a, &parcel(b"x", "t")) && !first.has(b, &parcel(b"x", "t")));
        took(&first, a, parcel(b"x", "t"));
        first.close(&FAILED());
        drop(first);
        let again = Round::new(&repeats);
        assert!(again.has(a, &parcel(b"x", "t")) && !again.has(b, &parcel(b"x", "t")));
        assert!(!again.has(a, &parcel(b"y", "t")) && !again.has(a, &parcel(b"x", "u")), "other bytes, another tenant");
        again.close(&Ok(()));
        drop(again);
        assert_eq!(repeats.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_sender_that_goes_away_is_remembered_and_one_that_may_not_repeat_is_not() {
        let repeats = Repeats::default();
        let gone = Round::new(&repeats);
        took(&gone, 0, parcel(b"x", ""));
        drop(gone);
        assert!(Round::new(&repeats).has(0, &parcel(b"x", "")));
        let refused = Round::new(&repeats);
        took(&refused, 0, parcel(b"y", ""));
        refused.close::<()>(&Err(ConsumeError::permanent("bad")));
        drop(refused);
        assert!(!Round::new(&repeats).has(0, &parcel(b"y", "")));
    }

    #[test]
    fn the_memory_is_bounded() {
        let repeats = Repeats::default();
        for number in 0..2 * MOST {
            let round = Round::new(&repeats);
            took(&round, 0, parcel(number.to_string().as_bytes(), ""));
        }
        assert_eq!(repeats.count.load(Ordering::Relaxed), MOST);
    }
}
