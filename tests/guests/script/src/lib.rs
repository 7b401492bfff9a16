//! A plugin that does what its config lists, in order:
//!
//! ```json
//! {"steps": [
//!     {"op": "drop", "rows": [0, 2], "reason": "noise"},
//!     {"op": "set", "owner": "span", "rows": "all", "key": "k", "value": {"int": 1}},
//!     {"op": "set-texts", "owner": "event", "rows": [0], "key": "k", "values": ["a"]},
//!     {"op": "set-texts-coded", "owner": "span", "rows": [0, 1], "key": "k",
//!      "codes": [0, 0], "dictionary": ["a"]},
//!     {"op": "replace-texts", "owner": "span", "rows": [0, 1], "key": "k",
//!      "codes": [0, 0], "old": ["a"], "new": ["b"]},
//!     {"op": "remove", "owner": "resource", "rows": "all", "key": "k"},
//!     {"op": "set-names", "rows": [0], "names": ["renamed"]},
//!     {"op": "set-status", "rows": [0], "code": 2, "message": "broken"},
//!     {"op": "set-tenant", "rows": "all", "tenant": "team-a"},
//!     {"op": "replace-matches", "owner": "span", "patterns": ["[0-9]+"], "replacement": "#"},
//!     {"op": "search-texts", "key": "k", "patterns": ["[0-9]+"], "texts": ["a1"]},
//!     {"op": "log", "level": "info", "message": "hello"},
//!     {"op": "count", "name": "seen", "labels": {"kind": "x"}, "amount": 2},
//!     {"op": "record", "name": "size", "labels": {}, "value": 2.5},
//!     {"op": "reject", "message": "no"},
//!     {"op": "dump", "key": "vespid.dump", "metadata": ["x-team"], "find": "@",
//!      "patterns": ["[0-9]+"]}
//! ]}
//! ```
//!
//! A value is one of `text`, `boolean`, `int`, `double`, `bytes` and `json`.
//! Rows are numbers or `"all"`. `dump` reads everything by every read function
//! and sets the result, one JSON text, on span row 0; its shape is [`dump`]'s.
//! `search-texts` does so with what the functions over given texts say; its shape
//! is [`dump::searched`]'s.
//! Patterns are compiled by `configure`.
//!
//! The guest uses the generated bindings alone, so that its tests are tests of
//! the interface.

use std::cell::RefCell;
use std::collections::BTreeMap;

use exports::vespid::plugin::processor::Guest;
use serde::Deserialize;
use vespid::plugin::types::{Label, LogLevel, Owner, Packed, Value};
use vespid::plugin::{batch, edits, host, patterns};

mod dump;

wit_bindgen::generate!({ path: "../../../wit", world: "span-processor" });

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    steps: Vec<Step>,
}

#[derive(Clone, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
enum Step {
    Drop {
        rows: Rows,
        reason: String,
    },
    Set {
        owner: OwnerName,
        rows: Rows,
        key: String,
        value: ValueOf,
    },
    SetTexts {
        owner: OwnerName,
        rows: Rows,
        key: String,
        values: Vec<String>,
    },
    SetTextsCoded {
        owner: OwnerName,
        rows: Rows,
        key: String,
        codes: Vec<u32>,
        dictionary: Vec<String>,
    },
    ReplaceTexts {
        owner: OwnerName,
        rows: Rows,
        key: String,
        codes: Vec<u32>,
        old: Vec<String>,
        new: Vec<String>,
    },
    Remove {
        owner: OwnerName,
        rows: Rows,
        key: String,
    },
    SetNames {
        rows: Rows,
        names: Vec<String>,
    },
    SetStatus {
        rows: Rows,
        code: u8,
        message: String,
    },
    SetTenant {
        rows: Rows,
        tenant: String,
    },
    ReplaceMatches {
        owner: OwnerName,
        patterns: Vec<String>,
        replacement: String,
    },
    SearchTexts {
        key: String,
        patterns: Vec<String>,
        texts: Vec<String>,
    },
    Log {
        level: LevelName,
        message: String,
    },
    Count {
        name: String,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        amount: f64,
    },
    Record {
        name: String,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        value: f64,
    },
    Reject {
        message: String,
    },
    Dump {
        key: String,
        #[serde(default)]
        metadata: Vec<String>,
        #[serde(default)]
        find: String,
        #[serde(default)]
        patterns: Vec<String>,
    },
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Rows {
    Listed(Vec<u32>),
    Named(AllRows),
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AllRows {
    All,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OwnerName {
    Span,
    Resource,
    Scope,
    Event,
    Link,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LevelName {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ValueOf {
    Text(String),
    Boolean(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    Json(String),
}

/// A step with the numbers of its compiled patterns.
#[derive(Clone)]
struct Ready {
    step: Step,
    patterns: Vec<u32>,
}

thread_local! {
    static STEPS: RefCell<Vec<Ready>> = const { RefCell::new(Vec::new()) };
}

struct Script;

impl Guest for Script {
    fn configure(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        let steps: Result<Vec<Ready>, String> = config.steps.into_iter().map(ready).collect();
        STEPS.set(steps?);
        Ok(())
    }

    fn process() -> Result<(), String> {
        let steps = STEPS.with_borrow(Clone::clone);
        steps.into_iter().try_for_each(run)
    }
}

export!(Script);

fn ready(step: Step) -> Result<Ready, String> {
    let texts = match &step {
        Step::ReplaceMatches { patterns, .. } | Step::Dump { patterns, .. } | Step::SearchTexts { patterns, .. } => {
            patterns.as_slice()
        }
        _ => &[],
    };
    let compiled: Result<Vec<u32>, String> = texts.iter().map(|text| patterns::compile(text)).collect();
    Ok(Ready { patterns: compiled?, step })
}

fn run(ready: Ready) -> Result<(), String> {
    match ready.step {
        Step::Log { level, message } => host::log(level.into(), &message),
        Step::Count { name, labels, amount } => host::counter_add(&name, &listed(labels), amount),
        Step::Record { name, labels, value } => host::histogram_record(&name, &listed(labels), value),
        Step::Reject { message } => return Err(message),
        Step::Dump { key, metadata, find, .. } => {
            let everything = dump::everything(&metadata, &find, &ready.patterns);
            edits::set_text_attribute(Owner::Span, &[0], &key, &[everything.to_string()]);
        }
        Step::SearchTexts { key, texts, .. } => {
            let searched = dump::searched(&ready.patterns, &packed(&texts));
            edits::set_text_attribute(Owner::Span, &[0], &key, &[searched.to_string()]);
        }
        edit => apply(edit, &ready.patterns),
    }
    Ok(())
}

fn apply(edit: Step, patterns: &[u32]) {
    match edit {
        Step::Drop { rows, reason } => edits::drop_spans(&rows.of(Owner::Span), &reason),
        Step::Set { owner, rows, key, value } => {
            let of = owner.into();
            edits::set_attribute(of, &rows.of(of), &key, &value.into());
        }
        Step::SetTexts { owner, rows, key, values } => {
            let of = owner.into();
            edits::set_text_attribute(of, &rows.of(of), &key, &values);
        }
        Step::SetTextsCoded { owner, rows, key, codes, dictionary } => {
            let of = owner.into();
            let texts = packed(&dictionary);
            edits::set_text_attribute_coded(of, &rows.of(of), &key, &codes, &texts);
        }
        Step::ReplaceTexts { owner, rows, key, codes, old, new } => {
            let of = owner.into();
            edits::replace_texts(of, &rows.of(of), &key, &codes, &packed(&old), &packed(&new));
        }
        Step::Remove { owner, rows, key } => {
            let of = owner.into();
            edits::remove_attribute(of, &rows.of(of), &key);
        }
        Step::SetNames { rows, names } => edits::set_names(&rows.of(Owner::Span), &names),
        Step::SetStatus { rows, code, message } => edits::set_status(&rows.of(Owner::Span), code, &message),
        Step::SetTenant { rows, tenant } => edits::set_tenant(&rows.of(Owner::Span), &tenant),
        Step::ReplaceMatches { owner, replacement, .. } => {
            patterns::replace_matches(owner.into(), patterns, &replacement);
        }
        _ => unreachable!("`run` takes the steps that edit nothing"),
    }
}

impl Rows {
    fn of(self, owner: Owner) -> Vec<u32> {
        match self {
            Rows::Listed(rows) => rows,
            Rows::Named(AllRows::All) => (0..row_count(owner)).collect(),
        }
    }
}

/// How many rows the owner has: the kinds of any key list every row.
fn row_count(of: Owner) -> u32 {
    batch::attribute_types(of, "").len() as u32
}

fn packed(texts: &[String]) -> Packed {
    let mut packed = Packed { data: Vec::new(), ends: Vec::new() };
    for text in texts {
        packed.data.extend_from_slice(text.as_bytes());
        packed.ends.push(packed.data.len() as u32);
    }
    packed
}

fn listed(labels: BTreeMap<String, String>) -> Vec<Label> {
    let labels = labels.into_iter();
    labels.map(|(name, value)| Label { name, value }).collect()
}

impl From<OwnerName> for Owner {
    fn from(name: OwnerName) -> Self {
        match name {
            OwnerName::Span => Owner::Span,
            OwnerName::Resource => Owner::Resource,
            OwnerName::Scope => Owner::Scope,
            OwnerName::Event => Owner::Event,
            OwnerName::Link => Owner::Link,
        }
    }
}

impl From<LevelName> for LogLevel {
    fn from(name: LevelName) -> Self {
        match name {
            LevelName::Trace => LogLevel::Trace,
            LevelName::Debug => LogLevel::Debug,
            LevelName::Info => LogLevel::Info,
            LevelName::Warn => LogLevel::Warn,
            LevelName::Error => LogLevel::Error,
        }
    }
}

impl From<ValueOf> for Value {
    fn from(value: ValueOf) -> Self {
        match value {
            ValueOf::Text(text) => Value::Text(text),
            ValueOf::Boolean(truth) => Value::Boolean(truth),
            ValueOf::Int(number) => Value::Int(number),
            ValueOf::Double(number) => Value::Double(number),
            ValueOf::Bytes(bytes) => Value::Bytes(bytes),
            ValueOf::Json(json) => Value::Json(json),
        }
    }
}
