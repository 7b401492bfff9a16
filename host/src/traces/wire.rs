//! The protobuf wire format: the primitives that the walk, the columns and the
//! splice share. Everything here is bounds-checked; bytes come from strangers.

use thiserror::Error;

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const LENGTH: u8 = 2;
pub(super) const GROUP_START: u8 = 3;
pub(super) const GROUP_END: u8 = 4;
pub(super) const FIXED32: u8 = 5;

/// Deeper groups of unknown fields are refused, so that no input grows the stack.
const GROUP_DEPTH: u32 = 32;

/// Why bytes are not an OTLP request, and where: `offset` counts from the
/// start of the (decompressed) message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{fault} at byte {offset}")]
pub struct WireError {
    pub fault: Fault,
    pub offset: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("the message ends inside a field")]
    Truncated,
    #[error("a varint is longer than ten bytes")]
    Varint,
    #[error("a field has no valid number or wire type")]
    Tag,
    #[error("`{0}` has another wire type than OTLP gives it")]
    WireType(&'static str),
    #[error("`{0}` is not valid UTF-8")]
    Utf8(&'static str),
    #[error("values are nested more than {0} deep")]
    Nesting(u32),
    #[error("a group is not closed where it should be")]
    Group,
    #[error("the message is larger than the {0} bytes that can be indexed")]
    Size(usize),
}

impl Fault {
    #[cold]
    pub(super) fn at(self, offset: usize) -> WireError {
        WireError { fault: self, offset }
    }
}

pub(super) type Wire<T> = Result<T, WireError>;

/// Reads a varint at `at`; answers the value and the offset behind it.
#[inline(always)]
pub(super) fn varint(bytes: &[u8], at: usize) -> Wire<(u64, usize)> {
    match bytes.get(at) {
        Some(&byte) if byte < 0x80 => Ok((u64::from(byte), at + 1)),
        Some(_) => long_varint(bytes, at),
        None => Err(Fault::Truncated.at(at)),
    }
}

/// Whether the bytes are one varint of fewer than ten bytes and nothing else.
#[inline(always)]
pub(super) fn is_varint(bytes: &[u8]) -> bool {
    matches!(bytes.split_last(), Some((0..0x80, before)) if before.len() < 9 && before.iter().all(|&byte| byte >= 0x80))
}

fn long_varint(bytes: &[u8], at: usize) -> Wire<(u64, usize)> {
    let mut value = 0_u64;
    for (count, &byte) in bytes.get(at..).unwrap_or_default().iter().take(10).enumerate() {
        // The tenth byte has room for one bit of a 64-bit number.
        if count == 9 && byte > 1 {
            return Err(Fault::Varint.at(at));
        }
        value |= u64::from(byte & 0x7f) << (7 * count);
        if byte < 0x80 {
            return Ok((value, at + count + 1));
        }
    }
    if bytes.len() - at >= 10 { Err(Fault::Varint.at(at)) } else { Err(Fault::Truncated.at(at)) }
}

/// Reads a field's number and wire type.
#[inline(always)]
pub(super) fn tag(bytes: &[u8], at: usize) -> Wire<(u32, u8, usize)> {
    let (value, next) = varint(bytes, at)?;
    let Ok(value) = u32::try_from(value) else { return Err(Fault::Tag.at(at)) };
    let (number, kind) = (value >> 3, (value & 7) as u8);
    if number == 0 || kind > FIXED32 {
        return Err(Fault::Tag.at(at));
    }
    Ok((number, kind, next))
}

/// Reads a length prefix; answers the range of the content, which is inside `end`.
#[inline(always)]
pub(super) fn length(bytes: &[u8], at: usize, end: usize) -> Wire<(usize, usize)> {
    let (length, start) = varint(bytes, at)?;
    match usize::try_from(length) {
        Ok(length) if start <= end && length <= end - start => Ok((start, start + length)),
        _ => Err(Fault::Truncated.at(at)),
    }
}

#[inline(always)]
pub(super) fn fixed64(bytes: &[u8], at: usize, end: usize) -> Wire<(u64, usize)> {
    match bytes.get(at..end).and_then(<[u8]>::first_chunk::<8>) {
        Some(chunk) => Ok((u64::from_le_bytes(*chunk), at + 8)),
        None => Err(Fault::Truncated.at(at)),
    }
}

#[inline(always)]
pub(super) fn fixed32(bytes: &[u8], at: usize, end: usize) -> Wire<(u32, usize)> {
    match bytes.get(at..end).and_then(<[u8]>::first_chunk::<4>) {
        Some(chunk) => Ok((u32::from_le_bytes(*chunk), at + 4)),
        None => Err(Fault::Truncated.at(at)),
    }
}

/// Steps over the value of a field that we do not know.
pub(super) fn skip(bytes: &[u8], number: u32, kind: u8, at: usize, end: usize) -> Wire<usize> {
    skip_nested(bytes, number, kind, at, end, GROUP_DEPTH)
}

fn skip_nested(bytes: &[u8], number: u32, kind: u8, at: usize, end: usize, depth: u32) -> Wire<usize> {
    let next = match kind {
        VARINT => varint(bytes, at)?.1,
        FIXED64 => at + 8,
        FIXED32 => at + 4,
        LENGTH => length(bytes, at, end)?.1,
        GROUP_START => {
            if depth == 0 {
                return Err(Fault::Group.at(at));
            }
            let mut inside = at;
            loop {
                if inside >= end {
                    return Err(Fault::Group.at(at));
                }
                let (inner, kind, next) = tag(bytes, inside)?;
                if kind == GROUP_END {
                    if inner != number {
                        return Err(Fault::Group.at(inside));
                    }
                    break next;
                }
                inside = skip_nested(bytes, inner, kind, next, end, depth - 1)?;
            }
        }
        _ => return Err(Fault::Group.at(at)),
    };
    if next > end { Err(Fault::Truncated.at(at)) } else { Ok(next) }
}

/// Whether the bytes are UTF-8; short ASCII, which most of a request is, first.
#[inline(always)]
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    is_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Up to 32 bytes are looked at as two words that may overlap, without a loop or a call.
#[inline(always)]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u128 = 0x8080_8080_8080_8080_8080_8080_8080_8080;
    if let (Some(first), Some(last), 16..=32) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>(), bytes.len()) {
        (u128::from_le_bytes(*first) | u128::from_le_bytes(*last)) & HIGH == 0
    } else if let (Some(first), Some(last), 8..16) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>(), bytes.len()) {
        (u64::from_le_bytes(*first) | u64::from_le_bytes(*last)) & HIGH as u64 == 0
    } else if let (Some(first), Some(last), 4..8) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>(), bytes.len()) {
        (u32::from_le_bytes(*first) | u32::from_le_bytes(*last)) & HIGH as u32 == 0
    } else {
        bytes.is_ascii()
    }
}

/// Whether two texts of one length are the same; keys are short, as above.
#[inline(always)]
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    match one.len().min(other.len()) {
        16..=32 => one.first_chunk::<16>() == other.first_chunk() && one.last_chunk::<16>() == other.last_chunk(),
        8..16 => one.first_chunk::<8>() == other.first_chunk() && one.last_chunk::<8>() == other.last_chunk(),
        4..8 => one.first_chunk::<4>() == other.first_chunk() && one.last_chunk::<4>() == other.last_chunk(),
        _ => one == other,
    }
}

pub(super) fn varint_length(value: u64) -> usize {
    // Seven bits a byte; zero takes one byte.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub(super) fn push_field(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    push_varint(out, u64::from(number << 3 | u32::from(LENGTH)));
    push_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// One field of a message that the walk has already accepted.
pub(super) struct Field {
    pub number: u32,
    pub kind: u8,
    /// From the tag to behind the value.
    pub start: usize,
    pub end: usize,
    /// Where the value starts: behind the tag, and behind the length prefix where there is one.
    pub value: usize,
}

/// The fields of `bytes[at..end]`, in wire order; it ends early at the first
/// malformed one, which validated bytes do not have.
pub(super) fn fields(bytes: &[u8], at: usize, end: usize) -> impl Iterator<Item = Field> + '_ {
    let mut at = at;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let start = at;
        let (number, kind, next) = tag(bytes, start).ok()?;
        let stop = skip(bytes, number, kind, next, end).ok()?;
        let value = if kind == LENGTH { length(bytes, next, end).ok()?.0 } else { next };
        at = stop;
        Some(Field { number, kind, start, end: stop, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length_read_back() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = vec![];
                push_varint(&mut out, value);
                assert_eq!(out.len(), varint_length(value));
                assert_eq!(varint(&out, 0), Ok((value, out.len())));
            }
        }
    }

    #[test]
    fn one_varint_is_told_from_two_and_from_none() {
        assert!(is_varint(&[0]) && is_varint(&[0x80, 0]) && is_varint(&[0xff, 0xff, 1]));
        assert!(!is_varint(&[]) && !is_varint(&[0x80]) && !is_varint(&[1, 1]) && !is_varint(&[0x80; 11]));
    }

    #[test]
    fn a_varint_over_ten_bytes_or_64_bits_is_refused() {
        assert_eq!(varint(&[0x80; 11], 0).unwrap_err().fault, Fault::Varint);
        let mut over = vec![0xff; 9];
        over.push(0x02);
        assert_eq!(varint(&over, 0).unwrap_err().fault, Fault::Varint);
        assert_eq!(varint(&[0x80, 0x80], 0).unwrap_err().fault, Fault::Truncated);
    }

    #[test]
    fn short_texts_are_compared_and_checked_in_full() {
        for length in 0..40 {
            let text = vec![b'a'; length];
            assert!(is_ascii(&text) && is_same(&text, &text.clone()));
            for at in 0..length {
                let mut other = text.clone();
                other[at] = 0x80;
                assert!(!is_ascii(&other) && !is_utf8(&other) && !is_same(&text, &other), "{at} of {length}");
            }
        }
    }

    #[test]
    fn an_unclosed_group_is_refused_and_a_closed_one_skipped() {
        // Field 20, a group that holds a varint field 1.
        let closed = [0xa3, 0x01, 0x08, 0x05, 0xa4, 0x01];
        let (number, kind, next) = tag(&closed, 0).unwrap();
        assert_eq!(skip(&closed, number, kind, next, closed.len()), Ok(closed.len()));
        let open = &closed[..4];
        assert_eq!(skip(open, number, kind, next, open.len()).unwrap_err().fault, Fault::Group);
    }
}
