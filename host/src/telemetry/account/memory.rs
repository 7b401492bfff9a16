//! What became of each trace, as far back as a bounded memory reaches: the last
//! million spans that a component decided against, one by one, and the last requests
//! that were sent or rejected, as the traces that had spans in them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::held::{SpanIds, Traces};
use super::{Line, LineId, State};

/// What times are counted in.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// So many decisions are remembered at least.
const DECISIONS: usize = 1_000_000;
/// Memory for them is taken in pieces of so many, as it fills.
const CHUNK: usize = 4096;
/// What one ring of requests may take, in bytes.
const RING: usize = 4 << 20;
/// No answer has more findings; of more the last.
const FINDINGS: usize = 10_000;

/// One span that a component decided against: 32 bytes.
#[derive(Debug, Clone, Copy)]
struct Decision {
    ids: SpanIds,
    line: LineId,
    at: u32,
}

#[derive(Default)]
struct Decisions {
    /// Full ones, the oldest first; who searches shares them.
    full: VecDeque<Arc<Vec<Decision>>>,
    open: Vec<Decision>,
    has_forgotten: bool,
}

impl Decisions {
    fn push(&mut self, decision: Decision) {
        if self.open.len() == self.open.capacity() {
            self.open.reserve_exact(CHUNK);
        }
        self.open.push(decision);
        if self.open.len() >= CHUNK {
            self.full.push_back(Arc::new(std::mem::take(&mut self.open)));
            if self.full.len() > DECISIONS.div_ceil(CHUNK) {
                self.full.pop_front();
                self.has_forgotten = true;
            }
        }
    }

    fn since(&self) -> Option<u32> {
        let oldest = self.full.front().map_or(&self.open, |chunk| &**chunk).first();
        oldest.filter(|_| self.has_forgotten).map(|decision| decision.at)
    }
}

/// Spans of one request that came to one end together.
#[derive(Debug, Clone)]
struct Request {
    traces: Traces,
    spans: u64,
    line: LineId,
    at: u32,
}

impl Request {
    /// What it takes, the memory manager's part included.
    fn size(&self) -> usize {
        size_of::<Self>() + size_of_val(self.traces.marks()) + 32
    }
}

/// The last requests.
#[derive(Default)]
struct Ring {
    requests: VecDeque<Request>,
    bytes: usize,
    has_forgotten: bool,
}

impl Ring {
    fn push(&mut self, request: Request) {
        self.bytes += request.size();
        self.requests.push_back(request);
        while self.bytes > RING
            && let Some(oldest) = self.requests.pop_front()
        {
            self.bytes -= oldest.size();
            self.has_forgotten = true;
        }
    }

    fn since(&self) -> Option<u32> {
        self.requests.front().filter(|_| self.has_forgotten).map(|request| request.at)
    }
}

/// All three have locks of their own: a search of one does not keep the others waiting.
#[derive(Default)]
pub(super) struct Memory {
    decisions: Mutex<Decisions>,
    sent: Mutex<Ring>,
    rejected: Mutex<Ring>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    pub fn decided(&self, spans: &[SpanIds], line: LineId, at: u32) {
        let mut decisions = lock(&self.decisions);
        spans.iter().for_each(|&ids| decisions.push(Decision { ids, line, at }));
    }

    pub fn settled(&self, state: State, traces: &Traces, spans: usize, line: LineId, at: u32) {
        if traces.marks().is_empty() {
            return;
        }
        let ring = if state == State::Sent { &self.sent } else { &self.rejected };
        lock(ring).push(Request { traces: traces.clone(), spans: spans as u64, line, at });
    }

    pub fn find(&self, trace: [u8; 16]) -> Found {
        let decisions = lock(&self.decisions);
        let mut chunks: Vec<_> = decisions.full.iter().cloned().collect();
        chunks.push(Arc::new(decisions.open.clone()));
        let mut found = Found { decisions_since: decisions.since(), ..Found::default() };
        drop(decisions);
        let decisions = chunks.iter().flat_map(|chunk| chunk.iter()).filter(|it| it.ids.trace == trace);
        found.decisions = decisions.copied().collect();
        let mark = Traces::mark(trace);
        for (ring, since) in [(&self.sent, &mut found.sent_since), (&self.rejected, &mut found.rejected_since)] {
            let ring = lock(ring);
            found.requests.extend(ring.requests.iter().filter(|it| it.traces.marks().contains(&mark)).cloned());
            *since = ring.since();
        }
        found
    }
}

/// What a search found, by numbers.
#[derive(Default)]
pub(super) struct Found {
    decisions: Vec<Decision>,
    requests: Vec<Request>,
    decisions_since: Option<u32>,
    sent_since: Option<u32>,
    rejected_since: Option<u32>,
}

/// All that is remembered of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The oldest first.
    pub findings: Vec<Finding>,
    /// Older ones that there was no room for in the answer.
    pub left_out: usize,
    /// Since when spans that were dropped are remembered; none is since the start.
    pub dropped_since: Option<SystemTime>,
    pub sent_since: Option<SystemTime>,
    pub rejected_since: Option<SystemTime>,
}

/// What became of spans of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub at: SystemTime,
    pub state: State,
    pub component: Arc<str>,
    pub reason: Arc<str>,
    /// The spans, where each was decided about.
    pub spans: Vec<[u8; 8]>,
    /// How many spans of this and other traces came to this end in the same request,
    /// where the request was decided about.
    pub of_request: Option<u64>,
}

impl Found {
    pub fn told(self, started: SystemTime, line: impl Fn(LineId) -> Option<Line>) -> Why {
        let time = |at: u32| started + TICK * at;
        let mut findings: Vec<Finding> = vec![];
        let mut last = None;
        let finding = |id: LineId, at: u32, spans, of_request| {
            let Line { state, component, reason, .. } = line(id)?;
            Some(Finding { at: time(at), state, component, reason, spans, of_request })
        };
        for Decision { ids, line, at } in self.decisions {
            match findings.last_mut() {
                Some(same) if last == Some((line, at)) => same.spans.push(ids.span),
                _ => findings.extend(finding(line, at, vec![ids.span], None)),
            }
            last = Some((line, at));
        }
        findings.extend(self.requests.iter().filter_map(|it| finding(it.line, it.at, vec![], Some(it.spans))));
        findings.sort_by_key(|finding| finding.at);
        let left_out = findings.len().saturating_sub(FINDINGS);
        findings.drain(..left_out);
        let [dropped_since, sent_since, rejected_since] =
            [self.decisions_since, self.sent_since, self.rejected_since].map(|since| since.map(time));
        Why { findings, left_out, dropped_since, sent_since, rejected_since }
    }
}
