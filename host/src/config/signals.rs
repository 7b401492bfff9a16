//! Pipelines of other signals than traces, and `--traces-only`, which leaves them out
//! together with what only they name.

use std::collections::HashSet;

use super::error::{Problem, Problems};
use super::node::{Node, Value};
use super::shape::Mentioned;
use super::{Component, ComponentId, Config, Pipeline, Reference};

/// The keys by which the Collector's components name extensions.
const EXTENSION_KEYS: [&str; 9] = [
    "authenticator",
    "encoding",
    "encoding_extension",
    "id",
    "k8s_leader_elector",
    "observers",
    "storage",
    "storage_id",
    "watch_observers",
];

/// Refuses the pipelines, and notes which components only they name.
pub(super) fn refuse(config: &mut Config, traces: &[Pipeline], others: &[Pipeline], problems: &Problems) {
    let (kept, gone) = (Mentioned::of(traces), Mentioned::of(others));
    for (components, kept, gone) in sides(config, &kept, &gone) {
        for component in components.iter_mut() {
            component.elsewhere = gone.contains(&component.id) && !kept.contains(&component.id);
        }
    }
    for pipeline in others {
        let path = format!("service.pipelines.{}", pipeline.id);
        let problem = Problem::new(path, "this collector carries traces only").at(&pipeline.at);
        problems.error(problem.hint("start with `--traces-only`, which leaves such pipelines out, or remove it"));
    }
}

/// Leaves out the pipelines `others` and the components and extensions that nothing
/// else names, unseen. One warning says what.
pub(super) fn leave_out(
    config: &mut Config,
    traces: &mut [Pipeline],
    others: &[Pipeline],
    extensions: &mut Vec<Reference>,
    problems: &Problems,
) {
    if others.is_empty() {
        return;
    }
    if traces.is_empty() {
        let hint = "add a pipeline `traces: {receivers: […], exporters: […]}`";
        problems.error(Problem::new("service.pipelines", "`--traces-only` leaves no pipeline").hint(hint));
    }
    cut_bridges(config, traces, others, problems);
    let (kept, gone) = (Mentioned::of(&*traces), Mentioned::of(others));
    let mut left_out = vec![named("pipeline", others.iter().map(|pipeline| &pipeline.id))];
    let mut orphans = HashSet::new();
    for (components, kept, gone) in sides(config, &kept, &gone) {
        let unseen = |component: &mut Component| gone.contains(&component.id) && !kept.contains(&component.id);
        let removed: Vec<Component> = components.extract_if(.., unseen).collect();
        let Some(kind) = removed.first().and_then(|component| component.path.split_once("s.")) else { continue };
        left_out.push(named(kind.0, removed.iter().map(|component| &component.id)));
        removed.iter().for_each(|component| collect_extensions(&component.settings, false, &mut orphans));
    }
    let mut needed = HashSet::new();
    for component in
        [&config.receivers, &config.processors, &config.exporters, &config.connectors].into_iter().flatten()
    {
        collect_extensions(&component.settings, false, &mut needed);
    }
    let orphaned = |id: &ComponentId| orphans.contains(&id.to_string()) && !needed.contains(&id.to_string());
    let removed: Vec<_> = config.extensions.extract_if(.., |component| orphaned(&component.id)).collect();
    extensions.retain(|reference| !orphaned(&reference.id));
    if !removed.is_empty() {
        left_out.push(named("extension", removed.iter().map(|component| &component.id)));
    }
    let message = format!("left out, as `--traces-only` asks: {}", left_out.join("; "));
    problems.warning(Problem::new("service.pipelines", message));
}

/// The components of each kind, with the ids that pipelines to keep and pipelines to
/// leave out name in their place.
fn sides<'a>(
    config: &'a mut Config,
    kept: &Mentioned,
    gone: &Mentioned,
) -> [(&'a mut Vec<Component>, HashSet<ComponentId>, HashSet<ComponentId>); 4] {
    let both = |mentioned: &Mentioned| mentioned.receivers.union(&mentioned.exporters).cloned().collect();
    [
        (&mut config.receivers, kept.receivers.clone(), gone.receivers.clone()),
        (&mut config.processors, kept.processors.clone(), gone.processors.clone()),
        (&mut config.exporters, kept.exporters.clone(), gone.exporters.clone()),
        (&mut config.connectors, both(kept), both(gone)),
    ]
}

/// Takes the connectors out of traces pipelines whose other end is left out. A pipeline
/// must keep both of its ends.
fn cut_bridges(config: &Config, traces: &mut [Pipeline], others: &[Pipeline], problems: &Problems) {
    let (kept, gone) = (Mentioned::of(&*traces), Mentioned::of(others));
    let connectors: HashSet<&ComponentId> = config.connectors.iter().map(|connector| &connector.id).collect();
    for pipeline in traces {
        let ends = [
            (&mut pipeline.exporters, "exporter", "leads to", &kept.receivers, &gone.receivers),
            (&mut pipeline.receivers, "receiver", "is fed by", &kept.exporters, &gone.exporters),
        ];
        for (references, kind, verb, kept, gone) in ends {
            let cut = |reference: &Reference| {
                let id = &reference.id;
                connectors.contains(id) && gone.contains(id) && !kept.contains(id)
            };
            let is_last = references.iter().all(cut);
            for reference in references.iter().filter(|reference| cut(reference)) {
                let path = format!("service.pipelines.{}.{kind}s", pipeline.id);
                let id = &reference.id;
                let problem = |message: String| Problem::new(&path, message).at(&reference.at);
                if is_last {
                    let message = format!(
                        "connector `{id}` {verb} what `--traces-only` leaves out, and there is no other {kind}"
                    );
                    problems.error(
                        problem(message).hint(format!("add {} of traces, or remove the pipeline", article(kind))),
                    );
                } else {
                    problems.warning(problem(format!(
                        "connector `{id}` {verb} what `--traces-only` leaves out, and is left out too"
                    )));
                }
            }
            references.retain(|reference| !cut(reference));
        }
    }
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with('e') { "an" } else { "a" };
    format!("{article} {kind}")
}

/// Ids of extensions that settings name.
fn collect_extensions(node: &Node, is_named: bool, found: &mut HashSet<String>) {
    match &node.value {
        Value::Text(text) if is_named => drop(found.insert(text.trim().to_owned())),
        Value::List(items) => items.iter().for_each(|item| collect_extensions(item, is_named, found)),
        Value::Map(map) => {
            for (key, value) in &map.entries {
                collect_extensions(value, EXTENSION_KEYS.contains(&key.name.as_str()), found);
            }
        }
        _ => {}
    }
}

/// "receivers `a`, `b`".
fn named<'a>(kind: &str, ids: impl Iterator<Item = &'a ComponentId>) -> String {
    let ids: Vec<String> = ids.map(|id| format!("`{id}`")).collect();
    let ending = if ids.len() == 1 { "" } else { "s" };
    format!("{kind}{ending} {}", ids.join(", "))
}
