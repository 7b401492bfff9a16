//! A YAML tree of which every value and key knows where it was written.

use std::fmt;
use std::sync::Arc;

use super::error::{Problem, Problems};
use super::scalar;

/// A place in a source: `collector.yaml:14:17`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The file as the user named it, or `env:NAME`, `yaml` or `--set`.
    pub source: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl Position {
    pub fn new(source: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Position { source: source.into(), line, column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.line, self.column)
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    /// What was written where that is more than the value tells: `0123` of the number
    /// 83, `[a]` of an environment variable that was read as a list. A text setting
    /// takes this. `None` for text itself, and for collections written in place.
    pub written: Option<Box<str>>,
    pub at: Position,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// From `i64::MIN` to `u64::MAX`.
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// A mapping in the order in which it was written. No key occurs twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    pub entries: Vec<(Key, Node)>,
}

/// A key of a mapping and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// As written; keys are told apart by this.
    pub name: String,
    /// False if YAML reads the key as a number, a boolean or null.
    pub is_text: bool,
    pub at: Position,
}

impl Map {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.name.as_str())
    }

    pub fn get(&self, name: &str) -> Option<(&Key, &Node)> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }
}

impl Node {
    pub fn new(value: Value, at: Position) -> Self {
        Node { value, written: None, at }
    }

    /// Whether both say the same, wherever it stands.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let same = match (&self.value, &other.value) {
            (Value::List(one), Value::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.says_the_same(other))
            }
            (Value::Map(one), Value::Map(other)) => {
                let same = |((name, one), (other_name, other)): (&(Key, Node), &(Key, Node))| {
                    name.name == other_name.name && one.says_the_same(other)
                };
                one.entries.len() == other.entries.len() && one.entries.iter().zip(&other.entries).all(same)
            }
            (one, other) => one == other,
        };
        same && self.written == other.written
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The value as a text setting takes it: text as it is, any other scalar as it was
    /// written. `None` for null and for collections.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            // `endpoint: null` is unset; `${env:EMPTY}` is empty text.
            Value::Null => self.written.as_deref().filter(|text| text.is_empty()),
            _ => self.written.as_deref(),
        }
    }

    /// The deepest place below that a path such as `actions[2].key` leads to, and how
    /// much of the path leads there. A key of the last step counts by its own place.
    pub fn find<'p>(&self, path: &'p str) -> (&Position, &'p str) {
        let (mut node, mut at, mut rest) = (self, &self.at, path);
        loop {
            let trimmed = rest.strip_prefix('.').unwrap_or(rest);
            let step = match &node.value {
                Value::Map(map) => map.entries.iter().find_map(|(key, value)| {
                    let behind = trimmed.strip_prefix(key.name.as_str())?;
                    let ends = behind.is_empty() || behind.starts_with(['.', '[']);
                    ends.then_some((&key.at, value, behind))
                }),
                Value::List(items) => trimmed.strip_prefix('[').and_then(|inside| {
                    let (number, behind) = inside.split_once(']')?;
                    let item = items.get(number.parse::<usize>().ok()?)?;
                    Some((&item.at, item, behind))
                }),
                _ => None,
            };
            let Some((place, below, behind)) = step else {
                return (at, path.strip_suffix(rest).unwrap_or_default());
            };
            let is_scalar = !matches!(below.value, Value::Map(_) | Value::List(_));
            (node, rest) = (below, behind);
            // A wrong value is shown where it stands, anything else at its key.
            at = if is_scalar && behind.is_empty() && !below.is_null() { &below.at } else { place };
        }
    }

    /// The value as an error message names it: "`50`", "a list", "nothing".
    pub fn shown(&self) -> String {
        const LONGEST: usize = 60;
        let text = match &self.value {
            Value::Null => return "nothing".to_owned(),
            Value::List(_) => return "a list".to_owned(),
            Value::Map(_) => return "a mapping".to_owned(),
            Value::Text(text) => text.as_str(),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => self.written.as_deref().unwrap_or_default(),
        };
        let mut shown: String = text.chars().take(LONGEST).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        format!("`{}`", shown.replace('\n', "\\n"))
    }

    /// The value as JSON, which is how a plugin gets its `config`. What JSON cannot
    /// say is reported under `path`, and is null in the result.
    pub fn to_json(&self, path: &str, problems: &Problems) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => match i64::try_from(*value) {
                Ok(value) => value.into(),
                Err(_) => u64::try_from(*value).unwrap_or(u64::MAX).into(),
            },
            Value::Float(value) => match serde_json::Number::from_f64(*value) {
                Some(number) => number.into(),
                None => {
                    problems.error(
                        Problem::new(path, format!("{} has no form in JSON", self.shown()))
                            .at(&self.at)
                            .hint("write a finite number, or put the value in quotes"),
                    );
                    serde_json::Value::Null
                }
            },
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| item.to_json(&format!("{path}[{index}]"), problems))
                .collect(),
            Value::Map(map) => map
                .entries
                .iter()
                .map(|(key, value)| {
                    let path = join(path, &key.name);
                    if !key.is_text {
                        problems.error(
                            Problem::new(&path, format!("key `{}` is not text", key.name))
                                .at(&key.at)
                                .hint(format!("put it in quotes: `\"{}\"`", key.name)),
                        );
                    }
                    (key.name.clone(), value.to_json(&path, problems))
                })
                .collect(),
        }
    }

    /// Nodes in the tree and levels of it, for the limits of [`super::parse`].
    pub(super) fn extent(&self) -> Extent {
        let mut extent = Extent { bytes: size_of::<Node>(), levels: 1 };
        extent.bytes += self.written.as_deref().map_or(0, str::len);
        match &self.value {
            Value::Text(text) => extent.bytes += text.len(),
            Value::List(items) => items.iter().for_each(|item| extent.add(item.extent())),
            Value::Map(map) => map.entries.iter().for_each(|(key, item)| {
                extent.bytes += size_of::<Key>() + key.name.len();
                extent.add(item.extent());
            }),
            _ => {}
        }
        extent
    }
}

/// How much a tree takes up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub bytes: usize,
    pub levels: usize,
}

impl Extent {
    fn add(&mut self, child: Extent) {
        self.bytes += child.bytes;
        self.levels = self.levels.max(child.levels + 1);
    }
}

impl From<&Node> for serde_yaml::Value {
    fn from(node: &Node) -> Self {
        match &node.value {
            Value::Null => serde_yaml::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => match i64::try_from(*value) {
                Ok(value) => value.into(),
                Err(_) => u64::try_from(*value).unwrap_or(u64::MAX).into(),
            },
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => serde_yaml::Value::Sequence(items.iter().map(Self::from).collect()),
            Value::Map(map) => {
                serde_yaml::Value::Mapping(map.entries.iter().map(|(key, value)| (key.into(), value.into())).collect())
            }
        }
    }
}

impl From<&Key> for serde_yaml::Value {
    fn from(key: &Key) -> Self {
        if key.is_text {
            return key.name.as_str().into();
        }
        (&Node::new(scalar::resolve(&key.name), key.at.clone())).into()
    }
}

/// The path of a key within a mapping; the root's path is empty.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else if key.is_empty() {
        path.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse_for_tests as parse;
    use super::*;

    #[test]
    fn two_trees_say_the_same_in_different_places() {
        let tree = parse("a: [1, {b: x}]\nc:\n");
        assert!(tree.says_the_same(&parse("\n\na:\n  - 1\n  - b: x\nc:\n")));
        for other in ["a: [1, {b: y}]\nc:\n", "a: [1]\nc:\n", "a: [1, {d: x}]\nc:\n", "a: [0x1, {b: x}]\nc:\n"] {
            assert!(!tree.says_the_same(&parse(other)), "{other}");
        }
    }

    #[test]
    fn a_tree_becomes_json() {
        let problems = Problems::new();
        let node = parse("a: [1, -2, 1.5, true, ~, 18446744073709551615]\nb: {c: '0123', d: 0123}\n");
        assert_eq!(
            node.to_json("", &problems),
            serde_json::json!({
                "a": [1, -2, 1.5, true, null, u64::MAX],
                "b": {"c": "0123", "d": 83},
            })
        );
        assert!(!problems.has_errors());
    }

    #[test]
    fn what_json_cannot_say_is_reported_where_it_stands() {
        let problems = Problems::new();
        parse("rate: .inf\nlist:\n  - 1: a\n").to_json("processors.wasm.config", &problems);
        assert_eq!(
            problems.finish().unwrap_err().to_string(),
            "error: processors.wasm.config.rate: `.inf` has no form in JSON\n  \
             --> test.yaml:1:7\n\
             hint: write a finite number, or put the value in quotes\n\n\
             error: processors.wasm.config.list[0].1: key `1` is not text\n  \
             --> test.yaml:3:5\n\
             hint: put it in quotes: `\"1\"`"
        );
    }

    #[test]
    fn a_tree_becomes_a_serde_yaml_value() {
        let node = parse("a: [1, 1.5, yes]\n2: ~\n'3': {}\n");
        assert_eq!(
            serde_yaml::to_string(&serde_yaml::Value::from(&node)).unwrap(),
            "a:\n- 1\n- 1.5\n- yes\n2: null\n'3': {}\n"
        );
    }

    #[test]
    fn every_scalar_keeps_what_was_written() {
        let node = parse("[0123, 1.50, TRUE, 'a', null, ~, []]");
        let Value::List(items) = node.value else {
            panic!("a list");
        };
        let texts: Vec<_> = items.iter().map(Node::as_text).collect();
        assert_eq!(texts, [Some("0123"), Some("1.50"), Some("TRUE"), Some("a"), None, None, None]);
    }
}
