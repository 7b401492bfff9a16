//! Go's regular expressions, read into the syntax tree that the engine compiles.
//!
//! What configs are written in is RE2 as Go's `regexp` package takes it, and the
//! engine's own syntax differs: in what it refuses (`\Q..\E`, octal escapes, a
//! bare `{`) and, worse, silently in what it means (`\d`, `\w` and `\b` are ASCII
//! in Go; `&&`, `--` and `[` are ordinary characters in a class). So the pattern
//! is parsed here, and what Go refuses is refused.

mod class;

use std::fmt;

use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Dot, Hir, Look, Repetition};

/// How deep groups and repetitions may be nested.
const NESTING_LIMIT: usize = 64;
/// How often something may be repeated by a count, nested counts multiplied (Go: 1000).
const REPEAT_LIMIT: u32 = 1000;

/// A pattern, parsed.
pub struct Syntax {
    pub tree: Hir,
    /// The groups' names, the whole match first; empty where there is none. Go lets
    /// several groups have one name, so they are not part of the tree.
    pub names: Vec<String>,
}

/// What is wrong with a pattern, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    what: &'static str,
    part: String,
    /// Counted in characters, from 1.
    at: usize,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` at character {}", self.what, self.part, self.at)
    }
}

impl std::error::Error for SyntaxError {}

type Result<T> = std::result::Result<T, SyntaxError>;

pub fn parse(pattern: &str) -> Result<Syntax> {
    Parser {
        pattern,
        at: 0,
        flags: Flags::default(),
        names: vec![String::new()],
        open: vec![],
        level: Level::default(),
    }
    .run()
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    /// `i`
    fold: bool,
    /// `m`
    lines: bool,
    /// `s`
    dot_newline: bool,
    /// `U`
    lazy: bool,
}

/// A part of a sequence.
struct Item {
    tree: Hir,
    depth: usize,
    /// The largest product of nested repeat counts in it.
    repeats: u32,
}

/// What stands between two parentheses so far.
#[derive(Default)]
struct Level {
    alternatives: Vec<Hir>,
    sequence: Vec<Item>,
    depth: usize,
    repeats: u32,
}

impl Level {
    fn end_alternative(&mut self) {
        let items = std::mem::take(&mut self.sequence);
        self.depth = items.iter().map(|item| item.depth).fold(self.depth, usize::max);
        self.repeats = items.iter().map(|item| item.repeats).fold(self.repeats.max(1), u32::max);
        self.alternatives.push(Hir::concat(items.into_iter().map(|item| item.tree).collect()));
    }

    fn into_item(mut self) -> Item {
        self.end_alternative();
        Item { tree: Hir::alternation(self.alternatives), depth: self.depth, repeats: self.repeats }
    }
}

/// A group that is not closed yet: what it interrupts, and how that goes on.
struct Open {
    outer: Level,
    flags: Flags,
    /// The number of a capturing group.
    number: Option<u32>,
    start: usize,
}

struct Parser<'p> {
    pattern: &'p str,
    at: usize,
    flags: Flags,
    names: Vec<String>,
    open: Vec<Open>,
    level: Level,
}

impl<'p> Parser<'p> {
    fn run(mut self) -> Result<Syntax> {
        // Where the repetition begins that ends right here.
        let mut repetition = None;
        while let Some(next) = self.peek() {
            let (start, before) = (self.at, repetition.take());
            match next {
                '(' => self.group()?,
                ')' => self.close()?,
                '|' => {
                    self.step();
                    self.level.end_alternative();
                }
                '*' | '+' | '?' => {
                    self.step();
                    let counts =
                        Counts { min: u32::from(next == '+'), max: (next == '?').then_some(1), written: false };
                    self.repeat(start, before, counts)?;
                    repetition = Some(before.unwrap_or(start));
                }
                '{' => match self.counts()? {
                    Some(counts) => {
                        self.repeat(start, before, counts)?;
                        repetition = Some(before.unwrap_or(start));
                    }
                    None => {
                        self.step();
                        self.push_char('{');
                    }
                },
                '[' => {
                    let class = self.class()?;
                    self.push(Hir::class(Class::Unicode(class)));
                }
                '\\' => self.escaped()?,
                '^' => self.push_look(if self.flags.lines { Look::StartLF } else { Look::Start }),
                '$' => self.push_look(if self.flags.lines { Look::EndLF } else { Look::End }),
                '.' => {
                    self.step();
                    let dot = if self.flags.dot_newline { Dot::AnyChar } else { Dot::AnyCharExceptLF };
                    self.push(Hir::dot(dot));
                }
                other => {
                    self.step();
                    self.push_char(other);
                }
            }
        }
        match self.open.pop() {
            Some(open) => Err(self.error("a group is not closed", open.start, self.pattern.len())),
            None => Ok(Syntax { tree: self.level.into_item().tree, names: self.names }),
        }
    }

    fn rest(&self) -> &'p str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn step(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn skip(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        self.at += if there { text.len() } else { 0 };
        there
    }

    /// What is wrong with the pattern between two offsets.
    fn error(&self, what: &'static str, start: usize, end: usize) -> SyntaxError {
        let part = self.pattern.get(start..end).unwrap_or_default().chars().take(64).collect();
        let at = self.pattern.get(..start).unwrap_or_default().chars().count() + 1;
        SyntaxError { what, part, at }
    }

    fn push(&mut self, tree: Hir) {
        self.level.sequence.push(Item { tree, depth: 1, repeats: 1 });
    }

    fn push_look(&mut self, look: Look) {
        self.step();
        self.push(Hir::look(look));
    }

    fn push_char(&mut self, char: char) {
        let mut class = ClassUnicode::new([ClassUnicodeRange::new(char, char)]);
        if self.flags.fold {
            class.case_fold_simple();
        }
        // A class of one character becomes a literal.
        self.push(Hir::class(Class::Unicode(class)));
    }

    /// A character by its number; nothing can match half of a surrogate pair.
    fn push_code(&mut self, code: u32) {
        match char::from_u32(code) {
            Some(char) => self.push_char(char),
            None => self.push(Hir::fail()),
        }
    }

    fn repeat(&mut self, start: usize, before: Option<usize>, counts: Counts) -> Result<()> {
        let lazy = self.skip("?");
        if let Some(before) = before {
            return Err(self.error("a repetition repeats a repetition", before, self.at));
        }
        let Some(Item { tree, depth, repeats }) = self.level.sequence.pop() else {
            return Err(self.error("a repetition has nothing to repeat", start, self.at));
        };
        let Counts { min, max, written } = counts;
        let repeats = match max {
            _ if !written => repeats,
            Some(0) => 1,
            most => repeats.saturating_mul(most.unwrap_or(min).max(1)),
        };
        if repeats > REPEAT_LIMIT {
            return Err(self.error("something is repeated more than 1000 times", start, self.at));
        }
        if depth >= NESTING_LIMIT {
            return Err(self.error("the pattern is nested too deeply", start, self.at));
        }
        let tree = if max == Some(0) && tree.properties().explicit_captures_len() > 0 {
            // Its groups keep their numbers, though nothing can reach them.
            Hir::alternation(vec![Hir::empty(), Hir::concat(vec![Hir::fail(), tree])])
        } else {
            Hir::repetition(Repetition { min, max, greedy: lazy == self.flags.lazy, sub: Box::new(tree) })
        };
        self.level.sequence.push(Item { tree, depth: depth + 1, repeats });
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}`; `None` where it is none of them, and then `{` is a character.
    fn counts(&mut self) -> Result<Option<Counts>> {
        let start = self.at;
        let found = self.rest().split_once('}').and_then(|(inner, _)| {
            let inner = inner.get(1..)?;
            let counts = match inner.split_once(',') {
                None => (count(inner)?, Some(count(inner)?)),
                Some((min, "")) => (count(min)?, None),
                Some((min, max)) => (count(min)?, Some(count(max)?)),
            };
            Some((counts, inner.len() + 2))
        });
        let Some(((min, max), length)) = found else { return Ok(None) };
        self.at += length;
        if min > REPEAT_LIMIT || max.is_some_and(|max| max > REPEAT_LIMIT || max < min) {
            return Err(self.error("a repeat count is above 1000 or descends", start, self.at));
        }
        Ok(Some(Counts { min, max, written: true }))
    }

    /// What begins with `(`.
    fn group(&mut self) -> Result<()> {
        let start = self.at;
        let outer_flags = self.flags;
        self.step();
        let number = if self.skip("?<=") || self.skip("?<!") {
            return Err(self.error("Go and RE2 have no such group", start, self.at));
        } else if self.skip("?P<") || self.skip("?<") {
            let name = self.rest().split_once('>').map(|(name, _)| name);
            self.at = name.map_or(self.pattern.len(), |name| self.at + name.len() + 1);
            let valid = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            match name.filter(|name| !name.is_empty()).filter(valid) {
                Some(name) => self.names.push(name.to_owned()),
                None => return Err(self.error("a group has no valid name", start, self.at)),
            }
            Some(self.names.len() as u32 - 1)
        } else if self.skip("?") {
            if self.set_flags(start)? {
                return Ok(());
            }
            None
        } else {
            self.names.push(String::new());
            Some(self.names.len() as u32 - 1)
        };
        if self.open.len() >= NESTING_LIMIT {
            return Err(self.error("the pattern is nested too deeply", start, self.at));
        }
        self.open.push(Open { outer: std::mem::take(&mut self.level), flags: outer_flags, number, start });
        Ok(())
    }

    /// The flags after `(?`; whether they stand alone, before `)`, and so open no group.
    fn set_flags(&mut self, start: usize) -> Result<bool> {
        let (mut flags, mut on, mut seen) = (self.flags, true, false);
        loop {
            let next = self.step();
            match next {
                Some('i') => flags.fold = on,
                Some('m') => flags.lines = on,
                Some('s') => flags.dot_newline = on,
                Some('U') => flags.lazy = on,
                Some('-') if on => {
                    (on, seen) = (false, false);
                    continue;
                }
                Some(':' | ')') if on || seen => {
                    self.flags = flags;
                    return Ok(next == Some(')'));
                }
                _ => return Err(self.error("Go and RE2 have no such group", start, self.at)),
            }
            seen = true;
        }
    }

    fn close(&mut self) -> Result<()> {
        let start = self.at;
        self.step();
        let Some(open) = self.open.pop() else {
            return Err(self.error("a group is closed that was not opened", start, self.at));
        };
        self.flags = open.flags;
        let Item { mut tree, depth, repeats } = std::mem::replace(&mut self.level, open.outer).into_item();
        if depth >= NESTING_LIMIT {
            return Err(self.error("the pattern is nested too deeply", open.start, self.at));
        }
        if let Some(index) = open.number {
            tree = Hir::capture(Capture { index, name: None, sub: Box::new(tree) });
        }
        self.level.sequence.push(Item { tree, depth: depth + 1, repeats });
        Ok(())
    }

    /// What begins with a backslash, outside of a class.
    fn escaped(&mut self) -> Result<()> {
        match self.rest().chars().nth(1) {
            Some('A') => self.look_escaped(Look::Start),
            Some('z') => self.look_escaped(Look::End),
            Some('b') => self.look_escaped(Look::WordAscii),
            Some('B') => self.look_escaped(Look::WordAsciiNegate),
            Some('Q') => {
                self.at += 2;
                let literal = self.rest().split_once("\\E").map_or(self.rest(), |(literal, _)| literal);
                self.at += literal.len();
                self.skip("\\E");
                literal.chars().for_each(|char| self.push_char(char));
            }
            _ => match self.class_escape()? {
                Some(class) => self.push(Hir::class(Class::Unicode(class))),
                None => {
                    let code = self.char_escape()?;
                    self.push_code(code);
                }
            },
        }
        Ok(())
    }

    fn look_escaped(&mut self, look: Look) {
        self.step();
        self.push_look(look);
    }

    /// The number of the character that an escape stands for.
    fn char_escape(&mut self) -> Result<u32> {
        let start = self.at;
        self.step();
        let Some(next) = self.step() else {
            return Err(self.error("the pattern ends with a backslash", start, self.at));
        };
        let code = match next {
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            'x' => self.hexadecimal(),
            // A digit alone, but for 0, would be a reference back, which RE2 does not have.
            '0' => Some(self.octal(0)),
            '1'..='7' if self.peek().is_some_and(|next| next.is_digit(8)) => {
                Some(self.octal(next.to_digit(8).unwrap_or_default()))
            }
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(u32::from(other)),
            _ => None,
        };
        code.ok_or_else(|| self.error("Go and RE2 have no such escape", start, self.at))
    }

    /// Up to two more octal digits.
    fn octal(&mut self, first: u32) -> u32 {
        let mut code = first;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|next| next.to_digit(8)) else { break };
            self.step();
            code = code * 8 + digit;
        }
        code
    }

    /// Two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        if !self.skip("{") {
            let (high, low) = (self.step()?.to_digit(16)?, self.step()?.to_digit(16)?);
            return Some(high * 16 + low);
        }
        let mut code = self.step()?.to_digit(16)?;
        loop {
            match self.step()? {
                '}' => return Some(code),
                digit => code = code * 16 + digit.to_digit(16)?,
            }
            if code > u32::from(char::MAX) {
                return None;
            }
        }
    }
}

/// How often something is repeated.
struct Counts {
    min: u32,
    max: Option<u32>,
    /// In braces: only such counts are limited.
    written: bool,
}

/// A repeat count as Go reads it: digits without a needless zero in front.
fn count(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let padded = digits.len() > 1 && digits.starts_with('0');
    (plain && !padded).then(|| digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
