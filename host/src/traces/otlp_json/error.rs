//! Why JSON is no OTLP, and where: the path of keys is put together on the way out.

use std::fmt;

use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OtlpJsonError {
    #[error("{place}{message} (line {line}, column {column})")]
    Malformed {
        place: Place,
        message: String,
        /// Both count from one, the column in characters.
        line: usize,
        column: usize,
    },
    #[error("the request takes more than {limit} bytes as protobuf")]
    TooLarge { limit: usize },
}

impl OtlpJsonError {
    /// The path of keys to what is wrong; empty for the document as a whole.
    pub fn place(&self) -> String {
        match self {
            Self::Malformed { place, .. } => place.to_string().trim_end_matches(": ").to_owned(),
            Self::TooLarge { .. } => String::new(),
        }
    }
}

/// A path such as `resourceSpans[0].scopeSpans[0].spans[3].traceId`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(Vec<Step>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Key(&'static str),
    Item(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Steps are noted from the inside out.
        for (at, step) in self.0.iter().rev().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str(": ") }
    }
}

/// An error on its way out; boxed, as it is rare and everything returns it.
pub(super) type Parsed<T> = Result<T, Box<Failure>>;

pub(super) struct Failure {
    at: usize,
    /// None where the output is too large.
    message: Option<String>,
    place: Place,
}

#[cold]
pub(super) fn fault<T>(at: usize, message: impl Into<String>) -> Parsed<T> {
    Err(Box::new(Failure { at, message: Some(message.into()), place: Place::default() }))
}

#[cold]
pub(super) fn too_large<T>() -> Parsed<T> {
    Err(Box::new(Failure { at: 0, message: None, place: Place::default() }))
}

impl Failure {
    #[cold]
    pub fn within(mut self: Box<Self>, key: &'static str) -> Box<Self> {
        self.place.0.push(Step::Key(key));
        self
    }

    #[cold]
    pub fn at_item(mut self: Box<Self>, item: usize) -> Box<Self> {
        self.place.0.push(Step::Item(item));
        self
    }

    pub fn finish(self, json: &[u8], limit: usize) -> OtlpJsonError {
        let Some(message) = self.message else { return OtlpJsonError::TooLarge { limit } };
        let before = json.get(..self.at).unwrap_or(json);
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        let start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let column = 1 + String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count();
        OtlpJsonError::Malformed { place: self.place, message, line, column }
    }
}

/// The value at an offset as it was written, for a message; cut where it is long.
pub(super) fn excerpt(json: &[u8], at: usize) -> String {
    const LONGEST: usize = 40;
    let rest = json.get(at..).unwrap_or_default();
    let end = match rest.first() {
        None => return "the end of the text".into(),
        Some(b'"') => super::scan::text_end(rest, 1).unwrap_or(rest.len()),
        Some(b'{' | b'[' | b'}' | b']' | b',' | b':') => 1,
        Some(_) => rest.iter().position(|byte| b",:]}\" \t\r\n".contains(byte)).unwrap_or(rest.len()),
    };
    let found = String::from_utf8_lossy(rest.get(..end.min(4 * LONGEST)).unwrap_or_default());
    let cut: String = found.chars().take(LONGEST).collect();
    if cut.len() < found.len() { format!("`{cut}…`") } else { format!("`{cut}`") }
}
