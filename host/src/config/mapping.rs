//! A mapping while it is being read: keys and values in turn, keys told apart, and
//! merge keys (`<<`) filled in at its end. Part of [`super::parse`].

use std::collections::{HashMap, HashSet};

use super::error::Problem;
use super::node::{Key, Map, Node, Position, Value};

/// A node on its way into the tree.
pub(super) struct Arrival {
    pub node: Node,
    /// A plain `<<`, which as a key is no text but an order to merge.
    pub is_merge: bool,
}

impl Arrival {
    pub fn of(node: Node) -> Self {
        Arrival { node, is_merge: false }
    }
}

#[derive(Default)]
pub(super) struct OpenMap {
    map: Map,
    /// The key whose value comes next.
    pending: Option<Pending>,
    seen: HashMap<String, Position>,
    /// Mappings named by `<<`, the one that wins first.
    merged: Vec<Map>,
}

enum Pending {
    Key(Key),
    Merge(Position),
    /// The key was refused; its value is read and left out.
    Refused(Position),
}

impl OpenMap {
    /// The key whose value is being read.
    pub fn pending_name(&self) -> Option<&str> {
        match &self.pending {
            Some(Pending::Key(key)) => Some(&key.name),
            _ => None,
        }
    }

    pub fn pending_at(&self) -> Option<&Position> {
        match &self.pending {
            Some(Pending::Key(Key { at, .. }) | Pending::Merge(at) | Pending::Refused(at)) => Some(at),
            None => None,
        }
    }

    /// Takes keys and values in turn. The path of a problem is relative to this mapping.
    pub fn take(&mut self, arrival: Arrival) -> Result<(), Problem> {
        match self.pending.take() {
            None => self.take_key(arrival),
            Some(Pending::Key(key)) => {
                self.map.entries.push((key, arrival.node));
                Ok(())
            }
            Some(Pending::Merge(_)) => self.take_merged(arrival.node),
            Some(Pending::Refused(_)) => Ok(()),
        }
    }

    fn take_key(&mut self, arrival: Arrival) -> Result<(), Problem> {
        let Node { value, written, at } = arrival.node;
        let is_text = matches!(value, Value::Text(_));
        let name = match value {
            Value::Text(text) => text,
            Value::List(_) | Value::Map(_) => {
                self.pending = Some(Pending::Refused(at.clone()));
                return Err(Problem::new("", "a list or a mapping cannot be a key")
                    .at(&at)
                    .hint("put a value that begins with `{` or `[` in quotes"));
            }
            _ => written.unwrap_or_default().into(),
        };
        if let Some(first) = self.seen.get(&name) {
            self.pending = Some(Pending::Refused(at.clone()));
            return Err(Problem::new(&name, format!("key `{name}` is set twice, first at {first}"))
                .at(&at)
                .hint("keep one of the two"));
        }
        self.seen.insert(name.clone(), at.clone());
        self.pending =
            Some(if arrival.is_merge { Pending::Merge(at) } else { Pending::Key(Key { name, is_text, at }) });
        Ok(())
    }

    /// The value of `<<`: a mapping, or a list of which an earlier mapping wins.
    fn take_merged(&mut self, node: Node) -> Result<(), Problem> {
        let at = node.at;
        let parts = match node.value {
            Value::Map(map) => {
                self.merged.push(map);
                return Ok(());
            }
            Value::List(items) => items,
            _ => Vec::new(),
        };
        let count = parts.len();
        self.merged.extend(parts.into_iter().filter_map(|part| match part.value {
            Value::Map(map) => Some(map),
            _ => None,
        }));
        if count > 0 && self.merged.len() == count {
            return Ok(());
        }
        Err(Problem::new("<<", "only mappings can be merged")
            .at(&at)
            .hint("write `<<: *name`, or `<<: [*one, *two]`, where each names a mapping"))
    }

    /// What a mapping says itself goes before what it merges.
    pub fn finish(self) -> Map {
        let mut map = self.map;
        let mut seen: HashSet<String> = self.seen.into_keys().collect();
        for (key, value) in self.merged.into_iter().flat_map(|merged| merged.entries) {
            if seen.insert(key.name.clone()) {
                map.entries.push((key, value));
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Origin, errors_for_tests, parse_for_tests};
    use super::*;

    fn fails(text: &str) -> String {
        errors_for_tests(text, &Origin::new("test.yaml"))
    }

    fn yaml(node: &Node) -> String {
        serde_yaml::to_string(&serde_yaml::Value::from(node)).unwrap()
    }

    #[test]
    fn a_key_that_is_set_twice_names_both_places() {
        assert_eq!(
            fails("a:\n  b: 1\n  c: 2\n  b: 3\nl:\n  - {x: 1, x: 2}\n"),
            "error: a.b: key `b` is set twice, first at test.yaml:2:3\n  --> test.yaml:4:3\n\
             hint: keep one of the two\n\n\
             error: l[0].x: key `x` is set twice, first at test.yaml:6:6\n  --> test.yaml:6:12\n\
             hint: keep one of the two"
        );
    }

    #[test]
    fn anchors_aliases_and_merge_keys_are_filled_in() {
        let node = parse_for_tests(
            "base: &base {x: 1, y: 2}\nmore: &more {y: 3, z: 4}\nsame: *base\n\
             one: {<<: *base, x: 9}\ntwo:\n  <<: [*more, *base]\n  w: 0\ntext: {'<<': 1}\n",
        );
        assert_eq!(
            yaml(&node),
            "base:\n  x: 1\n  y: 2\nmore:\n  y: 3\n  z: 4\nsame:\n  x: 1\n  y: 2\n\
             one:\n  x: 9\n  y: 2\ntwo:\n  w: 0\n  y: 3\n  z: 4\n  x: 1\n\
             text:\n  <<: 1\n"
        );
        assert!(fails("a: {<<: 5}").contains("error: a.<<: only mappings can be merged"));
        assert!(fails("a: {<<: [{b: 1}, 2]}").contains("only mappings"));
    }

    #[test]
    fn a_collection_cannot_be_a_key() {
        let message = fails("a: {b: {? [1] : 2}}\nc: 1\nc: 2\n");
        assert!(message.contains("error: a.b: a list or a mapping cannot be a key"));
        assert!(message.contains("key `c` is set twice"));
    }
}
