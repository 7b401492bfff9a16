//! Substitution: `${env:NAME}`, `${env:NAME:-default}`, `${NAME}`, `${file:PATH}`,
//! `${yaml:TEXT}`, `${https://…}`, and `$$` for a `$`.
//!
//! The semantics are the Collector's. A value that is one substitution is read as
//! YAML and may be anything; a text setting still gets the original text. Within a
//! longer text the original text is put in. What is put in may hold substitutions
//! itself. Keys are left alone.

use super::error::{Problem, Problems};
use super::node::{Map, Node, Position, Value, join};
use super::parse::{Budget, MAX_LEVELS, Origin, decode, parse};
use super::source::{Fault, Uri, World};

/// Substitutions within what was substituted.
const MAX_CHAIN: usize = 32;
/// Substitutions in one config.
const MAX_LOOKUPS: usize = 10_000;

pub(super) struct Expander<'a> {
    world: World<'a>,
    budget: &'a mut Budget,
    problems: &'a Problems,
    path: String,
    lookups: usize,
    /// A limit was reached: the rest is left as it is, so that there is one error and
    /// not thousands.
    stopped: bool,
    quiet: bool,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Literal(&'t str),
    /// `$$`.
    Dollar,
    /// What stands between `${` and its `}`.
    Substitution(&'t str),
}

/// What a substitution stands for.
struct Found {
    text: String,
    origin: Origin,
    is_file: bool,
    is_variable: bool,
}

/// Where in the config, and how deep in it and in substitutions, something stands.
#[derive(Clone, Copy)]
struct Site<'s> {
    at: &'s Position,
    levels: usize,
    chain: usize,
}

impl<'a> Expander<'a> {
    pub fn new(world: World<'a>, budget: &'a mut Budget, problems: &'a Problems) -> Self {
        Expander { world, budget, problems, path: String::new(), lookups: 0, stopped: false, quiet: false }
    }

    pub fn expand(&mut self, root: Node) -> Node {
        self.node(root, 0, 0)
    }

    fn node(&mut self, node: Node, levels: usize, chain: usize) -> Node {
        let value = match node.value {
            Value::Text(text) if text.contains('$') => {
                let site = Site { at: &node.at, levels, chain };
                return self.text(text, site);
            }
            Value::List(items) => Value::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| {
                        let step = format!("{}[{index}]", self.path);
                        self.below(step, |this| this.node(item, levels + 1, chain))
                    })
                    .collect(),
            ),
            Value::Map(map) => {
                let entries = map.entries.into_iter().map(|(key, value)| {
                    let step = join(&self.path, &key.name);
                    let value = self.below(step, |this| this.node(value, levels + 1, chain));
                    (key, value)
                });
                Value::Map(Map { entries: entries.collect() })
            }
            value => value,
        };
        Node { value, ..node }
    }

    fn below<T>(&mut self, path: String, act: impl FnOnce(&mut Self) -> T) -> T {
        let above = std::mem::replace(&mut self.path, path);
        let result = act(self);
        self.path = above;
        result
    }

    fn text(&mut self, text: String, site: Site<'_>) -> Node {
        let pieces = pieces(&text);
        if let [Piece::Substitution(inner)] = pieces.as_slice() {
            return self.whole(inner, site);
        }
        let text = self.spliced(&pieces, site);
        Node::new(Value::Text(text), site.at.clone())
    }

    /// A value that is one substitution and nothing else.
    fn whole(&mut self, inner: &str, site: Site<'_>) -> Node {
        let null = Node::new(Value::Null, site.at.clone());
        let Some(found) = self.look_up(inner, site) else {
            return null;
        };
        let mut parsed = match parse(&found.text, &found.origin, self.budget) {
            Ok(parsed) => parsed,
            Err(errors) => {
                self.warn_of_broken_fragment(&found, &errors, site);
                Node::new(Value::Text(String::new()), site.at.clone())
            }
        };
        let deeper = Site { chain: site.chain + 1, ..site };
        match parsed.value {
            // Text that YAML would unquote, fold or cut at a `#` is taken as it is.
            Value::Text(_) => return self.text(found.value(), deeper),
            Value::List(_) | Value::Map(_) => {
                if site.levels + parsed.extent().levels > MAX_LEVELS {
                    self.stop(format!("nested more than {MAX_LEVELS} levels deep"), site);
                    return null;
                }
                parsed = self.node(parsed, site.levels, deeper.chain);
            }
            _ => {}
        }
        let quiet = std::mem::replace(&mut self.quiet, true);
        let written = self.spliced(&pieces(&found.value()), deeper);
        self.quiet = quiet;
        Node { value: parsed.value, written: Some(written.into()), at: site.at.clone() }
    }

    fn spliced(&mut self, pieces: &[Piece<'_>], site: Site<'_>) -> String {
        let mut result = String::new();
        for piece in pieces {
            match piece {
                Piece::Literal(text) => result.push_str(text),
                Piece::Dollar => result.push('$'),
                Piece::Substitution(inner) => {
                    if let Some(text) = self.inserted(inner, site) {
                        result.push_str(&text);
                    }
                }
            }
        }
        if !self.budget.spend(result.len()) {
            self.stop("the config is too large once `${…}` is filled in", site);
        }
        result
    }

    fn inserted(&mut self, inner: &str, site: Site<'_>) -> Option<String> {
        let found = self.look_up(inner, site)?;
        // A variable is often a secret, which may look like anything.
        if !found.is_variable {
            let parsed = parse(&found.text, &found.origin, self.budget);
            if let Ok(Node { value: Value::List(_) | Value::Map(_), .. }) = parsed {
                self.report(
                    format!("`${{{inner}}}` is a list or a mapping, and cannot stand inside a text"),
                    "let it be the whole value, or name a single value",
                    site,
                );
                return None;
            }
        }
        let deeper = Site { chain: site.chain + 1, ..site };
        Some(self.spliced(&pieces(&found.value()), deeper))
    }

    /// What `${inner}` stands for; `None` if nothing, which is reported.
    fn look_up(&mut self, inner: &str, site: Site<'_>) -> Option<Found> {
        if self.stopped {
            return None;
        }
        self.lookups += 1;
        if site.chain >= MAX_CHAIN || self.lookups > MAX_LOOKUPS {
            self.stop(format!("`${{{inner}}}` leads to too many substitutions"), site);
            return None;
        }
        let parts = pieces(inner);
        let stray = |piece: &Piece<'_>| match piece {
            Piece::Literal(text) => text.contains('$'),
            Piece::Dollar => true,
            Piece::Substitution(_) => false,
        };
        if parts.iter().any(stray) {
            self.report(
                format!("`${{{inner}}}` has a `$` in it"),
                "only another `${…}` may stand inside of `${…}`",
                site,
            );
            return None;
        }
        let deeper = Site { chain: site.chain + 1, ..site };
        let name = self.spliced(&parts, deeper);
        match self.retrieve(&name, site) {
            Ok(found) => found,
            Err(fault) => {
                self.report(fault.message, fault.hint, site);
                None
            }
        }
    }

    fn retrieve(&mut self, name: &str, site: Site<'_>) -> Result<Option<Found>, Fault> {
        let uri = Uri::of_substitution(name)?;
        let Some(bytes) = self.world.read(&uri)? else {
            self.warn(
                format!("`${{{name}}}` is not set, and nothing is put in its place"),
                format!("set the variable, or give a default: `${{{name}:-value}}`"),
                site,
            );
            return Ok(None);
        };
        if !self.budget.spend(bytes.len()) {
            self.stop("the config is too large once `${…}` is filled in", site);
            return Ok(None);
        }
        let origin = Origin::new(&uri.source());
        let is_file = matches!(uri, Uri::File(_) | Uri::Web(_));
        // Only what is read as a file can have a byte order mark or control characters
        // by mistake.
        let text = if is_file {
            decode(&bytes, &origin)
                .map_err(|problem| {
                    let source = uri.source();
                    Fault::new(format!("{} in `{source}`", problem.message), problem.hint.unwrap_or_default())
                })?
                .to_owned()
        } else {
            String::from_utf8(bytes)
                .map_err(|_| Fault::new(format!("`${{{name}}}` is not UTF-8"), "set it to UTF-8 text"))?
        };
        Ok(Some(Found { text, origin, is_file, is_variable: matches!(uri, Uri::Variable { .. }) }))
    }

    /// A file of several lines that is no YAML was most likely meant to be, though a
    /// text setting could hold it.
    fn warn_of_broken_fragment(&mut self, found: &Found, errors: &[Problem], site: Site<'_>) {
        if !found.is_file || found.text.trim().lines().nth(1).is_none() {
            return;
        }
        if let Some(error) = errors.first() {
            let place = error.at.as_ref().unwrap_or(site.at);
            self.warn(
                format!("{place}: {}; the file is taken as text", error.message),
                error.hint.clone().unwrap_or_default(),
                site,
            );
        }
    }

    fn report(&mut self, message: impl Into<String>, hint: impl Into<String>, site: Site<'_>) {
        if !self.quiet {
            let problem = Problem::new(&self.path, message).at(site.at).hint(hint);
            self.problems.error(problem);
        }
    }

    fn warn(&mut self, message: impl Into<String>, hint: impl Into<String>, site: Site<'_>) {
        if !self.quiet {
            let problem = Problem::new(&self.path, message).at(site.at).hint(hint);
            self.problems.warning(problem);
        }
    }

    fn stop(&mut self, message: impl Into<String>, site: Site<'_>) {
        if !self.stopped {
            self.stopped = true;
            let problem = Problem::new(&self.path, message)
                .at(site.at)
                .hint("check that no file or variable names itself in `${…}`");
            self.problems.error(problem);
        }
    }
}

impl Found {
    /// The text as a value. An editor's newline at the end of a file of one line, a
    /// password say, is not part of it.
    fn value(&self) -> String {
        let mut text = self.text.as_str();
        if self.is_file {
            text = text.strip_suffix('\n').unwrap_or(text);
            text = text.strip_suffix('\r').unwrap_or(text);
        }
        text.to_owned()
    }
}

/// Cuts a text at its outermost substitutions. A `${` that is never closed is text.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    // Pairs in one pass first: looking for the end of each `${` would be quadratic.
    let mut open = Vec::new();
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let bytes = text.as_bytes();
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        match (byte, bytes.get(index + 1)) {
            (b'$', Some(b'$')) => index += 1,
            (b'$', Some(b'{')) => {
                open.push(index);
                index += 1;
            }
            (b'}', _) => {
                if let Some(start) = open.pop() {
                    // Pairs within this one are its own matter.
                    while pairs.last().is_some_and(|(inner, _)| *inner > start) {
                        pairs.pop();
                    }
                    pairs.push((start, index));
                }
            }
            _ => {}
        }
        index += 1;
    }
    let mut pieces = Vec::new();
    let mut end = 0;
    for (start, close) in pairs {
        literal(text.get(end..start).unwrap_or_default(), &mut pieces);
        pieces.push(Piece::Substitution(text.get(start + 2..close).unwrap_or_default()));
        end = close + 1;
    }
    literal(text.get(end..).unwrap_or_default(), &mut pieces);
    pieces
}

fn literal<'t>(text: &'t str, pieces: &mut Vec<Piece<'t>>) {
    for (index, part) in text.split("$$").enumerate() {
        if index > 0 {
            pieces.push(Piece::Dollar);
        }
        if !part.is_empty() {
            pieces.push(Piece::Literal(part));
        }
    }
}
