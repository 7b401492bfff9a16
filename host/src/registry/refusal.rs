//! A plugin that cannot be used, told at the setting that it is about.

use std::error::Error as _;

use super::place;
use crate::config::{Component, Node, Problem, Value};
use crate::plugin::LoadError;

/// What is wrong with a processor, each at its place.
pub fn problems_of(component: &Component, error: &LoadError) -> Vec<Problem> {
    let (key, hint) = error.place();
    if let LoadError::Configure(text) = error {
        let (path, node) = match component.id.kind.as_str() {
            "wasm" => (format!("{}.config", component.path), config_of(component)),
            // A processor of the Collector: all its keys are the plugin's.
            _ => (component.path.clone(), Some(&component.settings)),
        };
        if let Some(found) = node.and_then(|node| told(&path, node, text)) {
            return found;
        }
        let at = node.map_or(&component.at, |node| &node.at);
        let at = if path == component.path { &component.at } else { at };
        let (message, told) = text.split_once("\nhint: ").unwrap_or((text, hint));
        let message = match key {
            _ if path == component.path => message.to_owned(),
            _ => format!("the plugin refused its configuration: {message}"),
        };
        return vec![Problem::new(path, message).at(at).hint(told)];
    }
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let problem = Problem::new(format!("{}.{key}", component.path), format!("{error}{cause}"));
    vec![problem.at(place(component, key)).hint(hint)]
}

fn config_of(component: &Component) -> Option<&Node> {
    match &component.settings.value {
        Value::Map(map) => map.get("config").map(|(_, node)| node),
        _ => None,
    }
}

/// What a plugin said of its settings, where it says it as the SDK does: a line for
/// each mistake, `actions[2].key: what is wrong`, and a line `hint: …` behind some.
/// Lines that name no setting belong to the message before them.
fn told(path: &str, node: &Node, text: &str) -> Option<Vec<Problem>> {
    let mut problems: Vec<Problem> = vec![];
    for line in text.lines() {
        if let Some(hint) = line.strip_prefix("hint: ") {
            let last = problems.pop()?;
            problems.push(last.hint(hint));
            continue;
        }
        let setting = line.split_once(": ").map(|(setting, message)| (setting, message, node.find(setting)));
        match setting.filter(|(_, _, (_, found))| !found.is_empty()) {
            Some((setting, message, (at, _))) => {
                let separator = if setting.starts_with('[') { "" } else { "." };
                problems.push(Problem::new(format!("{path}{separator}{setting}"), message).at(at));
            }
            None => {
                let mut last = problems.pop()?;
                last.message.push('\n');
                last.message.push_str(line);
                problems.push(last);
            }
        }
    }
    (!problems.is_empty()).then_some(problems)
}
