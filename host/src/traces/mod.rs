//! Traces as bytes with an index (`host/ARCHITECTURE.md`, "Traces").
//!
//! A receiver makes a `Batch` of the bytes that came, processors look at its
//! `Index` and edit it, and at the end of the chain the batch becomes `Parcel`s,
//! one per tenant, whose bytes are those that came wherever no edit touched them.

mod columns;
mod count;
mod edit;
#[doc(hidden)]
pub mod fuzz;
mod ids;
mod index;
mod message;
mod otlp_json;
mod regular;
mod search;
mod show;
mod splice;
#[cfg(test)]
mod tests;
mod walk;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

pub use columns::{Packed, Read, TextColumn};
pub use count::countable_spans;
pub use edit::{Changed, Dropped, Edit, NewValue, Texts};
pub use index::{Index, Kind, Owner};
pub use message::{Message, PREFIX, write_prefix};
pub use otlp_json::{OtlpJsonError, decode_request, decode_value, encode_request};
pub use search::{FINDERS, Spot};
pub use walk::{MESSAGE_LIMIT, VALUE_DEPTH};
pub use wire::{Fault, WireError};

use crate::telemetry::{Held, SpanIds, Traces};
use splice::{Chosen, Splice};

/// Whence a batch came and whose it is. It travels with the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The receiver's component id.
    pub receiver: Arc<str>,
    /// `grpc` or `http`.
    pub transport: &'static str,
    /// Tempo's `X-Scope-OrgID`, where a plugin set it.
    pub tenant: Option<String>,
    /// Where the sender is, where a processor may ask for it.
    pub client: Option<SocketAddr>,
    /// The sender's headers, lower case, where the receiver keeps them.
    pub metadata: Vec<(String, String)>,
    /// What the receiver's authenticator knows of the sender.
    pub auth: Vec<(String, String)>,
}

/// Spans on their way through a pipeline.
#[derive(Debug, Clone)]
pub struct Batch {
    message: Message,
    spans: usize,
    index: Option<Box<Index>>,
    pub context: Arc<Context>,
    /// Its spans in the account.
    pub held: Held,
}

/// Spans on their way out: the bytes, how many spans they hold, and whose they are.
#[derive(Debug, Clone)]
pub struct Parcel {
    pub message: Message,
    pub spans: usize,
    pub context: Arc<Context>,
    /// Its spans in the account.
    pub held: Held,
}

impl Batch {
    /// Validates a request, and indexes it in the same walk where a processor
    /// will look at it. Spans whose ids a back end would refuse the whole
    /// request for are taken out, and come back.
    pub fn receive(message: Message, context: Arc<Context>, indexed: bool) -> Result<(Self, Vec<SpanIds>), WireError> {
        let wire = message.bytes();
        let walked = if indexed { walk::index(&wire)? } else { walk::validate(&wire)? };
        let held = Held::of(walked.spans - walked.invalid, Traces::of(&walked.marks));
        let mut batch = Self { message, spans: walked.spans, index: None, context, held };
        if indexed && !walked.index.irregular {
            batch.index = Some(Box::new(walked.index));
        }
        let mut taken_out = vec![];
        if walked.invalid > 0 {
            let index = batch.index()?;
            let invalid: Vec<u32> = index.spans.iter().filter(|span| !span.valid_ids).map(|span| span.entry).collect();
            taken_out = index.drop(&invalid);
            index.number_rows();
            batch.spans -= walked.invalid;
        }
        Ok((batch, taken_out))
    }

    /// A batch of no spans.
    pub fn empty(context: Arc<Context>) -> Self {
        Self { message: Message::copy_of(&[]), spans: 0, index: None, context, held: Held::default() }
    }

    /// A parcel's spans again, to look at; the parcel stays in the account for them.
    pub fn of(parcel: &Parcel) -> Self {
        let (message, context) = (parcel.message.clone(), Arc::clone(&parcel.context));
        Self { message, spans: parcel.spans, index: None, context, held: Held::default() }
    }

    /// How many spans are still in it.
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// The index, made now where the receiver did not. It fails only on bytes
    /// that no receiver has validated.
    pub fn index(&mut self) -> Result<&mut Index, WireError> {
        let index = match self.index.take() {
            Some(index) => index,
            None => {
                let mut walked = walk::index(&self.message.bytes())?;
                if walked.index.irregular {
                    walked = walk::index(&regular::regular(&self.message.bytes()).into())?;
                }
                Box::new(walked.index)
            }
        };
        Ok(self.index.insert(index))
    }

    /// The index, where there is one.
    pub fn indexed(&self) -> Option<&Index> {
        self.index.as_deref()
    }

    /// Applies the edits of one call together.
    pub fn apply(&mut self, edits: Vec<Edit>) -> Result<Vec<Dropped>, WireError> {
        let dropped = self.index()?.apply(edits);
        self.spans -= dropped.iter().map(|dropped| dropped.spans.len()).sum::<usize>();
        Ok(dropped)
    }

    /// The end of the chain: the bytes as they came, or spliced; one parcel for each tenant.
    pub fn finish(self) -> Vec<Parcel> {
        let Self { message, spans, index, context, mut held } = self;
        let Some(index) = index.filter(|index| index.dirty) else {
            return vec![Parcel { message, spans, context, held }];
        };
        let mut tenants: Vec<u32> = vec![];
        for span in index.spans.iter().filter(|span| span.live) {
            if !tenants.contains(&span.tenant) {
                tenants.push(span.tenant);
            }
        }
        let single = tenants.len() == 1;
        let is_whole = single && spans == index.spans.len();
        let parcel = |tenant: u32| {
            let chosen = if single { Chosen::All } else { Chosen::Tenant(tenant) };
            let room = index.wire.len() + index.growth;
            let (message, spans) = Splice { index: &index, chosen, room }.write();
            let mut context = Arc::clone(&context);
            if tenant > 0 {
                Arc::make_mut(&mut context).tenant = index.tenants.get(tenant as usize).cloned();
            }
            let traces = if is_whole { held.traces().clone() } else { index.traces(chosen) };
            Parcel { message, spans, context, held: held.split(spans, traces) }
        };
        tenants.into_iter().map(parcel).collect()
    }
}

impl Parcel {
    /// Spans that nobody keeps an account of.
    pub fn new(message: Message, spans: usize, context: Arc<Context>) -> Self {
        Self { message, spans, context, held: Held::default() }
    }

    /// Reads a request again that was kept somewhere; its spans are in no account yet.
    pub fn read(message: Message, context: Arc<Context>) -> Result<Self, WireError> {
        let walked = walk::validate(&message.bytes())?;
        let held = Held::of(walked.spans, Traces::of(&walked.marks));
        Ok(Self { message, spans: walked.spans, context, held })
    }

    /// The ids of its spans, which it is walked for: not for the usual way.
    pub fn span_ids(&self) -> Vec<SpanIds> {
        walk::index(&self.message.bytes()).map(|walked| walked.index.live_ids()).unwrap_or_default()
    }

    /// The traces of its spans, which it is walked for.
    pub fn traces(&self) -> Traces {
        walk::validate(&self.message.bytes()).map(|walked| Traces::of(&walked.marks)).unwrap_or_default()
    }

    /// Cuts it into parts as [`split`] does, and its place in the account with it.
    /// None where it is one part, which it stays.
    pub fn split(&mut self, max_spans: usize, max_bytes: usize) -> Result<Option<Vec<Self>>, WireError> {
        let mut parts = split(&self.message, max_spans, max_bytes)?;
        if parts.len() < 2 {
            return Ok(None);
        }
        for part in &mut parts {
            part.context = Arc::clone(&self.context);
            part.held = self.held.split(part.spans, part.held.traces().clone());
        }
        Ok(Some(parts))
    }
}

/// Several requests as one: a protobuf message merges by concatenation.
pub fn concatenate<'a>(messages: impl IntoIterator<Item = &'a Message> + Clone) -> Message {
    let mut buffer = Vec::with_capacity(PREFIX + messages.clone().into_iter().map(Message::len).sum::<usize>());
    buffer.resize(PREFIX, 0);
    for message in messages {
        buffer.extend_from_slice(&message.bytes());
    }
    Message::from_framed(buffer)
}

/// Cuts a request at span boundaries into requests of at most `max_spans` spans
/// and `max_bytes` bytes; each repeats resource and scope. A span that is larger
/// than `max_bytes` by itself makes a request of its own; what is small enough
/// stays as it is.
pub fn split(message: &Message, max_spans: usize, max_bytes: usize) -> Result<Vec<Parcel>, WireError> {
    let parcel = Parcel::new(message.clone(), 0, Arc::default());
    let mut batch = Batch::of(&parcel);
    let index = batch.index()?;
    if message.len() <= max_bytes && index.spans.len() <= max_spans {
        return Ok(vec![Parcel { spans: index.spans.len(), ..parcel }]);
    }
    let mut parcels = vec![];
    let (outside, sizes) = envelopes(index);
    let (mut from, mut spans, mut bytes) = (0, 0, outside);
    let mut within = u32::MAX;
    let mut cut = |from: u32, to: u32, room: usize| {
        let (message, spans) = Splice { index, chosen: Chosen::Range(from, to), room }.write();
        let held = Held::of(spans, index.traces(Chosen::Range(from, to)));
        parcels.push(Parcel { message, spans, context: Arc::default(), held });
    };
    for span in &index.spans {
        let size = (span.extent.end - span.extent.start) as usize;
        let envelope = sizes.get(span.scope as usize).copied().unwrap_or_default();
        let mut more = if within == span.scope { size } else { size + envelope };
        if spans > 0 && (spans + 1 > max_spans || bytes + more > max_bytes) {
            cut(from, span.entry, bytes);
            (from, spans, bytes) = (span.entry, 0, outside);
            more = size + envelope;
        }
        within = span.scope;
        spans += 1;
        bytes += more;
    }
    if spans > 0 {
        cut(from, index.spans.len() as u32, bytes);
    }
    Ok(parcels)
}

/// What the request takes beside its resources, and what each scope and the
/// resource around it take beside the spans, length prefixes at their longest.
fn envelopes(index: &Index) -> (usize, Vec<usize>) {
    let mut sizes = Vec::with_capacity(index.scopes.len());
    let mut outside = index.wire.len();
    for resource in &index.resources {
        outside -= (resource.extent.end - resource.extent.start) as usize;
        let scopes = index.scopes.get(resource.scopes.range()).unwrap_or_default();
        let inside: u32 = scopes.iter().map(|scope| scope.extent.end - scope.extent.start).sum();
        let around = resource.extent.end - resource.extent.start - inside + 8;
        for scope in scopes {
            let spans = index.spans.get(scope.spans.range()).unwrap_or_default();
            let inside: u32 = spans.iter().map(|span| span.extent.end - span.extent.start).sum();
            sizes.push((around + scope.extent.end - scope.extent.start - inside + 8) as usize);
        }
    }
    (outside, sizes)
}
