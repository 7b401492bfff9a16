//! JSON's tokens. The text was checked to be UTF-8 before.

use std::borrow::Cow;

use super::error::{Parsed, excerpt, fault};
use super::number::is_number;

/// How deep the values of unknown keys may be nested, so that no input grows the
/// stack: enough for an `AnyValue` at its own limit under a key of tomorrow.
const IGNORED_DEPTH: u32 = 256;

/// Where the run of bytes that stand for themselves in a JSON text ends: at a
/// quote, a backslash, a control character or the end.
#[inline]
pub(super) fn plain_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let found = special(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').unwrap_or(rest.len())
}

/// Marks the bytes of a word at which such a run ends; the lowest mark is right,
/// those above it may come from its borrow.
#[inline(always)]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c)) | control) & HIGH
}

/// The offset behind the closing quote of the text whose content starts at `at`.
pub(super) fn text_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        at = plain_end(bytes, at);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

pub(super) struct Scanner<'a> {
    pub json: &'a [u8],
    pub at: usize,
}

impl<'a> Scanner<'a> {
    #[inline(always)]
    pub fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    #[inline(always)]
    pub fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    pub fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        fault(self.at, format!("{wanted}, not {}", excerpt(self.json, self.at)))
    }

    /// Steps over one byte of punctuation and the space around it.
    #[inline(always)]
    pub fn punctuation(&mut self, byte: u8, wanted: &str) -> Parsed<()> {
        self.space();
        if self.peek() != Some(byte) {
            return self.unexpected(wanted);
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// After an item of a list or object: whether another follows.
    #[inline(always)]
    pub fn another(&mut self, close: u8) -> Parsed<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ if close == b'}' => self.unexpected("a comma or `}` was expected"),
            _ => self.unexpected("a comma or `]` was expected"),
        }
    }

    /// Steps over the close of a list or object that holds nothing.
    #[inline(always)]
    pub fn closes(&mut self, close: u8) -> bool {
        let closes = self.peek() == Some(close);
        self.at += usize::from(closes);
        closes
    }

    /// Steps over `null`, where that is the value.
    #[inline(always)]
    pub fn null(&mut self) -> Parsed<bool> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    fn word(&mut self, word: &[u8]) -> Parsed<()> {
        if !self.json.get(self.at..).unwrap_or_default().starts_with(word) {
            return self.unexpected("a value was expected");
        }
        self.at += word.len();
        Ok(())
    }

    /// True or false, if it is that.
    pub fn boolean(&mut self) -> Option<bool> {
        let value = match self.peek()? {
            b't' => true,
            b'f' => false,
            _ => return None,
        };
        self.word(if value { b"true" } else { b"false" }).ok()?;
        Some(value)
    }

    /// The key of an object and the colon behind it.
    pub fn key(&mut self) -> Parsed<Cow<'a, [u8]>> {
        if self.peek() != Some(b'"') {
            return self.unexpected("a key in quotes was expected");
        }
        let key = self.text()?;
        self.punctuation(b':', "a colon was expected behind the key")?;
        Ok(key)
    }

    /// The text whose opening quote comes next.
    pub fn text(&mut self) -> Parsed<Cow<'a, [u8]>> {
        if let Some(text) = self.plain_text() {
            return Ok(Cow::Borrowed(text));
        }
        let mut text = vec![];
        self.unescape(&mut text)?;
        Ok(Cow::Owned(text))
    }

    /// The same where it has no escapes; otherwise nothing is read.
    #[inline(always)]
    pub fn plain_text(&mut self) -> Option<&'a [u8]> {
        let start = self.at + 1;
        let end = plain_end(self.json, start);
        if self.json.get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        self.json.get(start..end)
    }

    /// Appends the text whose opening quote comes next.
    pub fn unescape(&mut self, out: &mut Vec<u8>) -> Parsed<()> {
        self.at += 1;
        loop {
            let end = plain_end(self.json, self.at);
            out.extend_from_slice(self.json.get(self.at..end).unwrap_or_default());
            self.at = end;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape(out)?,
                Some(_) => return fault(self.at, "a control character stands in a text unescaped"),
                None => return fault(self.at, "the text ends within quotes"),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Parsed<()> {
        let plain = match self.json.get(self.at + 1) {
            Some(b'u') => {
                let character = self.unicode_escape()?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            _ => return fault(self.at, "a backslash is followed by none of JSON's escapes"),
        };
        out.push(plain);
        self.at += 2;
        Ok(())
    }

    /// The character that `\uXXXX`, or two of them, stand for.
    fn unicode_escape(&mut self) -> Parsed<char> {
        let Some(first) = self.unit(self.at) else {
            return fault(self.at, "`\\u` is followed by four hexadecimal digits");
        };
        self.at += 6;
        if (0xd800..0xdc00).contains(&first)
            && let Some(second @ 0xdc00..0xe000) = self.unit(self.at)
        {
            self.at += 6;
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let &[b'\\', b'u', ref digits @ ..] = self.json.get(at..at + 6)? else { return None };
        digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
    }

    /// The number that comes next, as it is written.
    #[inline]
    pub fn number(&mut self) -> Option<&'a [u8]> {
        let rest = self.json.get(self.at..)?;
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let text = rest.get(..rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len()))?;
        if !is_number(text) {
            return None;
        }
        self.at += text.len();
        Some(text)
    }

    /// Steps over the value of a key that nobody knows, which must be JSON all the same.
    pub fn ignore(&mut self) -> Parsed<()> {
        self.ignore_nested(IGNORED_DEPTH)
    }

    fn ignore_nested(&mut self, depth: u32) -> Parsed<()> {
        if depth == 0 {
            return fault(self.at, format!("an unknown key holds values nested more than {IGNORED_DEPTH} deep"));
        }
        match self.peek() {
            Some(b'{') => {
                self.punctuation(b'{', "")?;
                if self.closes(b'}') {
                    return Ok(());
                }
                loop {
                    self.key()?;
                    self.ignore_nested(depth - 1)?;
                    if !self.another(b'}')? {
                        return Ok(());
                    }
                }
            }
            Some(b'[') => {
                self.punctuation(b'[', "")?;
                if self.closes(b']') {
                    return Ok(());
                }
                loop {
                    self.ignore_nested(depth - 1)?;
                    if !self.another(b']')? {
                        return Ok(());
                    }
                }
            }
            Some(b'"') => self.text().map(drop),
            Some(b'n') => self.word(b"null"),
            _ if self.boolean().is_some() || self.number().is_some() => Ok(()),
            _ => self.unexpected("a value was expected"),
        }
    }
}
