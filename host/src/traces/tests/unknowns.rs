//! Where in a request the unknown fields stand.

use std::collections::HashMap;

use super::encoder::{Level, Node, parse};
use crate::traces::Owner;

/// An unknown field: the kind of message it stands in, the entry of the span,
/// resource, scope, event or link around it, and the attribute around it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unknown {
    pub level: Level,
    pub owner: Option<(usize, usize)>,
    pub key: Option<String>,
    /// Inside an array or a key-value list.
    pub nested: bool,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Default)]
struct Place {
    owner: Option<(usize, usize)>,
    key: Option<String>,
    nested: bool,
}

/// All unknown fields of a request that has each singular message once.
pub fn unknowns(request: &[u8]) -> HashMap<Unknown, usize> {
    let mut found = HashMap::new();
    let mut counts = [0; 5];
    collect(Level::Request, &parse(Level::Request, request), &Place::default(), &mut counts, &mut found);
    found
}

fn collect(level: Level, nodes: &[Node], place: &Place, counts: &mut [usize; 5], found: &mut HashMap<Unknown, usize>) {
    for node in nodes {
        match node {
            Node::Scalar { .. } => {}
            Node::Unknown(bytes) => {
                let Place { owner, key, nested } = place.clone();
                *found.entry(Unknown { level, owner, key, nested, bytes: bytes.clone() }).or_default() += 1;
            }
            Node::Message { level, fields, .. } => {
                let mut inner = place.clone();
                let owner = match level {
                    Level::ResourceSpans => Some(Owner::Resource),
                    Level::ScopeSpans => Some(Owner::Scope),
                    Level::Span => Some(Owner::Span),
                    Level::Event => Some(Owner::Event),
                    Level::Link => Some(Owner::Link),
                    _ => None,
                };
                if let Some(owner) = owner {
                    inner.owner = Some((owner as usize, counts[owner as usize]));
                    counts[owner as usize] += 1;
                }
                match level {
                    Level::KeyValue if place.key.is_none() => inner.key = Some(key_of(fields)),
                    Level::Array | Level::KeyValues => inner.nested = true,
                    _ => {}
                }
                collect(*level, fields, &inner, counts, found);
            }
        }
    }
}

fn key_of(fields: &[Node]) -> String {
    let mut keys = fields.iter().filter_map(|node| match node {
        Node::Scalar { number: 1, value, .. } => Some(value),
        _ => None,
    });
    keys.next_back().map(|key| String::from_utf8(key.clone()).unwrap()).unwrap_or_default()
}
