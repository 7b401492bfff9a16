//! Span names, which are sanitized as URLs or as statements once the span's
//! attributes are done.

use std::collections::HashMap;

use vespid_plugin::{Batch, Edits, Owner, SpanKind, Texts, ValueKind};

use crate::Redaction;
use crate::databases::{SYSTEM_KEYS, System};
use crate::keys::Fate;
use crate::sanitize;

/// Attributes that make a client's or server's span one of HTTP.
const HTTP_KEYS: [&str; 9] = [
    "http.route",
    "http.request.method",
    "http.request.method_original",
    "http.response.status_code",
    "url.full",
    "http.scheme",
    "http.target",
    "http.method",
    "http.url",
];

/// A name that the sanitizers may not give.
fn is_no_name(name: &str) -> bool {
    matches!(name, "" | "...")
}

impl Redaction {
    /// Renames spans. What comes back is whether MySQL's rules held when each
    /// span's attributes had their turn: the Collector goes on reading statements
    /// by the rules of the last system whose span it named.
    pub(crate) fn rename(&mut self, batch: &Batch, edits: &mut Edits) -> Vec<bool> {
        let (urls, statements) = (self.urls.takes_names(), self.databases.takes_names());
        let count = batch.span_count() as usize;
        if !urls && !statements {
            return vec![self.my_sql; count];
        }
        let names = batch.names();
        let kept = self.values.allowed(&names);
        let kinds = batch.kinds();
        let systems = if statements { self.systems_left(batch) } else { vec![None; count] };
        let mut http: Option<Vec<bool>> = None;
        let mut routes: HashMap<&str, Option<String>> = HashMap::new();
        let (mut rows, mut new, mut before) = (Vec::new(), Vec::new(), Vec::with_capacity(count));
        for (row, name) in names.iter().enumerate() {
            before.push(self.my_sql);
            let kind = kinds.get(row).copied().unwrap_or_default();
            if kept.get(row) == Some(&true) {
                continue;
            }
            if urls
                && matches!(kind, SpanKind::Client | SpanKind::Server)
                && let Some(route) = routes.entry(name).or_insert_with(|| route(name))
                && (name.contains('/') || is_http(http.get_or_insert_with(|| self.http_left(batch)), row))
            {
                if !is_no_name(route) {
                    rows.push(row as u32);
                    new.push(route.clone());
                }
                continue;
            }
            let Some(&Some(system)) = systems.get(row) else { continue };
            if !matches!(kind, SpanKind::Client | SpanKind::Server | SpanKind::Internal) {
                continue;
            }
            let Some(statement) = self.databases.name(name, system) else { continue };
            if let System::Sql { my_sql } = system {
                self.my_sql = my_sql;
            }
            if statement != name && !is_no_name(&statement) {
                rows.push(row as u32);
                new.push(statement);
            }
        }
        edits.set_names(&rows, new);
        before
    }

    /// The database of each span by the attributes that are left to it.
    fn systems_left(&mut self, batch: &Batch) -> Vec<Option<System>> {
        let keys = SYSTEM_KEYS.map(str::to_owned);
        let fates = self.keys.fates(&keys);
        let mut found: Vec<Option<Option<System>>> = vec![None; batch.span_count() as usize];
        for (key, fate) in keys.iter().zip(fates).filter(|&(_, fate)| fate != Fate::Removed) {
            let column = batch.text_attribute(Owner::Span, key);
            let texts = column.dictionary().clone();
            let left = match fate {
                Fate::Ignored => texts,
                _ => self.left(key, fate, texts),
            };
            for (&row, &code) in column.rows().iter().zip(column.codes()) {
                let text = left.get(code).unwrap_or_default();
                if let Some(slot) = found.get_mut(row as usize).filter(|slot| slot.is_none() && !text.is_empty()) {
                    *slot = Some(System::of(text));
                }
            }
            let empty = self.values.empty();
            let masks_others = match fate {
                Fate::Masked => !empty.allowed,
                Fate::Checked => empty.masked.is_some() && !empty.allowed,
                _ => false,
            };
            if masks_others {
                // A mask is text, though of no system.
                let kinds = batch.attribute_kinds(Owner::Span, key);
                for (slot, kind) in found.iter_mut().zip(kinds) {
                    if slot.is_none() && kind.is_some_and(|kind| kind != ValueKind::Text) {
                        *slot = Some(None);
                    }
                }
            }
        }
        found.into_iter().map(Option::flatten).collect()
    }

    /// Texts of a key after its rules, the sanitizer of statements aside.
    fn left(&self, key: &str, fate: Fate, texts: Texts) -> Texts {
        let kept = self.values.allowed(&texts);
        let masked = self.values.masked(texts.clone());
        let left = texts.iter().zip(kept).zip(masked.iter()).map(|((text, kept), masked)| match fate {
            _ if kept => text.to_owned(),
            Fate::Masked => self.values.mask.whole(text),
            _ if self.urls.takes(key) => sanitize::url(masked),
            _ => masked.to_owned(),
        });
        left.collect()
    }

    fn http_left(&mut self, batch: &Batch) -> Vec<bool> {
        let keys = HTTP_KEYS.map(str::to_owned);
        let fates = self.keys.fates(&keys);
        let mut found = vec![false; batch.span_count() as usize];
        for (key, _) in keys.iter().zip(fates).filter(|&(_, fate)| fate != Fate::Removed) {
            let kinds = batch.attribute_kinds(Owner::Span, key);
            found.iter_mut().zip(kinds).for_each(|(found, kind)| *found |= kind.is_some());
        }
        found
    }
}

fn is_http(http: &mut Vec<bool>, row: usize) -> bool {
    http.get(row) == Some(&true)
}

/// The name as a route; `None` where it stays as it is.
fn route(name: &str) -> Option<String> {
    let route = sanitize::url(name);
    (route != name && !sanitize::is_mere_stars(&route)).then_some(route)
}
