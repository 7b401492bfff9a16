//! From `--config` and `--set` to one [`Config`]: read, merge, substitute, check.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::Config;
use super::error::{Problem, Problems};
use super::expand::Expander;
use super::node::{Key, Map, Node, Position, Value};
use super::parse::{Budget, MAX_LEVELS, Origin, decode, parse};
use super::shape;
use super::source::{Fetch, Uri, World, read_file};

/// Keys with `::` in one source.
const MAX_JOINED_KEYS: usize = 1000;

/// What one load may fetch from web servers, so that no config keeps a start for hours.
const MAX_FETCHES: usize = 32;

/// Where a config comes from, and how it is read.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Each overrides those before it.
    pub uris: &'a [String],
    /// `a.b.c=v`; they override all URIs.
    pub sets: &'a [String],
    /// Append the lists of `service.extensions` and of a pipeline's receivers and
    /// exporters where sources are merged: the Collector's gate
    /// `confmap.enableMergeAppendOption`.
    pub append_lists: bool,
    /// Leave out pipelines of other signals, and what only they name.
    pub traces_only: bool,
    /// How URLs are fetched.
    pub fetch: Fetch<'a>,
    /// Told of each file that is read, and of its content; `None` where it cannot be.
    pub seen: &'a dyn Fn(&str, Option<&[u8]>),
}

/// Reads, merges, substitutes, and checks the shape. The caller goes on to check the
/// settings of components, so that all errors are in one report. `None` if a source
/// could not be read at all; a config is to be run only if `problems` has no errors.
pub fn read(sources: Sources<'_>, problems: &Problems) -> Option<Config> {
    let fetched = Cell::new(0);
    let fetch = |url: &str, limit: usize| {
        fetched.set(fetched.get() + 1);
        if fetched.get() > MAX_FETCHES {
            return Err(format!("one config may fetch {MAX_FETCHES} URLs"));
        }
        (sources.fetch)(url, limit)
    };
    let variable = |name: &str| std::env::var_os(name);
    let file = |path: &str| {
        let content = read_file(path);
        (sources.seen)(path, content.as_deref().ok());
        content
    };
    let world = World { variable: &variable, file: &file, fetch: &fetch };
    read_from(sources, world, problems)
}

pub(super) fn read_from(sources: Sources<'_>, world: World<'_>, problems: &Problems) -> Option<Config> {
    let mut budget = Budget::new();
    let merged = merged(sources, world, &mut budget, problems)?;
    let expanded = Expander::new(world, &mut budget, problems).expand(merged);
    let mut config = shape::read(expanded, sources.traces_only, problems);
    config.warnings = problems.take_warnings();
    Some(config)
}

fn merged(sources: Sources<'_>, world: World<'_>, budget: &mut Budget, problems: &Problems) -> Option<Node> {
    let Sources { uris, sets, append_lists, .. } = sources;
    let lists = if append_lists { Lists::Root } else { Lists::Replaced };
    if uris.is_empty() && sets.is_empty() {
        problems.error(Problem::new("", "no config is named").hint("name one with `--config=FILE`"));
        return None;
    }
    let sources = uris.iter().map(|uri| read_uri(uri, world, budget, problems)).collect::<Vec<_>>();
    let sources = sources.into_iter().chain(sets.iter().map(|set| read_set(set, budget)));
    let mut merged: Option<Node> = None;
    let mut complete = true;
    for source in sources {
        match source.and_then(root) {
            Ok(node) => {
                merged = Some(match merged {
                    Some(base) => merge(base, node, lists),
                    None => node,
                });
            }
            Err(errors) => {
                complete = false;
                errors.into_iter().for_each(|error| problems.error(error));
            }
        }
    }
    merged.filter(|_| complete)
}

fn read_uri(uri: &str, world: World<'_>, budget: &mut Budget, problems: &Problems) -> Result<Node, Vec<Problem>> {
    let fault = |fault: super::source::Fault| vec![Problem::new("", fault.message).hint(fault.hint)];
    let uri = Uri::of_config(uri).map_err(fault)?;
    let origin = Origin::new(&uri.source());
    let bytes = match world.read(&uri).map_err(fault)? {
        Some(bytes) => bytes,
        None => {
            problems.warning(
                Problem::new("", format!("`{}` is not set", uri.source())).hint("set the variable to a config"),
            );
            Vec::new()
        }
    };
    let text = decode(&bytes, &origin).map_err(|problem| vec![problem])?;
    parse(text, &origin, budget)
}

/// `a.b.c=v` is `a: {b: {c: v}}`. The value is read on its own, so that its position
/// is that within the argument.
fn read_set(set: &str, budget: &mut Budget) -> Result<Node, Vec<Problem>> {
    let mut origin = Origin::new("--set");
    let start = origin.start();
    let Some((path, value)) = set.split_once('=').filter(|(path, _)| !path.trim().is_empty()) else {
        return Err(vec![
            Problem::new("", format!("`--set={set}` names no setting or no value")).hint("write `--set=a.b.c=value`"),
        ]);
    };
    origin.indent = u32::try_from(path.chars().count() + 1).unwrap_or(u32::MAX);
    let value = parse(value, &origin, budget)?;
    let key = Key { name: path.trim().replace('.', "::"), is_text: true, at: start.clone() };
    let map = Map { entries: vec![(key, value)] };
    Ok(Node::new(Value::Map(map), start))
}

/// The root of a source: a mapping, whose keys may hold `::` as a separator
/// (`processors::batch::timeout: 2s`). An empty source says nothing.
fn root(node: Node) -> Result<Node, Vec<Problem>> {
    let at = node.at;
    let entries = match node.value {
        Value::Map(map) => map.entries,
        Value::Null => Vec::new(),
        Value::List(_) => return Err(vec![no_config("a list", &at)]),
        _ => return Err(vec![no_config("a single value", &at)]),
    };
    let mut result = Map::default();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut joined = 0;
    for (key, value) in entries {
        let (key, value) = if key.name.contains("::") {
            joined += 1;
            split_key(key, value, joined)?
        } else {
            (key, value)
        };
        let place = places.get(&key.name).copied();
        match place.and_then(|place| result.entries.get_mut(place)) {
            Some(entry) => override_entry(entry, key, value, Lists::Replaced),
            None => {
                places.insert(key.name.clone(), result.entries.len());
                result.entries.push((key, value));
            }
        }
    }
    Ok(Node::new(Value::Map(result), at))
}

/// `a::b::c: v` as `a: {b: {c: v}}`. `joined` counts such keys: merging them one by one
/// is quadratic, which is no matter for as many as people write.
fn split_key(key: Key, value: Node, joined: usize) -> Result<(Key, Node), Vec<Problem>> {
    let refused = |message: String| {
        let problem = Problem::new("", message).at(&key.at);
        Err(vec![problem.hint("nest the keys instead: `a: {b: …}`")])
    };
    if joined > MAX_JOINED_KEYS {
        return refused(format!("more than {MAX_JOINED_KEYS} keys with `::`"));
    }
    let names: Vec<&str> = key.name.split("::").collect();
    if names.len() + value.extent().levels > MAX_LEVELS {
        return refused(format!("nested more than {MAX_LEVELS} levels deep"));
    }
    let named = |name: &str| Key { name: name.to_owned(), ..key.clone() };
    let (outer, inner) = names.split_first().unwrap_or((&"", &[]));
    let nested = inner.iter().rev().fold(value, |value, name| {
        let map = Map { entries: vec![(named(name), value)] };
        Node::new(Value::Map(map), key.at.clone())
    });
    Ok((named(outer), nested))
}

fn no_config(found: &str, at: &Position) -> Problem {
    Problem::new("", format!("a config is a mapping, and this is {found}")).at(at).hint("begin with `receivers:`")
}

/// What becomes of a list that meets another: which keys lead to it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    Replaced,
    Root,
    Service,
    Pipelines,
    Pipeline,
    Appended,
}

impl Lists {
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Lists::Root, "service") => Lists::Service,
            (Lists::Service, "extensions") => Lists::Appended,
            (Lists::Service, "pipelines") => Lists::Pipelines,
            (Lists::Pipelines, _) => Lists::Pipeline,
            // Of processors the order matters, so they are replaced.
            (Lists::Pipeline, "receivers" | "exporters") => Lists::Appended,
            _ => Lists::Replaced,
        }
    }
}

/// Mappings are merged key by key; anything else, null included, replaces what was.
fn merge(base: Node, over: Node, lists: Lists) -> Node {
    let Node { value, written, at } = over;
    let value = match (base.value, value) {
        (Value::Map(base), Value::Map(over)) => Value::Map(merge_maps(base, over, lists)),
        (Value::List(base), Value::List(over)) if lists == Lists::Appended => Value::List(append(base, over)),
        (_, value) => value,
    };
    Node { value, written, at }
}

/// What is in the list already is not added again.
fn append(mut base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    let mut texts: HashSet<String> = base.iter().filter_map(Node::as_text).map(str::to_owned).collect();
    base.extend(over.into_iter().filter(|item| item.as_text().is_none_or(|text| texts.insert(text.to_owned()))));
    base
}

fn merge_maps(mut base: Map, over: Map, lists: Lists) -> Map {
    // An index pays where both are large; a search does where one is small.
    let index: HashMap<String, usize> = match over.entries.len() {
        0 | 1 => HashMap::new(),
        _ => base.names().zip(0..).map(|(name, i)| (name.to_owned(), i)).collect(),
    };
    let searched = index.is_empty();
    for (key, value) in over.entries {
        let place =
            if searched { base.names().position(|name| name == key.name) } else { index.get(&key.name).copied() };
        match place.and_then(|place| base.entries.get_mut(place)) {
            Some(entry) => {
                let lists = lists.below(&key.name);
                override_entry(entry, key, value, lists);
            }
            None => base.entries.push((key, value)),
        }
    }
    base
}

fn override_entry(entry: &mut (Key, Node), key: Key, value: Node, lists: Lists) {
    let gone = Node::new(Value::Null, key.at.clone());
    let old = std::mem::replace(&mut entry.1, gone);
    *entry = (key, merge(old, value, lists));
}

#[cfg(test)]
mod tests;
