//! A batch in memory and how a test writes one.

use crate::types::{Owner, Value};
use crate::{SpanId, SpanKind, StatusCode, TraceId};

/// Attributes in order; as in OTLP, a key may come more than once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(pub Vec<(String, Value)>);

impl Attributes {
    /// The first value under the key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.all(key).next()
    }

    /// Every value under the key.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &Value> {
        let found = self.0.iter().filter(move |(other, _)| other == key);
        found.map(|(_, value)| value)
    }

    /// Leaves exactly one attribute of the key, in the first one's place or at
    /// the end.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        match self.0.iter().position(|(other, _)| other == key) {
            None => self.0.push((key.to_owned(), value)),
            Some(first) => {
                self.0[first].1 = value;
                let mut place = 0;
                self.0.retain(|(other, _)| {
                    place += 1;
                    other != key || place - 1 == first
                });
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.0.retain(|(other, _)| other != key);
    }

    fn push(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.to_owned(), value.into()));
    }
}

/// Writes the builder and readers of a type that has `attributes`.
macro_rules! has_attributes {
    ($type:ident) => {
        impl $type {
            /// Appends an attribute, even where the key is there already.
            pub fn attribute(mut self, key: &str, value: impl Into<Value>) -> Self {
                self.attributes.push(key, value);
                self
            }

            /// The first value under the key.
            pub fn get(&self, key: &str) -> Option<&Value> {
                self.attributes.get(key)
            }

            /// The first value under the key, if it is a text.
            pub fn text(&self, key: &str) -> Option<&str> {
                self.get(key).and_then(Value::as_text)
            }
        }
    };
}

/// What sent the spans.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource {
    pub attributes: Attributes,
}

/// The instrumentation scope of spans.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    pub name: String,
    pub version: String,
    pub attributes: Attributes,
}

/// An event of a span.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    pub name: String,
    pub attributes: Attributes,
}

/// A link of a span.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Link {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub attributes: Attributes,
}

/// A span's status.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    pub code: StatusCode,
    pub message: String,
}

/// A span, with its rows among the resources and scopes of its [`Traces`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Span {
    pub resource: usize,
    pub scope: usize,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// All zero for a root span.
    pub parent_span_id: SpanId,
    pub name: String,
    pub kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub start_time: u64,
    /// Nanoseconds since the Unix epoch.
    pub end_time: u64,
    pub status: Status,
    pub trace_state: String,
    /// W3C trace flags in the lowest 8 bits.
    pub flags: u32,
    pub attributes: Attributes,
    pub events: Vec<Event>,
    pub links: Vec<Link>,
    /// Tempo's tenant, where an edit set one.
    pub tenant: Option<String>,
}

has_attributes!(Resource);
has_attributes!(Scope);
has_attributes!(Event);
has_attributes!(Link);
has_attributes!(Span);

impl Resource {
    pub fn new() -> Self {
        Self::default()
    }
}

impl Scope {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn named(name: &str, version: &str) -> Self {
        Self { name: name.to_owned(), version: version.to_owned(), ..Self::default() }
    }
}

impl Event {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

impl Link {
    pub fn new(trace_id: TraceId, span_id: SpanId) -> Self {
        Self { trace_id, span_id, attributes: Attributes::default() }
    }
}

impl Span {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub fn ids(mut self, trace_id: TraceId, span_id: SpanId) -> Self {
        self.trace_id = trace_id;
        self.span_id = span_id;
        self
    }

    pub fn parent(mut self, parent: SpanId) -> Self {
        self.parent_span_id = parent;
        self
    }

    pub fn kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// Start and end, nanoseconds since the Unix epoch.
    pub fn times(mut self, start: u64, end: u64) -> Self {
        self.start_time = start;
        self.end_time = end;
        self
    }

    pub fn status(mut self, code: StatusCode, message: &str) -> Self {
        self.status = Status { code, message: message.to_owned() };
        self
    }

    pub fn trace_state(mut self, trace_state: &str) -> Self {
        self.trace_state = trace_state.to_owned();
        self
    }

    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    pub fn event(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    pub fn link(mut self, link: Link) -> Self {
        self.links.push(link);
        self
    }
}

/// A batch in memory. A span belongs to the resource and the scope added last;
/// without one it gets an empty one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traces {
    pub metadata: Vec<(String, Vec<String>)>,
    pub auth: Vec<(String, Vec<String>)>,
    pub client_address: String,
    /// `grpc` or `http`, or empty.
    pub transport: String,
    pub resources: Vec<Resource>,
    pub scopes: Vec<Scope>,
    pub spans: Vec<Span>,
    /// Whether the last scope belongs to an earlier resource.
    needs_scope: bool,
}

impl Traces {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn metadata(mut self, key: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.metadata.push((key.to_owned(), values));
        self
    }

    /// What the receiver's authenticator knows of the sender.
    pub fn auth(mut self, key: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.auth.push((key.to_owned(), values));
        self
    }

    /// Where the batch came from: `grpc` or `http`, and the sender's address and port.
    pub fn client(mut self, transport: &str, address: &str) -> Self {
        (self.transport, self.client_address) = (transport.to_owned(), address.to_owned());
        self
    }

    /// Starts a resource.
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resources.push(resource);
        self.needs_scope = true;
        self
    }

    /// Starts a scope in the current resource.
    pub fn scope(mut self, scope: Scope) -> Self {
        if self.resources.is_empty() {
            self.resources.push(Resource::new());
        }
        self.scopes.push(scope);
        self.needs_scope = false;
        self
    }

    /// Adds a span. One without ids gets trace 1 and its own row + 1.
    pub fn span(mut self, mut span: Span) -> Self {
        if self.needs_scope || self.scopes.is_empty() {
            self = self.scope(Scope::new());
        }
        span.resource = self.resources.len() - 1;
        span.scope = self.scopes.len() - 1;
        if span.trace_id.is_zero() {
            span.trace_id.0[15] = 1;
        }
        if span.span_id.is_zero() {
            span.span_id.0 = (self.spans.len() as u64 + 1).to_be_bytes();
        }
        self.spans.push(span);
        self
    }

    /// The attributes of every row of the owner, in row order.
    pub fn attributes(&self, of: Owner) -> Vec<&Attributes> {
        let spans = self.spans.iter();
        match of {
            Owner::Span => spans.map(|span| &span.attributes).collect(),
            Owner::Resource => self.resources.iter().map(|r| &r.attributes).collect(),
            Owner::Scope => self.scopes.iter().map(|s| &s.attributes).collect(),
            Owner::Event => spans.flat_map(|span| span.events.iter().map(|event| &event.attributes)).collect(),
            Owner::Link => spans.flat_map(|span| span.links.iter().map(|link| &link.attributes)).collect(),
        }
    }

    pub(crate) fn attributes_mut(&mut self, of: Owner) -> Vec<&mut Attributes> {
        let spans = self.spans.iter_mut();
        match of {
            Owner::Span => spans.map(|span| &mut span.attributes).collect(),
            Owner::Resource => (self.resources.iter_mut()).map(|r| &mut r.attributes).collect(),
            Owner::Scope => self.scopes.iter_mut().map(|s| &mut s.attributes).collect(),
            Owner::Event => spans.flat_map(|span| span.events.iter_mut().map(|event| &mut event.attributes)).collect(),
            Owner::Link => spans.flat_map(|span| span.links.iter_mut().map(|link| &mut link.attributes)).collect(),
        }
    }
}
