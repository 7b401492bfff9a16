//! Puts together what OTLP has once but the bytes have twice.
//!
//! Protobuf merges a message field that occurs twice, and the merged message is
//! the two contents one behind the other. Nobody sends such requests but tests
//! and attackers; so the index and the splice know one message each, and a
//! request that has two is rewritten once, before a plugin edits it.

use super::wire::{LENGTH, fields, push_varint};

/// A message type: for each field that holds a message of interest, its number,
/// its type, and whether OTLP has it once.
struct Shape(&'static [(u32, &'static Shape, bool)]);

static ANY_VALUE: Shape = Shape(&[]);
static KEY_VALUE: Shape = Shape(&[(2, &ANY_VALUE, true)]);
static RESOURCE: Shape = Shape(&[(1, &KEY_VALUE, false)]);
static SCOPE: Shape = Shape(&[(3, &KEY_VALUE, false)]);
static STATUS: Shape = Shape(&[]);
static EVENT: Shape = Shape(&[(3, &KEY_VALUE, false)]);
static LINK: Shape = Shape(&[(4, &KEY_VALUE, false)]);
static SPAN: Shape = Shape(&[(9, &KEY_VALUE, false), (11, &EVENT, false), (13, &LINK, false), (15, &STATUS, true)]);
static SCOPE_SPANS: Shape = Shape(&[(1, &SCOPE, true), (2, &SPAN, false)]);
static RESOURCE_SPANS: Shape = Shape(&[(1, &RESOURCE, true), (2, &SCOPE_SPANS, false)]);
static REQUEST: Shape = Shape(&[(1, &RESOURCE_SPANS, false)]);

/// The same request with each such message in one piece, where its first piece was.
pub(super) fn regular(request: &[u8]) -> Vec<u8> {
    rewrite(request, &REQUEST)
}

fn rewrite(content: &[u8], shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    let mut merged: Vec<u32> = vec![];
    for field in fields(content, 0, content.len()) {
        let known = shape.0.iter().find(|&&(number, ..)| number == field.number && field.kind == LENGTH);
        let Some(&(number, inner, once)) = known else {
            out.extend_from_slice(content.get(field.start..field.end).unwrap_or_default());
            continue;
        };
        let mut whole = content.get(field.value..field.end).unwrap_or_default().to_vec();
        if once {
            if merged.contains(&number) {
                continue;
            }
            merged.push(number);
            for more in fields(content, field.end, content.len()).filter(|more| more.number == number) {
                whole.extend_from_slice(content.get(more.value..more.end).unwrap_or_default());
            }
        }
        let whole = rewrite(&whole, inner);
        push_varint(&mut out, u64::from(number << 3 | u32::from(LENGTH)));
        push_varint(&mut out, whole.len() as u64);
        out.extend_from_slice(&whole);
    }
    out
}
