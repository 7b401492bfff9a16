//! Wire bytes to JSON.
//!
//! A message's fields are noted first and then written, in the order of the
//! table whatever it was on the wire: fields of one number may stand apart there
//! and belong in one list, and a message in several pieces is what the pieces
//! are one behind the other.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::message::Message;
use super::super::walk::VALUE_DEPTH;
use super::super::wire::{Fault, LENGTH, Wire, WireError, is_utf8, length, skip, tag, varint};
use super::scan::plain_end;
use super::shape::{ANY_VALUE, Field, Kind, REQUEST, Shape};

/// A request as OTLP JSON. Unknown fields have no place there and are left out;
/// fields that are there are written, default or not.
pub fn encode_request(message: &Message) -> Result<Vec<u8>, WireError> {
    encode(&message.bytes(), &REQUEST)
}

/// The JSON of an `AnyValue`'s content.
pub(in super::super) fn encode_value(content: &[u8]) -> Result<String, WireError> {
    let json = encode(content, &ANY_VALUE)?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

fn encode(wire: &[u8], shape: &'static Shape) -> Wire<Vec<u8>> {
    // OTLP as JSON takes a bit more than twice the room.
    let out = Vec::with_capacity(wire.len() / 2 * 5);
    let mut encoder = Encoder { wire, out, pieces: vec![], depth: VALUE_DEPTH };
    encoder.pieces.push(Piece { field: 0, start: 0, end: wire.len() });
    encoder.message(shape, 0..1)?;
    Ok(encoder.out)
}

/// The two digits of each byte.
static HEXADECIMAL: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    table
};

struct Encoder<'a> {
    wire: &'a [u8],
    out: Vec<u8>,
    /// The fields of the messages around, each message's in a row.
    pieces: Vec<Piece>,
    /// How many values there may still be within each other.
    depth: u32,
}

/// A field's value on the wire, without tag and length.
#[derive(Clone, Copy)]
struct Piece {
    /// The field's place in its shape.
    field: u8,
    start: usize,
    end: usize,
}

impl Encoder<'_> {
    /// The message whose content is these pieces, one behind the other.
    fn message(&mut self, shape: &'static Shape, parts: Range<usize>) -> Wire<()> {
        if shape.is_value {
            if self.depth == 0 {
                let at = self.pieces.get(parts.start).map_or(0, |piece| piece.start);
                return Err(Fault::Nesting(VALUE_DEPTH).at(at));
            }
            self.depth -= 1;
        }
        let first = self.pieces.len();
        for part in parts {
            if let Some(&Piece { start, end, .. }) = self.pieces.get(part) {
                self.note(shape, start, end)?;
            }
        }
        let noted = self.pieces.get_mut(first..).unwrap_or_default();
        let mut at = first;
        if shape.is_value {
            // Of several members the last counts.
            let last = noted.last().map(|piece| piece.field);
            at += noted.len() - noted.iter().rev().take_while(|piece| Some(piece.field) == last).count();
        } else if !noted.is_sorted_by_key(|piece| piece.field) {
            noted.sort_by_key(|piece| piece.field);
        }
        self.fields(shape, at)?;
        self.pieces.truncate(first);
        self.depth += u32::from(shape.is_value);
        Ok(())
    }

    /// Notes the known fields between `start` and `end`.
    fn note(&mut self, shape: &'static Shape, start: usize, end: usize) -> Wire<()> {
        let (mut at, mut last) = (start, 0);
        while at < end {
            let (number, kind, value) = tag(self.wire, at)?;
            let stop = skip(self.wire, number, kind, value, end)?;
            if let Some((place, field)) = shape.find(number, last) {
                last = place;
                if kind != field.kind.wire() {
                    return Err(Fault::WireType(field.snake).at(at));
                }
                let start = if kind == LENGTH { length(self.wire, value, end)?.0 } else { value };
                self.pieces.push(Piece { field: place as u8, start, end: stop });
            }
            at = stop;
        }
        Ok(())
    }

    /// Writes the object of the pieces from `at` on, which are in groups.
    fn fields(&mut self, shape: &'static Shape, at: usize) -> Wire<()> {
        let (mut at, end) = (at, self.pieces.len());
        self.out.push(b'{');
        let mut comma = false;
        if let Some(first) = shape.fields.first().filter(|_| shape.complete)
            && self.pieces.get(at).is_none_or(|piece| piece.field > 0)
        {
            self.out.extend_from_slice(first.label.as_bytes());
            self.out.extend_from_slice(if first.repeated { b"[]" } else { b"\"\"" });
            comma = true;
        }
        while let Some(&Piece { field: place, .. }) = self.pieces.get(at).filter(|_| at < end) {
            let group = self.pieces.get(at..end).unwrap_or_default();
            let stop = at + group.iter().take_while(|piece| piece.field == place).count();
            if comma {
                self.out.push(b',');
            }
            comma = true;
            if let Some(field) = shape.fields.get(usize::from(place)) {
                self.out.extend_from_slice(field.label.as_bytes());
                self.group(field, at..stop)?;
            }
            at = stop;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Writes what the pieces of one field are.
    fn group(&mut self, field: &'static Field, pieces: Range<usize>) -> Wire<()> {
        match field.kind {
            Kind::Message(shape) if !field.repeated => self.message(shape, pieces),
            _ if !field.repeated => self.value(field, pieces.end - 1),
            _ => {
                self.out.push(b'[');
                for (count, piece) in pieces.enumerate() {
                    if count > 0 {
                        self.out.push(b',');
                    }
                    self.value(field, piece)?;
                }
                self.out.push(b']');
                Ok(())
            }
        }
    }

    fn value(&mut self, field: &'static Field, place: usize) -> Wire<()> {
        let Some(&Piece { start, end, .. }) = self.pieces.get(place) else { return Ok(()) };
        let bytes = self.wire.get(start..end).unwrap_or_default();
        match field.kind {
            Kind::Message(shape) => self.message(shape, place..place + 1)?,
            Kind::Text => {
                if !is_utf8(bytes) {
                    return Err(Fault::Utf8(field.snake).at(start));
                }
                self.text(bytes);
            }
            Kind::Id(_) => self.id(bytes),
            Kind::Bytes => {
                self.out.push(b'"');
                self.out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                self.out.push(b'"');
            }
            Kind::Boolean => {
                let value = varint(bytes, 0)?.0 != 0;
                self.out.extend_from_slice(if value { b"true" } else { b"false" });
            }
            Kind::Int64 => self.quoted(varint(bytes, 0)?.0 as i64),
            Kind::Fixed64 => self.quoted(u64::from_le_bytes(array(bytes))),
            Kind::Uint32 => self.number(varint(bytes, 0)?.0 as u32),
            Kind::Fixed32 => self.number(u32::from_le_bytes(array(bytes))),
            Kind::Enumeration(_) => self.number(varint(bytes, 0)?.0 as i32),
            Kind::Double => match f64::from_le_bytes(array(bytes)) {
                value if value.is_nan() => self.out.extend_from_slice(b"\"NaN\""),
                f64::INFINITY => self.out.extend_from_slice(b"\"Infinity\""),
                f64::NEG_INFINITY => self.out.extend_from_slice(b"\"-Infinity\""),
                value => self.number(value),
            },
        }
        Ok(())
    }

    fn number(&mut self, value: impl serde::Serialize) {
        // Nothing can fail: a vector takes all, and numbers have no shape to refuse.
        let _ = serde_json::to_writer(&mut self.out, &value);
    }

    fn quoted(&mut self, value: impl serde::Serialize) {
        self.out.push(b'"');
        self.number(value);
        self.out.push(b'"');
    }

    fn id(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        for byte in bytes {
            self.out.extend_from_slice(&HEXADECIMAL[usize::from(*byte)]);
        }
        self.out.push(b'"');
    }

    fn text(&mut self, text: &[u8]) {
        self.out.push(b'"');
        let mut at = 0;
        loop {
            let end = plain_end(text, at);
            self.out.extend_from_slice(text.get(at..end).unwrap_or_default());
            let Some(&byte) = text.get(end) else { break };
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                _ => {
                    self.out.extend_from_slice(b"\\u00");
                    self.out.extend_from_slice(&HEXADECIMAL[usize::from(byte)]);
                }
            }
            at = end + 1;
        }
        self.out.push(b'"');
    }
}

/// A fixed number's bytes; the wire type has said how many there are.
fn array<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    bytes.first_chunk().copied().unwrap_or([0; LEN])
}
