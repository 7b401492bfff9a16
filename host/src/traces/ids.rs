//! Which spans there are, and of which traces: for the account of what became of them.

use super::index::{Index, NONE, SpanEntry};
use super::splice::Chosen;
use crate::telemetry::{SpanIds, Traces};

/// A span's ids as they stand in the wire; zeros for what is no valid id.
pub(super) fn ids_of(wire: &[u8], span: &SpanEntry) -> SpanIds {
    SpanIds { trace: bytes(wire, span.trace_id), span: bytes(wire, span.span_id) }
}

fn bytes<const LEN: usize>(wire: &[u8], at: u32) -> [u8; LEN] {
    let found = wire.get(at as usize..).filter(|_| at != NONE).and_then(|rest| rest.first_chunk());
    found.copied().unwrap_or([0; LEN])
}

impl Index {
    /// The ids of the spans that are left.
    pub fn live_ids(&self) -> Vec<SpanIds> {
        self.spans.iter().filter(|span| span.live).map(|span| ids_of(&self.wire, span)).collect()
    }

    /// The traces of the spans that are left and chosen.
    pub(super) fn traces(&self, chosen: Chosen) -> Traces {
        let chosen = self.spans.iter().filter(|span| chosen.holds(span));
        let mut marks: Vec<u64> = chosen.map(|span| Traces::mark(bytes(&self.wire, span.trace_id))).collect();
        marks.dedup();
        Traces::of(&marks)
    }
}
