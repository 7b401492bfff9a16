//! The token for spans in flight.

use std::fmt;
use std::sync::Arc;

use super::{COPIES, Clerk, Ledger, LineId, State, reason};

/// A span's trace and its own id; zeros where it has none that is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanIds {
    pub trace: [u8; 16],
    pub span: [u8; 8],
}

/// The traces that spans belong to, each by half of its id's bits: enough to find a
/// trace again, and half the memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces(Option<Arc<[u64]>>);

impl Traces {
    /// The mark of a trace.
    #[inline(always)]
    pub fn mark(trace: [u8; 16]) -> u64 {
        let [high, low] = [u128::from_be_bytes(trace) >> 64, u128::from_be_bytes(trace)].map(|half| half as u64);
        // Whichever half is the random one, and where both are the same.
        high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low
    }

    /// Marks in the order of spans, a run of equal ones once.
    pub fn of(marks: &[u64]) -> Self {
        Self((!marks.is_empty()).then(|| marks.into()))
    }

    pub fn marks(&self) -> &[u64] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Spans in flight: it is wherever their bytes are. To clone it is to have to deliver
/// them twice; what it holds when it is dropped counts as rejected.
#[derive(Default)]
pub struct Held {
    /// None before the spans are received, and where nobody keeps an account.
    ledger: Option<Arc<Ledger>>,
    spans: u64,
    traces: Traces,
    /// Where spans count that are dropped with this.
    unsettled: LineId,
}

impl Held {
    /// Spans that are in nobody's account yet.
    pub fn of(spans: usize, traces: Traces) -> Self {
        Self { ledger: None, spans: spans as u64, traces, unsettled: COPIES }
    }

    pub fn spans(&self) -> u64 {
        self.spans
    }

    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// It was not known before which traces they are of.
    pub fn are_of(&mut self, traces: Traces) {
        self.traces = traces;
    }

    /// These spans come in, beside some that are rejected at once for their ids.
    pub fn received(&mut self, clerk: &Clerk, invalid: &[SpanIds]) {
        let (ledger, mut book) = (&clerk.ledger, clerk.ledger.book());
        book.count(clerk.own, self.spans + invalid.len() as u64);
        book.in_flight += self.spans;
        self.ledger = Some(Arc::clone(ledger));
        self.unsettled = clerk.canceled;
        if !invalid.is_empty() {
            let line = book.line(State::Rejected, &clerk.component, reason::INVALID_IDS);
            book.count(line, invalid.len() as u64);
            drop(book);
            ledger.memory.decided(invalid, line, ledger.now());
        }
    }

    /// These spans were left on disk by an earlier run.
    pub fn recovered(&mut self, clerk: &Clerk) {
        let mut book = clerk.ledger.book();
        let line = book.line(State::Recovered, &clerk.component, "");
        book.count(line, self.spans);
        book.in_flight += self.spans;
        self.ledger = Some(Arc::clone(&clerk.ledger));
        self.unsettled = clerk.canceled;
    }

    /// A component has them now: what is thrown away unsettled is canceled there.
    pub fn at(&mut self, clerk: &Clerk) {
        self.unsettled = clerk.canceled;
    }

    /// So many of them were taken by a destination.
    pub fn sent(&mut self, clerk: &Clerk, spans: usize) {
        self.settle(State::Sent, spans, |ledger, released| {
            let mut book = ledger.book();
            book.in_flight = book.in_flight.saturating_sub(released);
            book.count(clerk.own, spans as u64);
            clerk.own
        });
    }

    /// So many of them are not delivered, and their sender hears of it.
    pub fn rejected(&mut self, clerk: &Clerk, reason: &str, spans: usize) {
        self.settle(State::Rejected, spans, |ledger, released| {
            let mut book = ledger.book();
            let line = book.line(State::Rejected, &clerk.component, reason);
            book.in_flight = book.in_flight.saturating_sub(released);
            book.count(line, spans as u64);
            line
        });
    }

    /// All that are left are not delivered.
    pub fn all_rejected(&mut self, clerk: &Clerk, reason: &str) {
        self.rejected(clerk, reason, self.spans as usize);
    }

    /// As [`Self::rejected`], and each of these spans is remembered.
    pub fn each_rejected(&mut self, clerk: &Clerk, reason: &str, spans: &[SpanIds]) {
        self.decide(State::Rejected, clerk, reason, spans);
    }

    /// A component decided against these, and their sender does not hear of it.
    pub fn dropped(&mut self, clerk: &Clerk, reason: &str, spans: &[SpanIds]) {
        self.decide(State::Dropped, clerk, reason, spans);
    }

    fn decide(&mut self, state: State, clerk: &Clerk, reason: &str, spans: &[SpanIds]) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| !spans.is_empty()) else { return };
        let count = spans.len() as u64;
        let released = count.min(self.spans);
        self.spans -= released;
        let mut book = ledger.book();
        let line = book.line(state, &clerk.component, reason);
        book.in_flight = book.in_flight.saturating_sub(released);
        book.count(line, count);
        drop(book);
        ledger.memory.decided(spans, line, ledger.now());
    }

    /// What is settled is counted as the component says it, and released as far as it
    /// is held: where the two differ the account does not balance, and shows it.
    fn settle(&mut self, state: State, spans: usize, count: impl FnOnce(&Ledger, u64) -> LineId) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| spans > 0) else { return };
        let released = self.spans.min(spans as u64);
        self.spans -= released;
        let line = count(ledger, released);
        ledger.memory.settled(state, &self.traces, spans, line, ledger.now());
    }

    /// Moves so many of them into a token of their own.
    pub fn split(&mut self, spans: usize, traces: Traces) -> Self {
        let moved = self.spans.min(spans as u64);
        self.spans -= moved;
        Self { ledger: self.ledger.clone(), spans: moved, traces, unsettled: self.unsettled }
    }

    /// Several as one, as their spans leave in one request.
    pub fn merge(parts: impl IntoIterator<Item = Self>) -> Self {
        let (mut whole, mut marks) = (Self::default(), vec![]);
        for mut part in parts {
            whole.spans += std::mem::take(&mut part.spans);
            if whole.ledger.is_none() {
                (whole.ledger, whole.unsettled) = (part.ledger.take(), part.unsettled);
            }
            if whole.traces.0.is_none() {
                whole.traces = std::mem::take(&mut part.traces);
            } else {
                marks.extend_from_slice(part.traces.marks());
            }
        }
        if !marks.is_empty() {
            whole.traces = Traces::of(&[whole.traces.marks(), &marks].concat());
        }
        whole
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        if let Some(ledger) = &self.ledger {
            let mut book = ledger.book();
            book.in_flight += self.spans;
            book.count(COPIES, self.spans);
        }
        let (ledger, traces) = (self.ledger.clone(), self.traces.clone());
        Self { ledger, spans: self.spans, traces, unsettled: self.unsettled }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (spans, line) = (self.spans as usize, self.unsettled);
        self.settle(State::Rejected, spans, |ledger, released| {
            let mut book = ledger.book();
            book.in_flight = book.in_flight.saturating_sub(released);
            book.count(line, released);
            line
        });
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.spans)
    }
}
