//! `include` and `exclude`: which spans a processor works on.

use serde::Deserialize;
use serde_json::Value as Json;
use vespid_plugin::patterns::match_texts;
use vespid_plugin::{Batch, Owner, Pattern, Rejection, Texts, Value};

use crate::{TextList, configured, text};

/// What spans have to be like. All that is given has to hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `match_type`")]
pub struct MatchProperties {
    match_type: Option<String>,
    regexp: Option<RegexpConfig>,
    #[serde(default)]
    services: TextList,
    #[serde(default)]
    span_names: TextList,
    #[serde(default)]
    span_kinds: TextList,
    attributes: Option<Vec<AttributeConfig>>,
    resources: Option<Vec<AttributeConfig>>,
    libraries: Option<Vec<LibraryConfig>>,
    #[serde(default)]
    log_bodies: TextList,
    #[serde(default)]
    log_severity_texts: TextList,
    log_severity_number: Option<Json>,
    #[serde(default)]
    metric_names: TextList,
}

/// Settings of a cache that is not needed here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct RegexpConfig {
    #[serde(default)]
    cacheenabled: bool,
    #[serde(default)]
    cachemaxnumentries: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `key`")]
struct AttributeConfig {
    #[serde(default)]
    key: String,
    value: Option<Json>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `name`")]
struct LibraryConfig {
    #[serde(default)]
    name: String,
    version: Option<String>,
}

/// Texts that are looked for, or patterns of which one has to match somewhere.
#[derive(Debug)]
enum Wanted {
    Strict(Vec<String>),
    Regexp(Vec<Pattern>),
}

impl Wanted {
    fn matches(&self, texts: Texts) -> Vec<bool> {
        match self {
            Self::Strict(wanted) => texts.iter().map(|text| wanted.iter().any(|it| it == text)).collect(),
            Self::Regexp(patterns) => match_texts(patterns, texts),
        }
    }
}

#[derive(Debug)]
enum WantedValue {
    Any,
    Exactly(Value),
    Like(Wanted),
}

#[derive(Debug)]
struct Attribute {
    key: String,
    value: WantedValue,
}

#[derive(Debug)]
struct Library {
    name: Wanted,
    version: Option<Wanted>,
}

/// The properties, checked.
#[derive(Debug)]
pub struct Properties {
    services: Option<Wanted>,
    span_names: Option<Wanted>,
    span_kinds: Option<Wanted>,
    libraries: Vec<Library>,
    attributes: Vec<Attribute>,
    resources: Vec<Attribute>,
}

/// What a resource without a name is called here.
const NO_SERVICE: &str = "<nil-service-name>";

const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

/// Reads the settings below `path`, and collects what is wrong.
struct Reader<'a> {
    path: &'a str,
    regexp: bool,
    wrong: &'a mut Vec<Rejection>,
}

impl Reader<'_> {
    fn wrong(&mut self, key: &str, message: &str, hint: &str) {
        let rejection = Rejection::new(format!("{}{key}: {message}", self.path));
        self.wrong.push(if hint.is_empty() { rejection } else { rejection.hint(hint) });
    }

    /// What the list at `key` wants.
    fn wanted(&mut self, key: &str, texts: Vec<String>) -> Wanted {
        if !self.regexp {
            return Wanted::Strict(texts);
        }
        let patterns =
            (0..).zip(&texts).filter_map(|(at, text): (usize, _)| self.pattern(&format!("{key}[{at}]"), text));
        Wanted::Regexp(patterns.collect())
    }

    /// What the single text at `key` wants.
    fn wanted_one(&mut self, key: &str, text: String) -> Wanted {
        match self.regexp {
            true => Wanted::Regexp(self.pattern(key, &text).into_iter().collect()),
            false => Wanted::Strict(vec![text]),
        }
    }

    fn pattern(&mut self, key: &str, text: &str) -> Option<Pattern> {
        Pattern::new(text).map_err(|error| self.wrong(key, error.text(), "")).ok()
    }

    fn given(&mut self, key: &str, texts: TextList) -> Option<Wanted> {
        (!texts.0.is_empty()).then(|| self.wanted(key, texts.0))
    }

    fn attributes(&mut self, name: &str, configs: Option<Vec<AttributeConfig>>) -> Vec<Attribute> {
        let mut attributes = vec![];
        for (at, config) in configs.into_iter().flatten().enumerate() {
            if config.key.is_empty() {
                self.wrong(&format!(".{name}[{at}]"), "an attribute needs a `key`", "");
            }
            let value = match config.value.as_ref().map(configured) {
                None => WantedValue::Any,
                Some(value) if !self.regexp => WantedValue::Exactly(value),
                Some(Value::Text(pattern)) => {
                    WantedValue::Like(self.wanted_one(&format!(".{name}[{at}].value"), pattern))
                }
                Some(_) => {
                    let message = "a pattern is text, and this is another type";
                    self.wrong(&format!(".{name}[{at}].value"), message, "write it in quotes");
                    WantedValue::Any
                }
            };
            attributes.push(Attribute { key: config.key, value });
        }
        attributes
    }
}

impl MatchProperties {
    /// Checks the settings that stand at `path`.
    pub fn check(self, path: &str, wrong: &mut Vec<Rejection>) -> Properties {
        let regexp = self.match_type.as_deref() == Some("regexp");
        let mut reader = Reader { path, regexp, wrong };
        match self.match_type.as_deref() {
            Some("strict" | "regexp") => {}
            Some(other) => {
                reader.wrong(".match_type", &format!("`{other}` is not known"), "write `strict` or `regexp`")
            }
            None => reader.wrong("", "it needs a `match_type`", "write `match_type: strict` or `match_type: regexp`"),
        }
        let others = [
            ("log_bodies", !self.log_bodies.0.is_empty()),
            ("log_severity_texts", !self.log_severity_texts.0.is_empty()),
            ("log_severity_number", self.log_severity_number.is_some_and(|it| !it.is_null())),
            ("metric_names", !self.metric_names.0.is_empty()),
        ];
        for (key, _) in others.iter().filter(|(_, given)| *given) {
            reader.wrong(&format!(".{key}"), "spans have nothing of the kind", "remove it");
        }
        let slots = self.regexp.as_ref().filter(|cache| regexp && cache.cacheenabled);
        if slots.is_some_and(|cache| cache.cachemaxnumentries < 0) {
            reader.wrong(".regexp.cachemaxnumentries", "a cache cannot have fewer than no entries", "");
        }
        if !regexp {
            let unknown = |(_, kind): &(usize, &String)| !KINDS[1..].contains(&kind.as_str());
            for (at, kind) in self.span_kinds.0.iter().enumerate().filter(unknown) {
                let hint = format!("write one of {}", KINDS[1..].join(", "));
                reader.wrong(&format!(".span_kinds[{at}]"), &format!("`{kind}` is no kind of spans"), &hint);
            }
        }
        let nothing = [&self.services, &self.span_names, &self.span_kinds].iter().all(|texts| texts.0.is_empty())
            && self.attributes.as_ref().is_none_or(Vec::is_empty)
            && self.resources.as_ref().is_none_or(Vec::is_empty)
            && self.libraries.as_ref().is_none_or(Vec::is_empty);
        if nothing {
            let hint = "give at least one of services, span_names, span_kinds, attributes, resources, libraries";
            reader.wrong("", "it says nothing of the spans that are meant", hint);
        }
        let libraries = self.libraries.into_iter().flatten().enumerate().map(|(at, library)| Library {
            name: reader.wanted_one(&format!(".libraries[{at}].name"), library.name),
            version: library.version.map(|version| reader.wanted_one(&format!(".libraries[{at}].version"), version)),
        });
        let libraries = libraries.collect();
        Properties {
            services: reader.given(".services", self.services),
            span_names: reader.given(".span_names", self.span_names),
            span_kinds: reader.given(".span_kinds", self.span_kinds),
            libraries,
            attributes: reader.attributes("attributes", self.attributes),
            resources: reader.attributes("resources", self.resources),
        }
    }
}

impl Properties {
    /// Of each span whether it is meant.
    pub fn matches(&self, batch: &Batch) -> Vec<bool> {
        let mut meant = vec![true; batch.span_count() as usize];
        let mut and = |each: &dyn Fn(usize) -> bool| {
            meant.iter_mut().enumerate().for_each(|(row, meant)| *meant = *meant && each(row));
        };
        if let Some(names) = &self.span_names {
            let found = names.matches(batch.names());
            and(&|row| found[row]);
        }
        if let Some(kinds) = &self.span_kinds {
            let known = kinds.matches(KINDS.iter().collect());
            let of_spans = batch.kinds();
            and(&|row| known[of_spans[row] as usize]);
        }
        if self.services.is_some() || !self.resources.is_empty() {
            let rows = batch.resource_rows();
            let mut found = vec![true; batch.row_count(Owner::Resource) as usize];
            if let Some(services) = &self.services {
                let name = |row| match batch.attribute(Owner::Resource, row, "service.name") {
                    Some(name) => text::of(&name),
                    None => NO_SERVICE.to_owned(),
                };
                found = services.matches((0..found.len() as u32).map(name).collect());
            }
            for attribute in &self.resources {
                let each = attribute.matches(batch, Owner::Resource);
                found.iter_mut().zip(each).for_each(|(found, each)| *found &= each);
            }
            and(&|row| found[rows[row] as usize]);
        }
        if !self.libraries.is_empty() {
            let (rows, names, versions) = (batch.scope_rows(), batch.scope_names(), batch.scope_versions());
            let mut found = vec![true; names.len()];
            // The Collector wants all of them to match, though its documentation says one.
            for library in &self.libraries {
                let named = library.name.matches(names.iter().collect());
                let version = library.version.as_ref().map(|wanted| wanted.matches(versions.iter().collect()));
                for (at, found) in found.iter_mut().enumerate() {
                    *found &= named[at] && version.as_ref().is_none_or(|version| version[at]);
                }
            }
            and(&|row| found[rows[row] as usize]);
        }
        for attribute in &self.attributes {
            let found = attribute.matches(batch, Owner::Span);
            and(&|row| found[row]);
        }
        meant
    }
}

impl Attribute {
    /// Of each row whether it has the attribute as it is wanted.
    fn matches(&self, batch: &Batch, of: Owner) -> Vec<bool> {
        let kinds = batch.attribute_kinds(of, &self.key);
        let mut found: Vec<bool> = kinds.iter().map(Option::is_some).collect();
        if matches!(self.value, WantedValue::Any) || !found.contains(&true) {
            return found;
        }
        if let WantedValue::Exactly(Value::Text(text)) = &self.value {
            let column = batch.text_attribute(of, &self.key);
            found.fill(false);
            // Of a key that a row has twice the first counts.
            let rows = column.rows_where(|it| it == text);
            rows.into_iter().for_each(|row| found[row as usize] = column.get(row) == Some(text));
            return found;
        }
        let rows: Vec<u32> = (0..).zip(&found).filter(|(_, found)| **found).map(|(row, _)| row).collect();
        let values: Vec<_> = rows.iter().map(|&row| batch.attribute(of, row, &self.key)).collect();
        found.fill(false);
        match &self.value {
            WantedValue::Any => {}
            WantedValue::Exactly(wanted) => {
                for (&row, value) in rows.iter().zip(&values) {
                    found[row as usize] = value.as_ref().is_some_and(|value| equal(wanted, value));
                }
            }
            WantedValue::Like(wanted) => {
                let texts: Vec<_> = values.iter().map(|value| value.as_ref().and_then(text::plain)).collect();
                let matched = wanted.matches(texts.iter().map(|text| text.as_deref().unwrap_or_default()).collect());
                for ((&row, text), matched) in rows.iter().zip(&texts).zip(matched) {
                    found[row as usize] = matched && text.is_some();
                }
            }
        }
        found
    }
}

/// Whether two values are of one type and equal; the order of a map's keys is no difference.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Json(one), Value::Json(other)) => {
            let read = |text: &str| serde_json::from_str(text).ok().map(normal);
            read(one) == read(other)
        }
        _ => one == other,
    }
}

/// An OTLP value in JSON with the pairs of its lists sorted, numbers as text.
fn normal(value: Json) -> Json {
    match value {
        Json::Object(members) => {
            let members = members.into_iter().map(|(name, member)| match (name.as_str(), member) {
                ("kvlistValue", Json::Object(mut list)) => {
                    let pairs = list.remove("values").and_then(|it| it.as_array().cloned()).unwrap_or_default();
                    let mut pairs: Vec<Json> = pairs.into_iter().map(normal).collect();
                    pairs.sort_by_cached_key(|pair| pair["key"].to_string());
                    (name, Json::Array(pairs))
                }
                ("arrayValue", Json::Object(mut list)) => {
                    (name, list.remove("values").map_or(Json::Array(vec![]), normal))
                }
                ("intValue", Json::Number(number)) => (name, Json::String(number.to_string())),
                ("doubleValue", Json::Number(number)) => (name, serde_json::json!(number.as_f64())),
                (_, member) => (name, normal(member)),
            });
            Json::Object(members.collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(normal).collect()),
        scalar => scalar,
    }
}
