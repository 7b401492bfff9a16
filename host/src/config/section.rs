//! Typed reading of one mapping: what every component's settings are read with.
//!
//! A getter that finds something unfit reports it with its place and a hint, and
//! gives the default, so that reading goes on and all mistakes are found in one go.
//! [`Section::finish`] then reports each key that no getter asked for. A setting that
//! is null is as one that is absent.

use std::time::Duration;

use super::Reference;
use super::error::{Problem, Problems};
use super::node::{Key, Map, Node, Position, Value, join};
use super::suggest::{closest, listed};
use super::units::{self, Unfit};

/// One mapping of the config, with the path to it.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    /// `None` if the mapping is absent or null, or is none at all.
    map: Option<&'a Map>,
    at: Option<Position>,
    asked: Vec<String>,
    problems: &'a Problems,
}

/// A part of the config that can be switched off by `enabled: false`.
#[derive(Debug)]
pub enum Toggle<'a> {
    Absent,
    Off,
    /// Present; also as `key:` alone, which asks for the defaults.
    On(Section<'a>),
}

const AS_TEXT: &str = "write one value, in quotes if it begins with a special character";

impl<'a> Section<'a> {
    /// A null node is an empty mapping: all defaults.
    pub fn new(node: &'a Node, path: impl Into<String>, problems: &'a Problems) -> Self {
        let path = path.into();
        let map = match &node.value {
            Value::Map(map) => Some(map),
            Value::Null => None,
            _ => {
                let message = format!("{} is not a mapping", node.shown());
                let hint = "write `key: value` lines here, or leave it empty for the defaults";
                problems.error(Problem::new(&path, message).at(&node.at).hint(hint));
                None
            }
        };
        Section { path, map, at: Some(node.at.clone()), asked: Vec::new(), problems }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn at(&self) -> Option<&Position> {
        self.at.as_ref()
    }

    pub fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// The path of a key: `receivers.otlp.protocols`.
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether a key is set to something. Does not count as asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.map.and_then(|map| map.get(key)).is_some_and(|(_, node)| !node.is_null())
    }

    /// Keys and values as they are, for mappings whose keys are the user's own. All
    /// of them count as asked for.
    pub fn entries(&mut self) -> Vec<(&'a Key, &'a Node)> {
        let entries = self.map.map_or(&[][..], |map| &map.entries);
        self.asked.extend(entries.iter().map(|(key, _)| key.name.clone()));
        entries.iter().map(|(key, node)| (key, node)).collect()
    }

    /// All of it as JSON, for settings that somebody else reads. Every key counts as asked for.
    pub fn as_json(&mut self) -> serde_json::Value {
        let entries = self.entries();
        let json = |(key, node): (&'a Key, &'a Node)| {
            (key.name.clone(), node.to_json(&self.path_of(&key.name), self.problems))
        };
        serde_json::Value::Object(entries.into_iter().map(json).collect())
    }

    /// The raw value of a key, null included.
    pub fn node(&mut self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The value of a key as JSON.
    pub fn json(&mut self, key: &str) -> Option<serde_json::Value> {
        let node = self.given(key)?;
        Some(node.to_json(&self.path_of(key), self.problems))
    }

    /// Text, or any other single value as it was written.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let node = self.entry(key)?.1;
        match node.as_text() {
            Some(text) => Some(text.to_owned()),
            None if node.is_null() => None,
            None => {
                self.unfit(key, node, "is not text", AS_TEXT);
                None
            }
        }
    }

    pub fn text_or(&mut self, key: &str, default: &str) -> String {
        self.text(key).unwrap_or_else(|| default.to_owned())
    }

    /// The id of a component.
    pub fn reference(&mut self, key: &str) -> Option<Reference> {
        let text = self.text(key)?;
        let at = self.entry(key)?.1.at.clone();
        match text.parse() {
            Ok(id) => Some(Reference { id, at }),
            Err(error) => {
                let error: super::IdError = error;
                self.problem_at(key, format!("`{text}` is not an id: {error}"), error.hint());
                None
            }
        }
    }

    pub fn boolean(&mut self, key: &str) -> Option<bool> {
        let node = self.given(key)?;
        match &node.value {
            Value::Bool(value) => Some(*value),
            _ => {
                let hint = "write `true` or `false`, without quotes";
                self.unfit(key, node, "is neither `true` nor `false`", hint);
                None
            }
        }
    }

    pub fn boolean_or(&mut self, key: &str, default: bool) -> bool {
        self.boolean(key).unwrap_or(default)
    }

    pub fn u64(&mut self, key: &str) -> Option<u64> {
        self.whole(key, 0, u64::MAX.into())
    }

    pub fn u64_or(&mut self, key: &str, default: u64) -> u64 {
        self.u64(key).unwrap_or(default)
    }

    pub fn usize(&mut self, key: &str) -> Option<usize> {
        // No 128 bits in a `usize` of any platform.
        let largest = i128::try_from(usize::MAX).unwrap_or(i128::MAX);
        self.whole(key, 0, largest)
    }

    pub fn usize_or(&mut self, key: &str, default: usize) -> usize {
        self.usize(key).unwrap_or(default)
    }

    pub fn i64(&mut self, key: &str) -> Option<i64> {
        self.whole(key, i64::MIN.into(), i64::MAX.into())
    }

    pub fn i64_or(&mut self, key: &str, default: i64) -> i64 {
        self.i64(key).unwrap_or(default)
    }

    fn whole<T: TryFrom<i128>>(&mut self, key: &str, least: i128, most: i128) -> Option<T> {
        let node = self.given(key)?;
        let number = match &node.value {
            Value::Integer(number) => *number,
            // The Collector takes `10.0` for 10. The bound keeps the cast exact.
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => *number as i128,
            _ => {
                let hint = self.number_hint(node, "write a whole number, such as `10`");
                self.unfit(key, node, "is not a whole number", hint);
                return None;
            }
        };
        if number < least || number > most {
            let message = format!("is not between {least} and {most}");
            self.unfit(key, node, &message, "write a number in this range");
            return None;
        }
        T::try_from(number).ok()
    }

    /// A finite number.
    pub fn f64(&mut self, key: &str) -> Option<f64> {
        let node = self.given(key)?;
        match &node.value {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) if number.is_finite() => Some(*number),
            _ => {
                let hint = self.number_hint(node, "write a number, such as `0.5`");
                self.unfit(key, node, "is not a number", hint);
                None
            }
        }
    }

    pub fn f64_or(&mut self, key: &str, default: f64) -> f64 {
        self.f64(key).unwrap_or(default)
    }

    fn number_hint(&self, node: &Node, usual: &'static str) -> &'static str {
        match &node.value {
            Value::Text(text) if text.trim().parse::<f64>().is_ok() => "leave out the quotes",
            _ => usual,
        }
    }

    /// A duration as Go writes it, such as `1m30s`; not negative.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        self.measured(key, "is not a duration", units::duration)
    }

    pub fn duration_or(&mut self, key: &str, default: Duration) -> Duration {
        self.duration(key).unwrap_or(default)
    }

    /// Bytes, such as `64MiB`, `1GB` or a plain number.
    pub fn size(&mut self, key: &str) -> Option<u64> {
        self.measured(key, "is not a size", units::size)
    }

    pub fn size_or(&mut self, key: &str, default: u64) -> u64 {
        self.size(key).unwrap_or(default)
    }

    fn measured<T>(&mut self, key: &str, unfit: &str, read: impl Fn(&str) -> Result<T, Unfit>) -> Option<T> {
        let node = self.given(key)?;
        let result = match node.as_text() {
            Some(text) => read(text.trim()).map_err(|unfit| (unfit.message, unfit.hint)),
            None => Err((unfit, "write one value".to_owned())),
        };
        match result {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                self.unfit(key, node, message, &hint);
                None
            }
        }
    }

    /// One of the given words.
    pub fn choice<'c>(&mut self, key: &str, choices: &[&'c str]) -> Option<&'c str> {
        let node = self.entry(key)?.1;
        let Some(text) = node.as_text() else {
            if !node.is_null() {
                self.unfit(key, node, "is not text", AS_TEXT);
            }
            return None;
        };
        let found = choices.iter().find(|choice| **choice == text);
        if found.is_none() {
            let known = choices.iter().copied().filter(|choice| !choice.is_empty());
            let hint = match closest(text, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("choose from {}", listed(known)),
            };
            self.unfit(key, node, "is not known here", &hint);
        }
        found.copied()
    }

    pub fn choice_or<'c>(&mut self, key: &str, choices: &[&'c str], default: &'c str) -> &'c str {
        self.choice(key, choices).unwrap_or(default)
    }

    /// A list of texts. As in the Collector, a text is a list with commas: `a,b`.
    pub fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let node = self.given(key)?;
        if let Value::Text(text) = &node.value {
            let parts = text.split(',').filter(|_| !text.is_empty());
            return Some(parts.map(str::to_owned).collect());
        }
        let items = self.items(key, node)?.into_iter();
        Some(
            items
                .filter_map(|(path, item)| {
                    let text = item.as_text().map(str::to_owned);
                    if text.is_none() {
                        let message = format!("{} is not text", item.shown());
                        self.report(path, message, &item.at, AS_TEXT);
                    }
                    text
                })
                .collect(),
        )
    }

    pub fn texts_or(&mut self, key: &str, default: &[&str]) -> Vec<String> {
        self.texts(key).unwrap_or_else(|| default.iter().map(|text| (*text).to_owned()).collect())
    }

    /// Names and values, as `{name: value}` or as `[{name: …, value: …}]`. Values may be
    /// secrets: no message shows one.
    pub fn headers(&mut self, key: &str) -> Vec<(String, String)> {
        let Some(node) = self.given(key) else {
            return Vec::new();
        };
        let mut headers: Vec<(String, String)> = Vec::new();
        match &node.value {
            Value::Map(map) => {
                for (name, value) in &map.entries {
                    let path = join(&self.path_of(key), &name.name);
                    if let Some(text) = self.header(path, value) {
                        headers.push((name.name.clone(), text));
                    }
                }
            }
            Value::List(_) => {
                for mut item in self.sections(key) {
                    let at = item.node("name").map(|node| node.at.clone());
                    let name = item.text("name");
                    let value = item.node("value").and_then(|value| {
                        let path = item.path_of("value");
                        self.header(path, value)
                    });
                    match name {
                        None => item.problem("a header has no name", "write `name: …`"),
                        Some(name) if headers.iter().any(|(known, _)| *known == name) => {
                            let message = format!("header `{name}` is set twice");
                            let at = at.unwrap_or_else(|| node.at.clone());
                            self.report(item.path_of("name"), message, &at, "keep one of the two");
                        }
                        Some(name) => headers.push((name, value.unwrap_or_default())),
                    }
                    item.finish();
                }
            }
            _ => self.report(
                self.path_of(key),
                "a single value is not a set of headers".to_owned(),
                &node.at,
                "write `name: value` lines",
            ),
        }
        headers
    }

    fn header(&self, path: String, value: &Node) -> Option<String> {
        if value.is_null() {
            return Some(String::new());
        }
        let text = value.as_text().map(str::to_owned);
        if text.is_none() {
            self.report(path, "a header takes a single value".to_owned(), &value.at, AS_TEXT);
        }
        text
    }

    /// The mapping under a key. One that is null is there, with all defaults:
    /// `grpc:` turns gRPC on.
    pub fn section(&mut self, key: &str) -> Option<Section<'a>> {
        let (name, node) = self.entry(key)?;
        let mut section = Section::new(node, self.path_of(key), self.problems);
        // An empty mapping has no place of its own to point at.
        if section.map.is_none() {
            section.at = Some(name.at.clone());
        }
        Some(section)
    }

    /// As [`Section::section`]; an absent mapping is an empty one.
    pub fn section_or_default(&mut self, key: &str) -> Section<'a> {
        let section = self.section(key);
        section.unwrap_or_else(|| Section {
            path: self.path_of(key),
            map: None,
            at: self.at.clone(),
            asked: Vec::new(),
            problems: self.problems,
        })
    }

    /// The mapping under a key unless it says `enabled: false`. What else one that is
    /// switched off says is not looked at, as in the Collector.
    pub fn toggle(&mut self, key: &str) -> Toggle<'a> {
        let Some(mut section) = self.section(key) else {
            return Toggle::Absent;
        };
        if section.boolean_or("enabled", true) { Toggle::On(section) } else { Toggle::Off }
    }

    /// The mapping under a key that has no defaults to be asked for: absent, null and
    /// switched off are all none, as the Collector has it for `tls` and `auth`.
    pub fn optional(&mut self, key: &str) -> Option<Section<'a>> {
        self.given(key)?;
        match self.toggle(key) {
            Toggle::On(section) => Some(section),
            Toggle::Absent | Toggle::Off => None,
        }
    }

    /// The items of a list, each with its path: `policies[0]`. Absent is empty.
    pub fn list(&mut self, key: &str) -> Vec<(String, &'a Node)> {
        self.given(key).and_then(|node| self.items(key, node)).unwrap_or_default()
    }

    /// The items of a list of mappings.
    pub fn sections(&mut self, key: &str) -> Vec<Section<'a>> {
        let items = self.list(key).into_iter();
        items.map(|(path, node)| Section::new(node, path, self.problems)).collect()
    }

    fn items(&self, key: &str, node: &'a Node) -> Option<Vec<(String, &'a Node)>> {
        let path = self.path_of(key);
        match &node.value {
            Value::List(items) => {
                Some(items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect())
            }
            _ => {
                let hint = "write `[one, two]`, or lines that begin with `- `";
                self.unfit(key, node, "is not a list", hint);
                None
            }
        }
    }

    /// Takes a key that is known but has no effect here, without a word.
    pub fn ignore(&mut self, key: &str) {
        self.asked.push(key.to_owned());
    }

    /// Warns of a key that is known, has no effect here, and does no harm.
    pub fn ignore_with_warning(&mut self, key: &str, why: &str, hint: &str) {
        if let Some(node) = self.given(key) {
            let problem = Problem::new(self.path_of(key), why);
            self.problems.warning(problem.at(&node.at).hint(hint));
        }
    }

    /// Refuses a key that the Collector knows and that would be ignored here to the
    /// user's harm. Null asks for nothing and passes.
    pub fn refuse(&mut self, key: &str, why: &str, hint: &str) {
        if self.given(key).is_some() {
            let at = self.entry(key).map(|(name, _)| name.at.clone());
            let mut problem = Problem::new(self.path_of(key), why).hint(hint);
            problem.at = at;
            self.problems.error(problem);
        }
    }

    /// Refuses extensions that requests shall be led through, of which there are none.
    pub fn refuse_middlewares(&mut self) {
        if !self.list("middlewares").is_empty() {
            self.refuse("middlewares", "requests cannot be led through other extensions", "remove it");
        }
    }

    /// Reports an error of a component's own at a key; where the key is absent, at
    /// the mapping. An empty hint is none.
    pub fn problem_at(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.error(self.remark(key, message, hint));
    }

    /// As [`Section::problem_at`], for what is worth a word but no refusal.
    pub fn warning_at(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.warning(self.remark(key, message, hint));
    }

    fn remark(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        let mut problem = Problem::new(self.path_of(key), message).hint(hint);
        let found = self.map.and_then(|map| map.get(key));
        problem.at = match found {
            Some((_, node)) => Some(node.at.clone()),
            None => self.at.clone(),
        };
        problem
    }

    /// Reports an error with the mapping as a whole.
    pub fn problem(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.problem_at("", message, hint);
    }

    /// Reports every key that was not asked for.
    pub fn finish(self) {
        let known = || self.asked.iter().map(String::as_str);
        for (key, _) in self.map.iter().flat_map(|map| &map.entries) {
            if known().any(|name| name == key.name) {
                continue;
            }
            let hint = match closest(&key.name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.asked.is_empty() => "nothing can be set here".to_owned(),
                None => {
                    let mut names: Vec<&str> = known().collect();
                    names.sort_unstable();
                    names.dedup();
                    format!("known here: {}", listed(names))
                }
            };
            let message = format!("unknown key `{}`", key.name);
            self.report(self.path_of(&key.name), message, &key.at, &hint);
        }
    }

    fn entry(&mut self, key: &str) -> Option<(&'a Key, &'a Node)> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
        self.map.and_then(|map| map.get(key))
    }

    fn given(&mut self, key: &str) -> Option<&'a Node> {
        let node = self.entry(key)?.1;
        (!node.is_null()).then_some(node)
    }

    fn unfit(&self, key: &str, node: &Node, message: &str, hint: &str) {
        let message = format!("{} {message}", node.shown());
        self.report(self.path_of(key), message, &node.at, hint);
    }

    fn report(&self, path: String, message: String, at: &Position, hint: &str) {
        self.problems.error(Problem::new(path, message).at(at).hint(hint));
    }
}

#[cfg(test)]
mod tests;
