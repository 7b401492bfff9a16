//! YAML text to a positioned tree.
//!
//! Anchors, aliases and merge keys are resolved here, so that nothing behind this
//! module knows of them. A config may come from anyone, hence the limits.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::error::Problem;
use super::mapping::{Arrival, OpenMap};
use super::node::{Node, Position, Value, join};
use super::scalar;

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE: usize = 8 << 20;
/// Levels of nesting. All that walks the tree recurses, and so relies on this.
pub(super) const MAX_LEVELS: usize = 100;
/// Bytes of memory that all trees of one load may take up, copies made for aliases
/// and substitutions included.
const MAX_MEMORY: usize = 128 << 20;

/// What is left of the memory that one load may use.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
}

impl Budget {
    pub fn new() -> Self {
        Budget { bytes: MAX_MEMORY }
    }

    /// False if that is more than is left.
    pub fn spend(&mut self, bytes: usize) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(0);
        left.is_some()
    }
}

/// Where a text comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub source: Arc<str>,
    /// Characters that stand before the text on its first line.
    pub indent: u32,
}

impl Origin {
    pub fn new(source: &str) -> Self {
        Origin { source: source.into(), indent: 0 }
    }

    pub fn start(&self) -> Position {
        self.position(1, 0)
    }

    /// A place by its line, from 1, and its column, from 0.
    fn position(&self, line: usize, column: usize) -> Position {
        let indent = if line <= 1 { self.indent } else { 0 };
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position {
            source: Arc::clone(&self.source),
            line: number(line.max(1)),
            column: number(column).saturating_add(1).saturating_add(indent),
        }
    }

    fn marked(&self, marker: &Marker) -> Position {
        self.position(marker.line(), marker.col())
    }
}

/// The text of a source: UTF-8, without its byte order mark and without control
/// characters, which YAML does not allow and which a terminal should not be shown.
pub(super) fn decode<'a>(bytes: &'a [u8], origin: &Origin) -> Result<&'a str, Problem> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let (text, problem) = match str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let sound = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let text = str::from_utf8(sound).unwrap_or_default();
            (text, Some((text.len(), "the text is not UTF-8".to_owned())))
        }
    };
    let control = text
        .char_indices()
        .find(|(_, c)| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r'))
        .map(|(offset, c)| (offset, format!("control character U+{:04X}", u32::from(c))));
    let Some((offset, message)) = control.or(problem) else {
        return Ok(text);
    };
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count());
    Err(Problem::new("", message).at(&origin.position(line, column)).hint("save the file as UTF-8 text"))
}

/// Reads one YAML document; an empty one is null.
pub(super) fn parse(text: &str, origin: &Origin, budget: &mut Budget) -> Result<Node, Vec<Problem>> {
    let mut builder = Builder {
        origin,
        budget,
        stack: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        second_document: None,
        problems: Vec::new(),
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let step = match next {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.take(event, &span.start),
            Err(error) => Err(syntax(&error, origin)),
        };
        if let Err(problem) = step {
            builder.problems.push(problem);
            return Err(builder.problems);
        }
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    let root = builder.root.take();
    Ok(root.unwrap_or_else(|| Node::new(Value::Null, origin.start())))
}

fn syntax(error: &ScanError, origin: &Origin) -> Problem {
    let info = error.info();
    let hint = if info.contains("tab") {
        "indent with spaces"
    } else if info.contains("anchor") {
        "define `&name` before `*name`; text that begins with `*` or `&` needs quotes"
    } else if info.contains("mapping values are not allowed") {
        "put text that contains `: ` in quotes, and check the indentation"
    } else {
        "check the indentation, the brackets and the quotes up to here"
    };
    Problem::new("", format!("not valid YAML: {info}")).at(&origin.marked(error.marker())).hint(hint)
}

/// Builds the tree from the parser's events. An `Err` ends the reading; mistakes that
/// do not are added to `problems`.
struct Builder<'a> {
    origin: &'a Origin,
    budget: &'a mut Budget,
    stack: Vec<Frame>,
    /// Every finished node with an anchor, by the parser's number for it.
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    second_document: Option<Position>,
    problems: Vec<Problem>,
}

/// A collection that is not closed yet.
struct Frame {
    at: Position,
    anchor: usize,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map(OpenMap),
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, start: &Marker) -> Result<(), Problem> {
        let at = self.origin.marked(start);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                self.second_document = Some(at);
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let arrival = self.scalar(&text, style, tag.as_deref(), at)?;
                self.spend(&arrival.node)?;
                self.arrive(arrival, anchor)
            }
            Event::Alias(anchor) => {
                let node = self.alias(anchor, at)?;
                self.arrive(Arrival::of(node), 0)
            }
            Event::SequenceStart(anchor, _) => self.open(at, anchor, Open::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(at, anchor, Open::Map(OpenMap::default())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Position) -> Result<Arrival, Problem> {
        let plain = style == ScalarStyle::Plain;
        // The parser places the value of `key:` where the next token is, which may be
        // lines further down.
        let at = match self.stack.last() {
            Some(frame) if plain && text.is_empty() => frame.pending_at().unwrap_or(&frame.at),
            _ => &at,
        }
        .clone();
        let value = match tag.filter(|tag| tag.is_yaml_core_schema()) {
            Some(tag) => self.tagged(text, &tag.suffix, &at)?,
            None if plain => scalar::resolve(text),
            None => Value::Text(text.to_owned()),
        };
        let mut node = Node::new(value, at);
        if !matches!(node.value, Value::Text(_)) && !text.is_empty() {
            node.written = Some(text.into());
        }
        Ok(Arrival { node, is_merge: plain && tag.is_none() && text == "<<" })
    }

    /// A scalar with one of YAML's own tags, such as `!!str 8080`. Other tags mean
    /// nothing to the Collector, nor here.
    fn tagged(&self, text: &str, tag: &str, at: &Position) -> Result<Value, Problem> {
        let value = match tag {
            "str" | "timestamp" => return Ok(Value::Text(text.to_owned())),
            "int" | "float" | "bool" | "null" => scalar::resolve(text),
            _ => {
                return Err(self
                    .problem(format!("the tag `!!{tag}` is not supported"), at)
                    .hint("write the value as text, without the tag"));
            }
        };
        match (tag, value) {
            ("float", Value::Integer(value)) => Ok(Value::Float(value as f64)),
            ("int", value @ Value::Integer(_))
            | ("float", value @ Value::Float(_))
            | ("bool", value @ Value::Bool(_))
            | ("null", value @ Value::Null) => Ok(value),
            _ => {
                Err(self.problem(format!("`{text}` is no `!!{tag}`"), at).hint("leave the tag out, or mend the value"))
            }
        }
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<Node, Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(self
                .problem("an alias stands inside of what it names", &at)
                .hint("name an anchor that is complete before the alias"));
        };
        let extent = node.extent();
        if self.stack.len() + extent.levels > MAX_LEVELS {
            return Err(self.too_deep(&at));
        }
        if !self.budget.spend(extent.bytes) {
            return Err(self.too_large(&at));
        }
        // Positions within stay those of the anchor: that is where a mistake is mended.
        Ok(node.clone())
    }

    fn open(&mut self, at: Position, anchor: usize, open: Open) -> Result<(), Problem> {
        if self.stack.len() >= MAX_LEVELS {
            return Err(self.too_deep(&at));
        }
        self.stack.push(Frame { at, anchor, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let value = match frame.open {
            Open::List(items) => Value::List(items),
            Open::Map(open) => Value::Map(open.finish()),
        };
        let node = Node::new(value, frame.at);
        if !self.budget.spend(size_of::<Node>()) {
            return Err(self.too_large(&node.at));
        }
        self.arrive(Arrival::of(node), frame.anchor)
    }

    fn arrive(&mut self, arrival: Arrival, anchor: usize) -> Result<(), Problem> {
        if let Some(at) = self.second_document.take() {
            // A closing `---` starts a document with nothing in it, which does no harm.
            if arrival.node.is_null() {
                return Ok(());
            }
            return Err(self
                .problem("a second YAML document starts here", &at)
                .hint("keep one document in a file, and name each file with `--config`"));
        }
        if anchor != 0 {
            self.spend(&arrival.node)?;
            self.anchors.insert(anchor, arrival.node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(arrival.node),
            Some(Open::List(items)) => items.push(arrival.node),
            Some(Open::Map(open)) => {
                if let Err(mut problem) = open.take(arrival) {
                    problem.path = join(&self.path_of(self.stack.len() - 1), &problem.path);
                    self.problems.push(problem);
                }
            }
        }
        Ok(())
    }

    fn spend(&mut self, node: &Node) -> Result<(), Problem> {
        if self.budget.spend(node.extent().bytes) { Ok(()) } else { Err(self.too_large(&node.at)) }
    }

    /// The path of the value that is being read within the outermost frames.
    fn path_of(&self, frames: usize) -> String {
        let mut path = String::new();
        for frame in self.stack.iter().take(frames) {
            match &frame.open {
                Open::List(items) => path.push_str(&format!("[{}]", items.len())),
                Open::Map(open) => path = join(&path, open.pending_name().unwrap_or_default()),
            }
        }
        path
    }

    fn problem(&self, message: impl Into<String>, at: &Position) -> Problem {
        Problem::new(self.path_of(self.stack.len()), message).at(at)
    }

    fn too_deep(&self, at: &Position) -> Problem {
        Problem::new("", format!("nested more than {MAX_LEVELS} levels deep"))
            .at(at)
            .hint("check the indentation and the brackets")
    }

    fn too_large(&self, at: &Position) -> Problem {
        Problem::new("", "the config is too large, aliases (`*name`) filled in")
            .at(at)
            .hint("use fewer aliases of large values")
    }
}

impl Frame {
    fn pending_at(&self) -> Option<&Position> {
        match &self.open {
            Open::Map(open) => open.pending_at(),
            Open::List(_) => None,
        }
    }
}

#[cfg(test)]
pub fn parse_for_tests(text: &str) -> Node {
    match parse(text, &Origin::new("test.yaml"), &mut Budget::new()) {
        Ok(node) => node,
        Err(problems) => panic!("{problems:#?}"),
    }
}

/// The errors for a text that must have some, as they are shown.
#[cfg(test)]
pub(super) fn errors_for_tests(text: &str, origin: &Origin) -> String {
    match parse(text, origin, &mut Budget::new()) {
        Ok(node) => panic!("{node:?} was accepted"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(text: &str) -> String {
        errors_for_tests(text, &Origin::new("test.yaml"))
    }

    fn at(node: &Node, path: &[&str]) -> (String, Value) {
        let mut node = node;
        for key in path {
            let Value::Map(map) = &node.value else {
                panic!("no mapping at {key}");
            };
            node = map.get(key).unwrap().1;
        }
        (format!("{}:{}", node.at.line, node.at.column), node.value.clone())
    }

    #[test]
    fn values_and_keys_know_their_place() {
        let node = parse_for_tests("a:\n  b: 1\n  ü: 'x'\nc: {d: [5]}\n");
        assert_eq!(at(&node, &["a"]).0, "2:3");
        assert_eq!(at(&node, &["a", "b"]).0, "2:6");
        assert_eq!(at(&node, &["a", "ü"]).0, "3:6");
        assert_eq!(at(&node, &["c", "d"]).0, "4:8");
        let Value::Map(map) = &node.value else { panic!() };
        assert_eq!(map.get("c").unwrap().0.at.to_string(), "test.yaml:4:1");
    }

    #[test]
    fn an_empty_value_stands_at_its_key() {
        let node = parse_for_tests("a:\n  b:\n\n\n  c: 1\n");
        assert_eq!(at(&node, &["a", "b"]), ("2:3".to_owned(), Value::Null));
    }

    #[test]
    fn line_endings_a_byte_order_mark_and_nothing_at_all_are_read() {
        let node = parse_for_tests("a: 1\r\nb: |\r\n  x\r\n  y\r\n");
        assert_eq!(at(&node, &["b"]).1, Value::Text("x\ny\n".to_owned()));
        let origin = Origin::new("test.yaml");
        assert_eq!(decode("\u{feff}a: 1".as_bytes(), &origin), Ok("a: 1"));
        for empty in ["", "\n", "# nothing\n", "---\n", "--- # nothing\n...\n"] {
            assert!(parse_for_tests(empty).is_null(), "{empty:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_they_are() {
        let origin = Origin::new("test.yaml");
        let not_utf8 = decode(b"a: 1\nb: \xff\n", &origin).unwrap_err();
        assert_eq!(
            not_utf8.to_string(),
            "error: the text is not UTF-8\n  --> test.yaml:2:4\nhint: save the file as UTF-8 text"
        );
        let control = decode(b"a: \x1b[31m\xff", &origin).unwrap_err();
        assert_eq!(control.message, "control character U+001B");
        assert_eq!(control.at, Some(Position::new("test.yaml", 1, 4)));
    }

    #[test]
    fn a_syntax_error_has_a_place_and_a_hint() {
        assert_eq!(
            fails("a: b: c\n"),
            "error: not valid YAML: mapping values are not allowed in this context\n  \
             --> test.yaml:1:5\n\
             hint: put text that contains `: ` in quotes, and check the indentation"
        );
        assert!(fails("a:\n\tb: 1\n").contains("hint: indent with spaces"));
        assert!(fails("a: *b\n").contains("hint: define `&name` before"));
        assert!(fails("a: [1, 2\n").contains("--> test.yaml:"));
    }

    #[test]
    fn the_first_line_of_an_argument_is_counted_from_its_start() {
        let origin = Origin { source: "--set".into(), indent: 4 };
        assert!(errors_for_tests("a: b: c", &origin).contains("--> --set:1:9"));
    }

    #[test]
    fn several_documents_are_refused() {
        assert!(fails("a: 1\n---\nb: 2\n").contains("error: a second YAML document starts here\n  --> test.yaml:2:1"));
        assert_eq!(at(&parse_for_tests("---\na: 1\n---\n"), &["a"]).0, "2:4");
    }

    #[test]
    fn tags_of_yaml_itself_are_obeyed_and_others_are_not() {
        let node = parse_for_tests("a: !!str 8080\nb: !!float 1\nc: !mine 5\nd: !!int '3'\n");
        assert_eq!(at(&node, &["a"]).1, Value::Text("8080".to_owned()));
        assert_eq!(at(&node, &["b"]).1, Value::Float(1.0));
        assert_eq!(at(&node, &["c"]).1, Value::Integer(5));
        assert_eq!(at(&node, &["d"]).1, Value::Integer(3));
        assert!(fails("a: !!int x").contains("error: a: `x` is no `!!int`"));
        assert!(fails("a: !!binary eA==").contains("the tag `!!binary` is not supported"));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        parse_for_tests(&nested(MAX_LEVELS));
        assert!(fails(&nested(MAX_LEVELS + 1)).contains("nested more than 100 levels deep"));
        let block: String = (0..3000).map(|i| " ".repeat(i) + "a:\n").collect();
        assert!(fails(&block).contains("levels deep"));
        let mut chain = "a0: &a0 [x]\n".to_owned();
        for i in 1..=MAX_LEVELS {
            chain += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
        }
        assert!(fails(&chain).contains("levels deep"));
    }

    #[test]
    fn a_billion_laughs_are_not_laughed() {
        let mut text = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n".to_owned();
        for i in 1..20 {
            text += &format!("a{i}: &a{i} [{}]\n", format!("*a{},", i - 1).repeat(9));
        }
        assert!(fails(&text).contains("too large, aliases"));
        assert!(fails("a: &a [*a]").contains("an alias stands inside of what it names"));
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        let pieces = [
            "a", ":", " ", "\n", "- ", "[", "]", "{", "}", ",", "&x", "*x", "<<", "'", "\"", "|", ">", "#", "!!int",
            "?", "\t", "---\n", "...", "%", "é", "\r", "1", "~", "  ",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..24 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let index = usize::try_from(state % pieces.len() as u64).unwrap();
                text += pieces[index];
            }
            // Reading is the test.
            let _ = parse(&text, &Origin::new("fuzz"), &mut Budget::new());
        }
    }
}
