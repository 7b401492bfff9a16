//! Applies a call's edits in call order, drops last.

use super::Traces;
use crate::StatusCode;
use crate::types::{Owner, Value};

/// An edit, its rows checked when it was ordered.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    Drop { rows: Vec<u32>, reason: String },
    Set { of: Owner, rows: Vec<u32>, key: String, value: Value },
    SetTexts { of: Owner, rows: Vec<u32>, key: String, values: Vec<String> },
    Remove { of: Owner, rows: Vec<u32>, key: String },
    Replace { of: Owner, texts: Vec<Replaced> },
    Names { rows: Vec<u32>, names: Vec<String> },
    Status { rows: Vec<u32>, code: StatusCode, message: String },
    Tenant { rows: Vec<u32>, tenant: String },
}

/// A text that an edit by pattern replaced.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    pub row: u32,
    pub key: String,
    /// Which of the row's attributes of that key, from 0.
    pub occurrence: usize,
    pub text: String,
}

/// Applies all edits but the drops; returns each span's drop reason.
pub(super) fn all(traces: &mut Traces, edits: Vec<Edit>) -> Vec<Option<String>> {
    let mut reasons = vec![None; traces.spans.len()];
    for edit in edits {
        match edit {
            Edit::Drop { rows, reason } => {
                for row in rows {
                    reasons[row as usize].get_or_insert_with(|| reason.clone());
                }
            }
            other => apply(traces, other),
        }
    }
    reasons
}

fn apply(traces: &mut Traces, edit: Edit) {
    let span = |row: u32| row as usize;
    match edit {
        Edit::Drop { .. } => {}
        Edit::Set { of, rows, key, value } => {
            let mut owners = traces.attributes_mut(of);
            for row in rows {
                owners[row as usize].set(&key, value.clone());
            }
        }
        Edit::SetTexts { of, rows, key, values } => {
            let mut owners = traces.attributes_mut(of);
            for (row, value) in rows.into_iter().zip(values) {
                owners[row as usize].set(&key, Value::Text(value));
            }
        }
        Edit::Remove { of, rows, key } => {
            let mut owners = traces.attributes_mut(of);
            for row in rows {
                owners[row as usize].remove(&key);
            }
        }
        Edit::Replace { of, texts } => replace(traces, of, texts),
        Edit::Names { rows, names } => {
            for (row, name) in rows.into_iter().zip(names) {
                traces.spans[span(row)].name = name;
            }
        }
        Edit::Status { rows, code, message } => {
            for row in rows {
                let status = &mut traces.spans[span(row)].status;
                (status.code, status.message) = (code, message.clone());
            }
        }
        Edit::Tenant { rows, tenant } => {
            for row in rows {
                traces.spans[span(row)].tenant = Some(tenant.clone());
            }
        }
    }
}

/// Replaces in place; an attribute that an earlier edit removed stays away.
fn replace(traces: &mut Traces, of: Owner, texts: Vec<Replaced>) {
    let mut owners = traces.attributes_mut(of);
    for replaced in texts {
        let attributes = &mut owners[replaced.row as usize].0;
        let mut same_key = attributes.iter_mut().filter(|(key, _)| *key == replaced.key);
        if let Some((_, value)) = same_key.nth(replaced.occurrence) {
            *value = Value::Text(replaced.text);
        }
    }
}
