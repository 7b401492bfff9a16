//! JSON to wire bytes, in one pass.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::message::{Message, PREFIX};
use super::super::walk::{MESSAGE_LIMIT, VALUE_DEPTH};
use super::super::wire::{FIXED32, FIXED64, LENGTH, VARINT, push_field, push_varint, varint_length};
use super::error::{OtlpJsonError, Parsed, excerpt, fault, too_large};
use super::number;
use super::scan::Scanner;
use super::shape::{ANY_VALUE, Field, Kind, REQUEST, Shape};

/// Base64 comes with padding or without, as in protobuf's JSON.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// An `ExportTraceServiceRequest` in OTLP JSON as wire bytes, at most `limit` of them.
pub fn decode_request(json: &[u8], limit: usize) -> Result<Message, OtlpJsonError> {
    let limit = limit.min(MESSAGE_LIMIT);
    // About half of OTLP JSON is left on the wire.
    let room = (json.len() / 2).min(limit) + PREFIX;
    let mut out = Vec::with_capacity(room);
    out.resize(PREFIX, 0);
    let decoder = Decoder::new(json, out, limit.saturating_add(PREFIX), false);
    let out = decoder.document(&REQUEST).map_err(|failure| failure.finish(json, limit))?;
    Ok(Message::from_framed(out))
}

/// The content of the `AnyValue` that the text describes. A member that OTLP does
/// not have, or a second one, is refused: a plugin wrote it, and would not notice.
pub fn decode_value(json: &str) -> Result<Vec<u8>, OtlpJsonError> {
    let decoder = Decoder::new(json.as_bytes(), vec![], MESSAGE_LIMIT, true);
    decoder.document(&ANY_VALUE).map_err(|failure| failure.finish(json.as_bytes(), MESSAGE_LIMIT))
}

/// What the length prefixes of messages that are not at their end yet may take too
/// much, so that the limit is exact only at the end.
const OPEN: usize = 512;

/// Contents move where another width was left for their length. Where values are
/// this deep within each other, the width is that of a large one: otherwise the
/// same large text would move once on each level.
const FEW_LEFT: u32 = VALUE_DEPTH - 8;
const DEEP_WIDTH: usize = 4;

struct Decoder<'a> {
    scanner: Scanner<'a>,
    out: Vec<u8>,
    /// Of `out`, with what was in it from the start.
    limit: usize,
    /// Whether unknown keys are refused.
    strict: bool,
    /// How many values there may still be within each other.
    depth: u32,
}

impl<'a> Decoder<'a> {
    fn new(json: &'a [u8], out: Vec<u8>, limit: usize, strict: bool) -> Self {
        Self { scanner: Scanner { json, at: 0 }, out, limit, strict, depth: VALUE_DEPTH }
    }

    fn document(mut self, shape: &'static Shape) -> Parsed<Vec<u8>> {
        check_encoding(self.scanner.json)?;
        self.scanner.space();
        self.message(shape)?;
        self.scanner.space();
        if self.scanner.at < self.scanner.json.len() {
            return self.scanner.unexpected("the text was expected to end here");
        }
        if self.out.len() > self.limit {
            return too_large();
        }
        Ok(self.out)
    }

    /// The content of a message, from its object.
    fn message(&mut self, shape: &'static Shape) -> Parsed<()> {
        if shape.is_value {
            if self.depth == 0 {
                return fault(self.scanner.at, format!("values are nested more than {VALUE_DEPTH} deep"));
            }
            self.depth -= 1;
        }
        self.scanner.punctuation(b'{', "an object was expected")?;
        if !self.scanner.closes(b'}') {
            self.members(shape)?;
        }
        self.depth += u32::from(shape.is_value);
        Ok(())
    }

    fn members(&mut self, shape: &'static Shape) -> Parsed<()> {
        let mut next = 0;
        let mut members = 0;
        loop {
            let at = self.scanner.at;
            match self.known_key(shape, next)? {
                Some((place, field)) => {
                    next = place + 1;
                    members += 1;
                    if self.strict && shape.is_value && members > 1 {
                        return fault(at, "a value has one member");
                    }
                    self.field(field).map_err(|failure| failure.within(field.name))?;
                }
                None if self.strict => {
                    let known: Vec<&str> = shape.fields.iter().map(|field| field.name).collect();
                    let wanted = format!("one of `{}` was expected", known.join("`, `"));
                    return fault(at, format!("{wanted}, not {}", excerpt(self.scanner.json, at)));
                }
                None => self.scanner.ignore()?,
            }
            if self.out.len() > self.limit.saturating_add(OPEN) {
                return too_large();
            }
            if !self.scanner.another(b'}')? {
                return Ok(());
            }
        }
    }

    /// Steps over a key; answers its field, and that field's place among all. The
    /// one at `next` is tried first.
    #[inline(always)]
    fn known_key(&mut self, shape: &'static Shape, next: usize) -> Parsed<Option<(usize, &'static Field)>> {
        let rest = self.scanner.json.get(self.scanner.at..).unwrap_or_default();
        if let Some(field) = shape.fields.get(next)
            && rest.starts_with(field.label.as_bytes())
        {
            self.scanner.at += field.label.len();
            self.scanner.space();
            return Ok(Some((next, field)));
        }
        let key = self.scanner.key()?;
        Ok(shape.fields.iter().enumerate().find(|(_, field)| field.is_called(&key)))
    }

    fn field(&mut self, field: &'static Field) -> Parsed<()> {
        if field.repeated {
            return self.list(field);
        }
        match field.kind {
            Kind::Double => self.double(field.number),
            _ if self.scanner.null()? => Ok(()),
            _ => self.value(field),
        }
    }

    fn list(&mut self, field: &'static Field) -> Parsed<()> {
        if self.scanner.null()? {
            return Ok(());
        }
        self.scanner.punctuation(b'[', "a list was expected")?;
        if self.scanner.closes(b']') {
            return Ok(());
        }
        let mut item = 0;
        loop {
            self.item(field).map_err(|failure| failure.at_item(item))?;
            if self.out.len() > self.limit.saturating_add(OPEN) {
                return too_large();
            }
            if !self.scanner.another(b']')? {
                return Ok(());
            }
            item += 1;
        }
    }

    /// An item that is null is absent, but for a value, whose place counts.
    fn item(&mut self, field: &'static Field) -> Parsed<()> {
        if !self.scanner.null()? {
            return self.value(field);
        }
        if matches!(field.kind, Kind::Message(shape) if shape.is_value) {
            push_field(&mut self.out, field.number, b"");
        }
        Ok(())
    }

    fn value(&mut self, field: &'static Field) -> Parsed<()> {
        let number = field.number;
        match field.kind {
            Kind::Message(shape) => {
                let width = if self.depth < FEW_LEFT { DEEP_WIDTH } else { shape.width };
                let start = self.begin(number, width);
                self.message(shape)?;
                self.end(start, width);
            }
            Kind::Text => self.text(number)?,
            Kind::Id(length) => self.id(number, length)?,
            Kind::Bytes => self.bytes(number)?,
            Kind::Double => self.double(number)?,
            Kind::Boolean => {
                let Some(value) = self.scanner.boolean() else {
                    return self.scanner.unexpected("true or false was expected");
                };
                self.varint(number, u64::from(value));
            }
            Kind::Enumeration(names) => {
                let value = self.enumeration(names)?;
                self.varint(number, i64::from(value) as u64);
            }
            Kind::Int64 => {
                let value: i64 = self.whole("a whole number of 64 bits was expected")?;
                self.varint(number, value as u64);
            }
            Kind::Uint32 => {
                let value: u32 = self.whole("a whole number from 0 to 4294967295 was expected")?;
                self.varint(number, value.into());
            }
            Kind::Fixed32 => {
                let value: u32 = self.whole("a whole number from 0 to 4294967295 was expected")?;
                self.tag(number, FIXED32);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Fixed64 => {
                let value: u64 = self.whole("a whole number from 0 to 18446744073709551615 was expected")?;
                self.tag(number, FIXED64);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn tag(&mut self, number: u32, kind: u8) {
        push_varint(&mut self.out, u64::from(number << 3 | u32::from(kind)));
    }

    fn varint(&mut self, number: u32, value: u64) {
        self.tag(number, VARINT);
        push_varint(&mut self.out, value);
    }

    /// Starts a field of a length that is not known yet; answers where its content starts.
    fn begin(&mut self, number: u32, width: usize) -> usize {
        self.tag(number, LENGTH);
        self.out.resize(self.out.len() + width, 0);
        self.out.len()
    }

    /// Writes the length before the content, which moves where another width was left for it.
    fn end(&mut self, start: usize, width: usize) {
        let end = self.out.len();
        let length = (end - start) as u64;
        let needed = varint_length(length);
        if needed > width {
            self.out.resize(end + needed - width, 0);
        }
        if needed != width {
            self.out.copy_within(start..end, start + needed - width);
            self.out.truncate(end + needed - width);
        }
        let prefix = self.out.get_mut(start - width..start - width + needed).unwrap_or_default();
        let last = prefix.len().saturating_sub(1);
        for (at, byte) in prefix.iter_mut().enumerate() {
            let more = if at < last { 0x80 } else { 0 };
            *byte = (length >> (7 * at)) as u8 & 0x7f | more;
        }
    }

    fn quoted(&self) -> bool {
        self.scanner.peek() == Some(b'"')
    }

    fn text(&mut self, number: u32) -> Parsed<()> {
        if !self.quoted() {
            return self.scanner.unexpected("a text was expected");
        }
        if let Some(text) = self.scanner.plain_text() {
            push_field(&mut self.out, number, text);
            return Ok(());
        }
        let start = self.begin(number, 1);
        self.scanner.unescape(&mut self.out)?;
        self.end(start, 1);
        Ok(())
    }

    fn id(&mut self, number: u32, length: usize) -> Parsed<()> {
        let at = self.scanner.at;
        if !self.quoted() {
            return self.scanner.unexpected("an id in hexadecimal digits was expected");
        }
        let digits = self.scanner.text()?;
        if !digits.is_empty() && digits.len() != 2 * length {
            let wanted = format!("an id of {} hexadecimal digits was expected", 2 * length);
            return fault(at, format!("{wanted}, not {}", excerpt(self.scanner.json, at)));
        }
        self.tag(number, LENGTH);
        push_varint(&mut self.out, digits.len() as u64 / 2);
        let mut wrong = 0;
        for pair in digits.chunks_exact(2) {
            if let [high, low] = pair {
                let (high, low) = (nibble(*high), nibble(*low));
                wrong |= high | low;
                self.out.push(high << 4 | low & 0xf);
            }
        }
        if wrong > 0xf {
            let found = excerpt(self.scanner.json, at);
            return fault(at, format!("an id in hexadecimal digits was expected, not {found}"));
        }
        Ok(())
    }

    fn bytes(&mut self, number: u32) -> Parsed<()> {
        let at = self.scanner.at;
        if !self.quoted() {
            return self.scanner.unexpected("bytes in base64 were expected");
        }
        let text = self.scanner.text()?;
        let engine = if memchr::memchr2(b'-', b'_', &text).is_some() { URL_SAFE } else { STANDARD };
        let start = self.begin(number, 1);
        if engine.decode_vec(&text, &mut self.out).is_err() {
            let found = excerpt(self.scanner.json, at);
            return fault(at, format!("bytes in base64 were expected, not {found}"));
        }
        self.end(start, 1);
        Ok(())
    }

    /// A whole number, bare or in quotes.
    fn whole<T: TryFrom<i128>>(&mut self, wanted: &str) -> Parsed<T> {
        let at = self.scanner.at;
        let value = if self.quoted() {
            number::whole(&self.scanner.text()?)
        } else {
            self.scanner.number().and_then(number::whole)
        };
        match value.and_then(|value| T::try_from(value).ok()) {
            Some(value) => Ok(value),
            None => fault(at, format!("{wanted}, not {}", excerpt(self.scanner.json, at))),
        }
    }

    fn enumeration(&mut self, names: &[&str]) -> Parsed<i32> {
        let at = self.scanner.at;
        if self.quoted() {
            let text = self.scanner.text()?;
            if let Some(number) = names.iter().position(|name| name.as_bytes() == &*text) {
                return Ok(number as i32);
            }
            self.scanner.at = at;
        }
        self.whole("a number or a name that OTLP gives one was expected")
    }

    fn double(&mut self, number: u32) -> Parsed<()> {
        let at = self.scanner.at;
        // Node and Rust write NaN and the infinities so.
        let value = if self.scanner.null()? {
            Some(f64::NAN)
        } else if self.quoted() {
            match &*self.scanner.text()? {
                b"NaN" => Some(f64::NAN),
                b"Infinity" => Some(f64::INFINITY),
                b"-Infinity" => Some(f64::NEG_INFINITY),
                text => number::double(text),
            }
        } else {
            self.scanner.number().and_then(number::double)
        };
        let Some(value) = value else {
            return fault(at, format!("a number was expected, not {}", excerpt(self.scanner.json, at)));
        };
        self.tag(number, FIXED64);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }
}

/// The value of a hexadecimal digit; what is none has a bit above the lower four.
#[inline(always)]
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0xf0,
    }
}

fn check_encoding(json: &[u8]) -> Parsed<()> {
    match json {
        [0xef, 0xbb, 0xbf, ..] => fault(0, "the text begins with a byte order mark, which JSON does not have"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            fault(0, "the text is in UTF-16 or UTF-32, and JSON is in UTF-8")
        }
        _ => match simdutf8::compat::from_utf8(json) {
            Ok(_) => Ok(()),
            Err(error) => fault(error.valid_up_to(), "the text is not valid UTF-8"),
        },
    }
}
