//! Character classes: `[…]`, `\d`, `[:alpha:]`, `\p{Greek}`.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::{Parser, Result};

const DIGIT: &[(char, char)] = &[('0', '9')];
const SPACE: &[(char, char)] = &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// The names in `[[:name:]]`.
const NAMED: [(&str, &[(char, char)]); 14] = [
    ("alnum", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
    ("alpha", &[('A', 'Z'), ('a', 'z')]),
    ("ascii", &[('\0', '\x7f')]),
    ("blank", &[('\t', '\t'), (' ', ' ')]),
    ("cntrl", &[('\0', '\x1f'), ('\x7f', '\x7f')]),
    ("digit", DIGIT),
    ("graph", &[('!', '~')]),
    ("lower", &[('a', 'z')]),
    ("print", &[(' ', '~')]),
    ("punct", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
    ("space", &[('\t', '\r'), (' ', ' ')]),
    ("upper", &[('A', 'Z')]),
    ("word", WORD),
    ("xdigit", &[('0', '9'), ('A', 'F'), ('a', 'f')]),
];

/// The scripts whose full name is as long as the short names, which Go does not know.
const SHORT_SCRIPTS: [&str; 8] = ["ahom", "cham", "kawi", "lisu", "modi", "newa", "thai", "toto"];

fn class_of(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|&(first, last)| ClassUnicodeRange::new(first, last)))
}

impl Parser<'_> {
    /// What begins with `[`.
    pub(super) fn class(&mut self) -> Result<ClassUnicode> {
        let start = self.at;
        self.step();
        let negated = self.skip("^");
        let mut class = ClassUnicode::empty();
        let mut first = true;
        // A `]` right after the opening is a character.
        while first || self.peek() != Some(']') {
            first = false;
            if self.rest().starts_with("[:")
                && let Some(named) = self.named_class()?
            {
                class.union(&named);
                continue;
            }
            if self.peek() == Some('\\')
                && let Some(escaped) = self.class_escape()?
            {
                class.union(&escaped);
                continue;
            }
            let range = self.at;
            let low = self.class_char(start)?;
            let mut high = low;
            // In `[a-]` the hyphen is a character.
            if self.rest().starts_with('-') && !self.rest().starts_with("-]") && self.rest().len() > 1 {
                self.step();
                high = self.class_char(start)?;
            }
            if high < low {
                return Err(self.error("a range in a class descends", range, self.at));
            }
            class.union(&self.folded(codes(low, high)));
        }
        self.step();
        if negated {
            class.negate();
        }
        Ok(class)
    }

    fn class_char(&mut self, start: usize) -> Result<u32> {
        match self.peek() {
            None => Err(self.error("a class is not closed", start, self.at)),
            Some('\\') => self.char_escape(),
            Some(other) => {
                self.step();
                Ok(u32::from(other))
            }
        }
    }

    fn folded(&self, mut class: ClassUnicode) -> ClassUnicode {
        if self.flags.fold {
            class.case_fold_simple();
        }
        class
    }

    /// A class that is negated as a whole: other letter cases belong to what is negated.
    fn signed(&self, class: ClassUnicode, negated: bool) -> ClassUnicode {
        let mut class = self.folded(class);
        if negated {
            class.negate();
        }
        class
    }

    /// `[:alpha:]` or `[:^alpha:]`; `None` where it does not end in `:]`.
    fn named_class(&mut self) -> Result<Option<ClassUnicode>> {
        let start = self.at;
        let inner = self.rest().get(2..).unwrap_or_default();
        let Some((name, _)) = inner.split_once(":]") else { return Ok(None) };
        self.at += name.len() + 4;
        let (negated, bare) = name.strip_prefix('^').map_or((false, name), |bare| (true, bare));
        match NAMED.iter().find(|(known, _)| *known == bare) {
            Some((_, ranges)) => Ok(Some(self.signed(class_of(ranges), negated))),
            None => Err(self.error("there is no such class", start, self.at)),
        }
    }

    /// `\d \D \s \S \w \W`, `\pN`, `\p{Greek}`; `None` where it is another escape.
    pub(super) fn class_escape(&mut self) -> Result<Option<ClassUnicode>> {
        let Some(letter) = self.rest().chars().nth(1) else { return Ok(None) };
        let ranges = match letter.to_ascii_lowercase() {
            'd' => DIGIT,
            's' => SPACE,
            'w' => WORD,
            'p' => return self.property(letter == 'P').map(Some),
            _ => return Ok(None),
        };
        self.at += 2;
        Ok(Some(self.signed(class_of(ranges), letter.is_ascii_uppercase())))
    }

    fn property(&mut self, negated: bool) -> Result<ClassUnicode> {
        let start = self.at;
        self.at += 2;
        let mut name = self.rest();
        if self.skip("{") {
            let Some((inner, _)) = self.rest().split_once('}') else {
                return Err(self.error("a class is not closed", start, self.pattern.len()));
            };
            name = inner;
            self.at += inner.len() + 1;
        } else {
            self.step();
            name = name.get(..self.at - start - 2).unwrap_or_default();
        }
        let (inverse, bare) = name.strip_prefix('^').map_or((false, name), |bare| (true, bare));
        match property_class(bare) {
            Some(class) => Ok(self.signed(class, negated != inverse)),
            None => Err(self.error("there is no such category or script", start, self.at)),
        }
    }
}

/// The characters between two codes; nothing can match half of a surrogate pair.
fn codes(low: u32, high: u32) -> ClassUnicode {
    let below = (low, high.min(0xd7ff));
    let above = (low.max(0xe000), high);
    let ranges = [below, above].into_iter().filter_map(|(low, high)| {
        let range = ClassUnicodeRange::new(char::from_u32(low)?, char::from_u32(high)?);
        (low <= high).then_some(range)
    });
    ClassUnicode::new(ranges)
}

/// A general category or a script, by a name that Go knows: letter case, spaces,
/// hyphens and underscores do not count. No other property has a name there.
fn property_class(name: &str) -> Option<ClassUnicode> {
    let bare: String =
        name.chars().filter(|char| !matches!(char, ' ' | '_' | '-')).map(|char| char.to_ascii_lowercase()).collect();
    // `is` in front is ignored by the tables asked here, and not by Go.
    if bare.is_empty() || bare.starts_with("is") || !bare.chars().all(|char| char.is_ascii_alphanumeric()) {
        return None;
    }
    let short_script = bare.len() == 4 && !SHORT_SCRIPTS.contains(&bare.as_str());
    let script = || (!short_script).then(|| table(&format!("\\p{{sc={bare}}}")))?;
    table(&format!("\\p{{gc={bare}}}")).or_else(script)
}

fn table(property: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(property).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        // A class of one character.
        HirKind::Literal(literal) => {
            let char = std::str::from_utf8(&literal.0).ok()?.chars().next()?;
            Some(ClassUnicode::new([ClassUnicodeRange::new(char, char)]))
        }
        _ => None,
    }
}
