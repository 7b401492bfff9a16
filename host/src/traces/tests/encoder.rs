//! Every way in which the wire may say the same, and a few in which it may say
//! more: fields in any order, unknown ones, zeros written out, messages in two
//! pieces, scalars twice, numbers longer than they need to be.

use super::super::wire::{FIXED32, FIXED64, LENGTH, VARINT, fields, push_varint};
use crate::traces::fuzz::Choices;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    Request,
    ResourceSpans,
    Resource,
    EntityRef,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    Array,
    KeyValues,
}

/// One field of a message.
#[derive(Debug, Clone)]
pub enum Node {
    Message {
        number: u32,
        level: Level,
        fields: Vec<Node>,
    },
    /// A known field that holds no message; the value is without its length.
    Scalar {
        number: u32,
        kind: u8,
        value: Vec<u8>,
    },
    /// A field that OTLP does not know, tag included.
    Unknown(Vec<u8>),
}

impl Level {
    fn inner(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::Request, 1) => Self::ResourceSpans,
            (Self::ResourceSpans, 1) => Self::Resource,
            (Self::ResourceSpans, 2) => Self::ScopeSpans,
            (Self::Resource, 3) => Self::EntityRef,
            (Self::ScopeSpans, 1) => Self::Scope,
            (Self::ScopeSpans, 2) => Self::Span,
            (Self::Span, 11) => Self::Event,
            (Self::Span, 13) => Self::Link,
            (Self::Span, 15) => Self::Status,
            (Self::Resource, 1) | (Self::Scope | Self::Event, 3) | (Self::Link, 4) | (Self::Span, 9) => Self::KeyValue,
            (Self::KeyValue, 2) | (Self::Array, 1) => Self::AnyValue,
            (Self::AnyValue, 5) => Self::Array,
            (Self::AnyValue, 6) => Self::KeyValues,
            (Self::KeyValues, 1) => Self::KeyValue,
            _ => return None,
        })
    }

    /// The fields of a number or a text, with the wire type of each.
    fn scalars(self) -> &'static [(u32, u8)] {
        match self {
            Self::ResourceSpans | Self::ScopeSpans => &[(3, LENGTH)],
            Self::Resource => &[(2, VARINT)],
            Self::EntityRef => &[(1, LENGTH), (2, LENGTH), (3, LENGTH), (4, LENGTH)],
            Self::Scope => &[(1, LENGTH), (2, LENGTH), (4, VARINT)],
            Self::Span => &[
                (1, LENGTH),
                (2, LENGTH),
                (3, LENGTH),
                (4, LENGTH),
                (5, LENGTH),
                (6, VARINT),
                (7, FIXED64),
                (8, FIXED64),
                (10, VARINT),
                (12, VARINT),
                (14, VARINT),
                (16, FIXED32),
            ],
            Self::Event => &[(1, FIXED64), (2, LENGTH), (4, VARINT)],
            Self::Link => &[(1, LENGTH), (2, LENGTH), (3, LENGTH), (5, VARINT), (6, FIXED32)],
            Self::Status => &[(2, LENGTH), (3, VARINT)],
            Self::KeyValue => &[(1, LENGTH)],
            Self::AnyValue => &[(1, LENGTH), (2, VARINT), (3, VARINT), (4, FIXED64), (7, LENGTH)],
            Self::Request | Self::Array | Self::KeyValues => &[],
        }
    }

    fn is_id(self, number: u32) -> bool {
        matches!((self, number), (Self::Span, 1 | 2 | 4) | (Self::Link, 1 | 2))
    }
}

/// The fields of valid bytes.
pub fn parse(level: Level, bytes: &[u8]) -> Vec<Node> {
    let each = |field: super::super::wire::Field| {
        let number = field.number;
        let value = &bytes[field.value..field.end];
        if let Some(inner) = level.inner(number) {
            return Node::Message { number, level: inner, fields: parse(inner, value) };
        }
        match level.scalars().iter().any(|&(known, _)| known == number) {
            true => Node::Scalar { number, kind: field.kind, value: value.into() },
            false => Node::Unknown(bytes[field.start..field.end].into()),
        }
    };
    fields(bytes, 0, bytes.len()).map(each).collect()
}

/// What is done to a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    pub descending: bool,
    pub shuffled: bool,
    pub unknown: bool,
    pub zeros: bool,
    pub pieces: bool,
    pub repeated: bool,
    pub padded: bool,
}

impl Style {
    pub fn any(choices: &mut Choices) -> Self {
        let bits = choices.byte();
        let on = |bit: u8| bits & (1 << bit) != 0;
        Self {
            descending: on(0),
            shuffled: on(1),
            unknown: on(2),
            zeros: on(3),
            pieces: on(4),
            repeated: on(5),
            padded: on(6),
        }
    }
}

pub struct Encoder<'a, 'b> {
    pub choices: &'a mut Choices<'b>,
    pub style: Style,
    unknowns: u32,
}

/// The request as the style says it.
pub fn encode(request: &[u8], choices: &mut Choices, style: Style) -> Vec<u8> {
    let mut encoder = Encoder { choices, style, unknowns: 0 };
    let mut nodes = parse(Level::Request, request);
    encoder.distort(Level::Request, &mut nodes);
    let mut out = vec![];
    encoder.write(&nodes, &mut out);
    out
}

impl Encoder<'_, '_> {
    fn distort(&mut self, level: Level, nodes: &mut Vec<Node>) {
        for node in nodes.iter_mut() {
            if let Node::Message { level, fields, .. } = node {
                self.distort(*level, fields);
            }
        }
        if self.style.zeros {
            for &(number, kind) in level.scalars() {
                let absent = !nodes.iter().any(|node| matches!(node, Node::Scalar { number: it, .. } if *it == number));
                if absent && level != Level::AnyValue && self.choices.once_in(2) {
                    nodes.push(Node::Scalar { number, kind, value: zero(kind) });
                }
            }
        }
        if self.style.repeated && self.choices.once_in(3) {
            let scalars = level.scalars();
            if let Some(&(number, kind)) = scalars.get(self.choices.below(scalars.len())) {
                nodes.insert(0, Node::Scalar { number, kind, value: other(level, number, kind) });
            }
        }
        if self.style.pieces {
            self.cut(nodes);
        }
        if self.style.unknown {
            while self.choices.once_in(3) {
                let unknown = self.unknown();
                nodes.insert(self.choices.below(nodes.len() + 1), unknown);
            }
        }
        if self.style.descending {
            nodes.reverse();
        }
        if self.style.shuffled {
            for at in (1..nodes.len()).rev() {
                nodes.swap(at, self.choices.below(at + 1));
            }
        }
    }

    /// Cuts messages that OTLP has once in two.
    fn cut(&mut self, nodes: &mut Vec<Node>) {
        for at in 0..nodes.len() {
            let Node::Message { number, level, fields } = &mut nodes[at] else { continue };
            let once = matches!(level, Level::Resource | Level::Scope | Level::Status);
            if (once || (*level == Level::AnyValue && *number == 2)) && self.choices.once_in(2) {
                let rest = fields.split_off(self.choices.below(fields.len() + 1));
                let rest = Node::Message { number: *number, level: *level, fields: rest };
                nodes.insert(at + 1 + self.choices.below(nodes.len() - at), rest);
            }
        }
    }

    /// A field of a number and a content that no other has.
    fn unknown(&mut self) -> Node {
        self.unknowns += 1;
        let mark = u64::from(self.unknowns);
        let number = [100, 17, 2047, (1 << 29) - 1][self.choices.below(4)];
        let mut out = vec![];
        let field = |number: u32, kind: u8, out: &mut Vec<u8>| {
            push_varint(out, u64::from(number << 3 | u32::from(kind)));
            match kind {
                VARINT => push_varint(out, mark << 40),
                FIXED64 => out.extend(mark.to_le_bytes()),
                FIXED32 => out.extend((mark as u32).to_le_bytes()),
                _ => {
                    let content = format!("\u{1f41d}unknown {mark}");
                    push_varint(out, content.len() as u64);
                    out.extend(content.as_bytes());
                }
            }
        };
        match self.choices.below(5) {
            0 => field(number, LENGTH, &mut out),
            1 => field(number, VARINT, &mut out),
            2 => field(number, FIXED64, &mut out),
            3 => field(number, FIXED32, &mut out),
            _ => {
                push_varint(&mut out, u64::from(number << 3 | 3));
                field(1, LENGTH, &mut out);
                push_varint(&mut out, 2 << 3 | 3);
                field(9, VARINT, &mut out);
                push_varint(&mut out, 2 << 3 | 4);
                push_varint(&mut out, u64::from(number << 3 | 4));
            }
        }
        Node::Unknown(out)
    }

    fn write(&mut self, nodes: &[Node], out: &mut Vec<u8>) {
        for node in nodes {
            match node {
                Node::Unknown(bytes) => out.extend(bytes),
                Node::Message { number, fields, .. } => {
                    let mut content = vec![];
                    self.write(fields, &mut content);
                    self.number(u64::from(number << 3 | u32::from(LENGTH)), out);
                    self.number(content.len() as u64, out);
                    out.extend(content);
                }
                Node::Scalar { number, kind, value } => {
                    self.number(u64::from(number << 3 | u32::from(*kind)), out);
                    if *kind == LENGTH {
                        self.number(value.len() as u64, out);
                    }
                    out.extend(value);
                }
            }
        }
    }

    /// A tag or a length, sometimes in more bytes than it needs.
    fn number(&mut self, value: u64, out: &mut Vec<u8>) {
        push_varint(out, value);
        if self.style.padded && self.choices.once_in(3) {
            if let Some(last) = out.last_mut() {
                *last |= 0x80;
            }
            out.extend([0x80, 0x00]);
        }
    }
}

fn zero(kind: u8) -> Vec<u8> {
    match kind {
        VARINT => vec![0],
        FIXED64 => vec![0; 8],
        FIXED32 => vec![0; 4],
        _ => vec![],
    }
}

/// A value that the field's real one overrides where it stands behind.
fn other(level: Level, number: u32, kind: u8) -> Vec<u8> {
    match kind {
        LENGTH if level.is_id(number) => vec![0xee; if number == 1 { 16 } else { 8 }],
        LENGTH => b"overridden".into(),
        // Longer than an enumeration, so that its upper bits do not count.
        VARINT => vec![0x81, 0x80, 0x80, 0x80, 0x10],
        kind => zero(kind).iter().map(|_| 0x33).collect(),
    }
}
