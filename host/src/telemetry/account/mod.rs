//! The account of every span. What came in is sent, dropped, rejected or in flight,
//! and one reading shows all of it at one moment:
//!
//! ```text
//! received + copied + recovered = sent + dropped + rejected + in flight
//! ```
//!
//! Spans in flight are held by tokens that travel with their bytes ([`Held`]). A
//! component settles what it knows the end of; what is thrown away unsettled, as
//! when a sender goes away, counts as rejected where it was. Beside the numbers
//! stands a memory of what became of each trace ([`memory`]).

mod held;
mod memory;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::instrument::{Kind, Point, Snapshot, Value};
use memory::Memory;

pub use held::{Held, SpanIds, Traces};
pub use memory::{Finding, Why};

/// Why spans are rejected, where no plugin and no destination says it.
pub mod reason {
    /// Its sender went away, or the collector shut down.
    pub const CANCELED: &str = "canceled";
    pub const INVALID_IDS: &str = "invalid_ids";
    pub const MALFORMED: &str = "malformed";
    pub const MEMORY_LIMIT: &str = "memory_limit";
    /// What a plugin's `on_error` makes of a batch that the plugin failed on.
    pub const ON_ERROR: &str = "on_error";
    /// The destination took the request and refused some of its spans.
    pub const PARTIAL_SUCCESS: &str = "partial_success";
    pub const PERMANENT_ERROR: &str = "permanent_error";
    /// A record of a queue on the disk cannot be read any more.
    pub const DAMAGED: &str = "damaged";
    /// A queue on the disk could not be written.
    pub const NOT_STORED: &str = "not_stored";
    pub const QUEUE_FULL: &str = "queue_full";
    /// The destination has had them from an earlier try of the same request.
    pub const REPEATED: &str = "repeated";
    /// The destination did not take the request in all the time that there was.
    pub const RETRIES_EXHAUSTED: &str = "retries_exhausted";
    pub const TOO_LARGE: &str = "too_large";
    pub const TOO_MANY_PARTITIONS: &str = "too_many_partitions";
}

/// How many reasons of one component are told apart; plugins invent them.
const REASONS: usize = 100;
/// The rest of them.
const OTHER: &str = "_other";
/// No reason is longer, in characters.
const REASON_LENGTH: usize = 256;

/// What a line of the account counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Received,
    /// By a fan-out: each of several destinations has to get the spans.
    Copied,
    /// From disk, where an earlier run of the collector left them.
    Recovered,
    Sent,
    Dropped,
    Rejected,
}

impl State {
    pub const ALL: [Self; 6] =
        [Self::Received, Self::Copied, Self::Recovered, Self::Sent, Self::Dropped, Self::Rejected];

    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Copied => "copied",
            Self::Recovered => "recovered",
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
        }
    }
}

/// Spans that one component counted as one thing for one reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub state: State,
    /// As `kind:type/name`; of copies it is empty.
    pub component: Arc<str>,
    /// Of what is dropped or rejected.
    pub reason: Arc<str>,
    pub spans: u64,
}

/// The account at one moment.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// What the tokens hold: counted by itself, not the rest of a sum.
    pub in_flight: u64,
    pub lines: Vec<Line>,
}

impl Account {
    pub fn sum(&self, state: State) -> u64 {
        self.lines.iter().filter(|line| line.state == state).map(|line| line.spans).sum()
    }

    /// Whether every span that came in is exactly one thing.
    pub fn balances(&self) -> bool {
        let sum = |states: &[State]| states.iter().map(|state| self.sum(*state)).sum::<u64>();
        let came = sum(&[State::Received, State::Copied, State::Recovered]);
        came == sum(&[State::Sent, State::Dropped, State::Rejected]) + self.in_flight
    }
}

/// Keeps the account; one for all components of a collector.
pub struct Ledger {
    started: (Instant, SystemTime),
    book: Mutex<Book>,
    memory: Memory,
}

/// The number of a line.
type LineId = u32;

/// The line of copies, which nobody has to look for.
const COPIES: LineId = 0;

struct Book {
    in_flight: u64,
    lines: Vec<Line>,
    known: HashMap<(State, Arc<str>), BTreeMap<Arc<str>, LineId>>,
}

impl Book {
    fn new() -> Self {
        let copies = Line { state: State::Copied, component: "".into(), reason: "".into(), spans: 0 };
        Self { in_flight: 0, lines: vec![copies], known: HashMap::new() }
    }

    /// The line of a reason, made now where there is none.
    fn line(&mut self, state: State, component: &Arc<str>, reason: &str) -> LineId {
        let reasons = self.known.entry((state, Arc::clone(component))).or_default();
        if let Some(id) = reasons.get(reason) {
            return *id;
        }
        let shortened: Arc<str> = match reason.char_indices().nth(REASON_LENGTH) {
            _ if reasons.len() >= REASONS => OTHER.into(),
            Some((end, _)) => reason.get(..end).unwrap_or_default().into(),
            None => reason.into(),
        };
        *reasons.entry(Arc::clone(&shortened)).or_insert_with(|| {
            let id = self.lines.len() as LineId;
            self.lines.push(Line { state, component: Arc::clone(component), reason: shortened, spans: 0 });
            id
        })
    }

    fn count(&mut self, line: LineId, spans: u64) {
        if let Some(line) = self.lines.get_mut(line as usize) {
            line.spans += spans;
        }
    }
}

impl Ledger {
    pub(super) fn new() -> Arc<Self> {
        let (book, memory) = (Mutex::new(Book::new()), Memory::default());
        Arc::new(Self { started: (Instant::now(), SystemTime::now()), book, memory })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account at this moment, in an order that stays.
    pub fn read(&self) -> Account {
        let book = self.book();
        let lines = book.lines.iter().filter(|line| line.spans > 0 || line.reason.is_empty());
        let mut account = Account { in_flight: book.in_flight, lines: lines.cloned().collect() };
        drop(book);
        account.lines.sort();
        account
    }

    /// What is remembered of a trace.
    pub fn why(&self, trace: [u8; 16]) -> Why {
        let found = self.memory.find(trace);
        let book = self.book();
        found.told(self.started.1, |line| book.lines.get(line as usize).cloned())
    }

    /// Since when it is kept.
    pub fn started(&self) -> SystemTime {
        self.started.1
    }

    /// Hundredths of a second since the start: enough for a year in four bytes.
    fn now(&self) -> u32 {
        u32::try_from(self.started.0.elapsed().as_millis() / memory::TICK.as_millis()).unwrap_or(u32::MAX)
    }

    pub(super) fn gather(&self) -> Vec<Snapshot> {
        let account = self.read();
        let point = |line: &Line| {
            let labels = [("state", line.state.name()), ("component", &line.component), ("reason", &line.reason)];
            let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Point { labels, value: integer(line.spans) }
        };
        let family =
            |name: &str, help, kind, points| Snapshot { name: name.into(), help, unit: "{span}", kind, points };
        let lines = account.lines.iter().map(point).collect();
        let in_flight = vec![Point { labels: vec![], value: integer(account.in_flight) }];
        let help =
            "Every span as what became of it: received + copied + recovered = sent + dropped + rejected + in flight";
        let flying = "Spans that the collector holds, copies for several destinations counted each";
        vec![
            family("vespid_account_spans", help, Kind::Counter, lines),
            family("vespid_account_in_flight_spans", flying, Kind::Gauge, in_flight),
        ]
    }
}

fn integer(count: u64) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

/// A component's hand in the account.
#[derive(Debug, Clone)]
pub struct Clerk {
    ledger: Arc<Ledger>,
    component: Arc<str>,
    /// What it receives, recovers or sends.
    own: LineId,
    canceled: LineId,
}

impl Clerk {
    fn new(ledger: &Arc<Ledger>, kind: &str, id: &str, own: State) -> Self {
        let component: Arc<str> = format!("{kind}:{id}").into();
        let mut book = ledger.book();
        let own = match own {
            State::Received | State::Sent => book.line(own, &component, ""),
            _ => COPIES,
        };
        let canceled = book.line(State::Rejected, &component, reason::CANCELED);
        drop(book);
        Self { ledger: Arc::clone(ledger), component, own, canceled }
    }

    pub(super) fn receiver(ledger: &Arc<Ledger>, id: &str) -> Self {
        Self::new(ledger, "receiver", id, State::Received)
    }

    pub(super) fn processor(ledger: &Arc<Ledger>, id: &str) -> Self {
        Self::new(ledger, "processor", id, State::Dropped)
    }

    pub(super) fn exporter(ledger: &Arc<Ledger>, id: &str) -> Self {
        Self::new(ledger, "exporter", id, State::Sent)
    }
}

#[cfg(test)]
mod tests;
