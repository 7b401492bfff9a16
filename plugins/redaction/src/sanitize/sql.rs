//! SQL statements: literals become `?`, digits in names too; all else stays,
//! comments and white space included. It reads the statement as the Collector's
//! lexer does, which steps through the bytes and knows no grammar.

use std::borrow::Cow;

/// What a statement's quotes mean is a matter of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    Any,
    /// `"…"` is a text, a name stands in backticks, `#` begins a comment.
    MySql,
}

/// What the lexer takes for the end.
const END: char = '\0';

/// A word that is none of these and is followed by more than a bracket may go on
/// as a dotted name.
#[rustfmt::skip]
const KEYWORDS: [&str; 104] = [
    "ADD", "ALL", "ALTER", "ANALYZE", "AND", "ANY", "AS", "ASC", "ASSERTION", "BEGIN", "BETWEEN", "BY", "CASE",
    "CHECK", "CLONE", "CLUSTER", "COLUMN", "COMMIT", "CONSTRAINT", "COPY", "CREATE", "CUBE", "DATABASE", "DECLARE",
    "DEFAULT", "DELETE", "DESC", "DISTINCT", "DOMAIN", "DROP", "ELSE", "END", "ESCAPE", "EXEC", "EXECUTE", "EXISTS",
    "EXPLAIN", "FALSE", "FOREIGN", "FROM", "GRANT", "GROUP", "HAVING", "IF", "ILIKE", "IN", "INDEX", "INNER",
    "INSERT", "INTO", "IS", "JOIN", "KEY", "LEFT", "LIKE", "LIMIT", "LITERAL", "MERGE", "NOT", "NULL", "OF", "OFFSET",
    "ON", "ONLY", "OR", "ORDER", "OUT", "OUTER", "PLPGSQL", "PRIMARY", "PROC", "PROCEDURE", "RECURSIVE", "REPLACE",
    "RETURNING", "RETURNS", "REVOKE", "RIGHT", "ROLLBACK", "ROLLUP", "ROWNUM", "SELECT", "SET", "SKIP", "SOME",
    "STRAIGHT_JOIN", "TABLE", "TEMPORARY", "TOP", "TRIGGER", "TRUE", "TRUNCATE", "UNION", "UNIQUE", "UNLOGGED",
    "UPDATE", "USE", "USING", "VACCUM", "VALUES", "VIEW", "WHERE", "WINDOW", "WITH",
];

pub fn sanitize(statement: &str, dialect: Dialect) -> String {
    let mut lexer = Lexer { text: statement, at: 0, dialect };
    let mut out = Vec::with_capacity(statement.len());
    loop {
        let start = lexer.at;
        let Some(kind) = lexer.token() else { break };
        let token = statement.as_bytes().get(start..lexer.at).unwrap_or_default();
        match kind {
            Kind::Other => out.extend_from_slice(token),
            Kind::Value => out.push(b'?'),
            Kind::Name => out.extend_from_slice(&without_digits(token)),
            Kind::Function => {
                let body = token.get(FUNCTION.len()..token.len() - FUNCTION.len()).unwrap_or_default();
                out.extend_from_slice(FUNCTION.as_bytes());
                out.extend_from_slice(sanitize(&String::from_utf8_lossy(body), dialect).as_bytes());
                out.extend_from_slice(FUNCTION.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&out).trim().to_owned()
}

/// The quotes whose content is a statement of its own. It cannot hold them again,
/// so that this nests once.
const FUNCTION: &str = "$func$";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Other,
    Value,
    Name,
    Function,
}

struct Lexer<'s> {
    text: &'s str,
    at: usize,
    dialect: Dialect,
}

impl Lexer<'_> {
    /// Moves behind the next token; `None` at the end, which a zero byte is too.
    fn token(&mut self) -> Option<Kind> {
        let first = self.peek(0);
        let second = self.peek(1);
        let my_sql = self.dialect == Dialect::MySql;
        Some(match first {
            END => return None,
            ' ' | '\t' | '\n' | '\r' => self.run(is_space),
            _ if is_letter(first) => self.word(first),
            '"' if my_sql => self.quoted_text('"'),
            '"' => self.quoted_name('"'),
            '\'' => self.quoted_text('\''),
            '-' if second == '-' => self.line_comment(2),
            '/' if second == '*' => self.comment(),
            '+' | '-' if second.is_ascii_digit() || second == '.' => {
                self.step(1);
                self.decimal()
            }
            '0'..='9' => self.number(first, second),
            '*' => self.other(1),
            '$' if second.is_ascii_digit() => {
                self.step(2);
                self.run_on(|c| c.is_ascii_digit());
                Kind::Value
            }
            '$' => self.dollar_quoted(),
            '`' if my_sql => self.quoted_name('`'),
            '#' if my_sql => self.line_comment(1),
            '@' => self.at_sign(second),
            _ if is_operator(first) => self.operator(first),
            _ => self.other(1),
        })
    }

    /// The character so many bytes ahead; in the midst of one it is no letter.
    fn peek(&self, ahead: usize) -> char {
        let at = self.at + ahead;
        match self.text.get(at..) {
            Some(rest) => rest.chars().next().unwrap_or(END),
            None if at >= self.text.len() => END,
            None => char::REPLACEMENT_CHARACTER,
        }
    }

    /// Moves on by bytes, but never beyond the end; the character that is there.
    fn step(&mut self, bytes: usize) -> char {
        if self.at + bytes > self.text.len() {
            return END;
        }
        self.at += bytes;
        self.peek(0)
    }

    fn other(&mut self, bytes: usize) -> Kind {
        self.step(bytes);
        Kind::Other
    }

    fn run(&mut self, holds: impl Fn(char) -> bool) -> Kind {
        self.step(1);
        self.run_on(holds);
        Kind::Other
    }

    fn run_on(&mut self, holds: impl Fn(char) -> bool) {
        let mut next = self.peek(0);
        while next != END && holds(next) {
            next = self.step(1);
        }
    }

    fn word(&mut self, first: char) -> Kind {
        let start = self.at;
        if first.is_ascii() {
            let letters = self.text.as_bytes().get(start..).unwrap_or_default();
            let count = letters.iter().take_while(|&&byte| byte.is_ascii_alphabetic() || byte == b'_').count();
            let word = self.text.get(start..start + count).unwrap_or_default();
            let behind = self.peek(count);
            if (behind == END || is_space(behind) || is_punctuation(behind)) && is_keyword(word) {
                self.at += count;
                let is_value = ["TRUE", "FALSE", "NULL"].iter().any(|value| word.eq_ignore_ascii_case(value));
                return if is_value { Kind::Value } else { Kind::Other };
            }
        }
        let mut next = first;
        while in_name(next) {
            next = self.step(next.len_utf8());
        }
        // A function's name keeps its digits.
        if next == '(' && first.is_ascii() { Kind::Other } else { Kind::Name }
    }

    fn quoted_text(&mut self, quote: char) -> Kind {
        let mut escaped = false;
        let mut next = self.step(1);
        while next != END {
            if escaped {
                escaped = false;
            } else if next == '\\' {
                escaped = true;
            } else if next == quote {
                self.step(1);
                break;
            }
            next = self.step(1);
        }
        Kind::Value
    }

    /// A name in quotes, with those that follow it behind a dot.
    fn quoted_name(&mut self, quote: char) -> Kind {
        let joint = [quote, '.', quote];
        let mut next = self.step(1);
        loop {
            if next == quote {
                let behind = [self.peek(0), self.peek(1), self.peek(2)];
                if behind == joint {
                    next = self.step(3);
                    continue;
                }
                self.step(1);
                return Kind::Name;
            }
            if next == END {
                return Kind::Other;
            }
            next = self.step(1);
        }
    }

    fn line_comment(&mut self, mark: usize) -> Kind {
        self.step(mark);
        self.run_on(|c| c != '\n');
        Kind::Other
    }

    fn comment(&mut self) -> Kind {
        let mut next = self.step(2);
        loop {
            if next == '*' && self.peek(1) == '/' {
                return self.other(2);
            }
            if next == END {
                return Kind::Other;
            }
            next = self.step(1);
        }
    }

    fn number(&mut self, first: char, second: char) -> Kind {
        match (first, second) {
            ('0', 'x' | 'X') => {
                self.step(2);
                self.run_on(|c| c.is_ascii_hexdigit());
                Kind::Value
            }
            ('0', '0'..='7') => {
                self.step(2);
                self.run_on(|c| matches!(c, '0'..='7'));
                Kind::Value
            }
            _ => {
                self.step(1);
                self.decimal()
            }
        }
    }

    fn decimal(&mut self) -> Kind {
        let mut next = self.peek(0);
        while next.is_ascii_digit() || matches!(next, '.' | 'e' | 'E') {
            let exponent = matches!(next, 'e' | 'E');
            next = self.step(1);
            if exponent && matches!(next, '+' | '-') {
                next = self.step(1);
            }
        }
        Kind::Value
    }

    /// `$tag$ … $tag$`; without its end it is none, and stays.
    fn dollar_quoted(&mut self) -> Kind {
        let start = self.at;
        let mut next = self.step(1);
        while self.at < self.text.len() && next != '$' {
            next = self.step(1);
        }
        self.step(1);
        let tag: Vec<char> = self.text.get(start..self.at).unwrap_or_default().chars().collect();
        while self.at < self.text.len() {
            if self.begins_with(&tag) {
                self.step(tag.len());
                return if tag.iter().copied().eq(FUNCTION.chars()) { Kind::Function } else { Kind::Value };
            }
            self.step(1);
        }
        Kind::Other
    }

    /// The lexer compares a tag character by byte, so that one beyond ASCII is
    /// never found again.
    fn begins_with(&self, tag: &[char]) -> bool {
        let rest = self.text.as_bytes().get(self.at..self.at + tag.len());
        rest.is_some_and(|rest| rest.iter().zip(tag).all(|(&byte, &c)| byte == c as u32 as u8))
    }

    fn at_sign(&mut self, second: char) -> Kind {
        match second {
            '@' => {
                self.step(2);
                self.run_on_characters();
                Kind::Other
            }
            '?' | '>' => self.other(2),
            _ if is_alphanumeric(second) => {
                self.step(2);
                self.run_on_characters();
                Kind::Other
            }
            _ => self.operator('@'),
        }
    }

    fn run_on_characters(&mut self) {
        self.run_on(is_alphanumeric);
    }

    fn operator(&mut self, first: char) -> Kind {
        let mut next = self.step(1);
        match (first, next) {
            ('-', '>') | ('#', '>') => {
                if self.step(1) == '>' {
                    self.step(1);
                }
                return Kind::Other;
            }
            ('#', '-') | ('?', '|' | '&') | ('<', '@') => return self.other(1),
            _ => {}
        }
        let mut last = first;
        while is_operator(next) && !(last == '=' && matches!(next, '?' | '@')) {
            last = next;
            next = self.step(1);
        }
        Kind::Other
    }
}

/// Each run of digits as one `?`.
fn without_digits(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.iter().any(u8::is_ascii_digit) {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len());
    for run in name.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
        match run.first() {
            Some(first) if first.is_ascii_digit() => out.push(b'?'),
            _ => out.extend_from_slice(run),
        }
    }
    Cow::Owned(out)
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (!c.is_ascii() && c.is_alphabetic())
}

fn is_alphanumeric(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric())
}

fn in_name(c: char) -> bool {
    matches!(c, '"' | '.' | '?' | '$' | '#' | '/' | '@' | '!') || is_letter(c) || c.is_ascii_digit()
}

fn is_operator(c: char) -> bool {
    matches!(
        c,
        '+' | '-' | '*' | '/' | '=' | '<' | '>' | '!' | '&' | '|' | '^' | '%' | '~' | '?' | '@' | ':' | '#'
    )
}

fn is_punctuation(c: char) -> bool {
    matches!(c, '(' | ')' | ',' | ';' | '.' | ':' | '[' | ']' | '{' | '}')
}
