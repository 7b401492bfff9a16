//! The shape of a config: components, pipelines, and that they fit together.

use std::collections::{HashMap, HashSet};

use super::error::{Problem, Problems};
use super::node::{Key, Node, Position};
use super::section::Section;
use super::suggest::{closest, listed};
use super::{Component, ComponentId, Config, Pipeline, Reference, Service, connectors, signals};

/// References to nothing beyond so many get no suggestion, which takes a look at
/// every id there is.
const MAX_SUGGESTIONS: usize = 100;
/// Ids that a hint lists at most.
const MAX_LISTED: usize = 30;

/// Reads the merged and substituted tree; what is wrong goes to `problems` and is left
/// out of the result. With `traces_only`, pipelines of other signals are left out.
pub(super) fn read(merged: Node, traces_only: bool, problems: &Problems) -> Config {
    let mut top = Section::new(&merged, "", problems);
    let receivers = components(&mut top, "receivers");
    let processors = components(&mut top, "processors");
    let exporters = components(&mut top, "exporters");
    let connectors = components(&mut top, "connectors");
    let extensions = components(&mut top, "extensions");
    let service = top.section("service");
    if service.is_none() {
        top.problem(
            "no `service` is configured",
            "add `service: {pipelines: {traces: {receivers: […], exporters: […]}}}`",
        );
    }
    top.finish();
    let mut config = Config {
        receivers,
        processors,
        exporters,
        connectors,
        extensions,
        service: Service::default(),
        warnings: Vec::new(),
        merged: merged.clone(),
    };
    if let Some(service) = service {
        read_service(service, &mut config, traces_only, problems);
    }
    refuse_shared_ids(&config, problems);
    config
}

fn components(top: &mut Section<'_>, kind: &str) -> Vec<Component> {
    let Some(mut section) = top.section(kind) else {
        return Vec::new();
    };
    let mut components: Vec<Component> = Vec::new();
    let mut seen: HashMap<ComponentId, Position> = HashMap::new();
    for (key, node) in section.entries() {
        let path = section.path_of(&key.name);
        let Some(id) = id(&key.name, &key.at, &path, section.problems()) else {
            continue;
        };
        // Keys are told apart as written, ids without the blanks around them.
        if let Some(first) = seen.get(&id) {
            let message = format!("`{id}` is configured twice, first at {first}");
            section.problem_at(&key.name, message, "keep one of the two");
            continue;
        }
        seen.insert(id.clone(), key.at.clone());
        components.push(Component { id, path, at: key.at.clone(), settings: node.clone(), elsewhere: false });
    }
    components
}

fn id(text: &str, at: &Position, path: &str, problems: &Problems) -> Option<ComponentId> {
    match text.parse::<ComponentId>() {
        Ok(id) => Some(id),
        Err(error) => {
            let message = format!("`{text}` is not an id: {error}");
            problems.error(Problem::new(path, message).at(at).hint(error.hint()));
            None
        }
    }
}

/// A connector stands in pipelines where receivers and exporters do, so its id must
/// not be one of theirs.
fn refuse_shared_ids(config: &Config, problems: &Problems) {
    let sides = [("receiver", &config.receivers), ("exporter", &config.exporters)];
    let sides =
        sides.map(|(kind, others)| (kind, others.iter().map(|other| (&other.id, other)).collect::<HashMap<_, _>>()));
    for connector in &config.connectors {
        let id = &connector.id;
        for (kind, others) in &sides {
            if let Some(other) = others.get(id) {
                let message = format!(
                    "ambiguous ID: Found both \"{id}\" {kind} and \"{id}\" connector \
                     (the {kind} is at {})",
                    other.at
                );
                problems.error(
                    Problem::new(format!("connectors::{id}"), message)
                        .at(&connector.at)
                        .hint(format!("rename one of them, such as to `{id}/connector`")),
                );
            }
        }
    }
}

fn read_service(mut service: Section<'_>, config: &mut Config, traces_only: bool, problems: &Problems) {
    let mut extensions = references(&mut service, "extensions");
    let telemetry = service.node("telemetry").filter(|node| !node.is_null());
    let mut section = service.section_or_default("pipelines");
    let entries = section.entries();
    if entries.is_empty() {
        service.problem_at(
            "pipelines",
            "service must have at least one pipeline",
            "add `traces: {receivers: […], exporters: […]}` under `pipelines`",
        );
    }
    let (mut pipelines, mut others) = (Vec::new(), Vec::new());
    for (key, node) in entries {
        match pipeline(key, node, section.path_of(&key.name), problems) {
            Some(pipeline) if pipeline.id.kind == "traces" => pipelines.push(pipeline),
            Some(pipeline) => others.push(pipeline),
            None => {}
        }
    }
    service.finish();
    if traces_only {
        signals::leave_out(config, &mut pipelines, &others, &mut extensions, problems);
        others.clear();
    } else {
        signals::refuse(config, &pipelines, &others, problems);
    }
    let known = config.extensions.iter().map(|component| &component.id).collect();
    check_references(&extensions, "extension", "service::extensions", &known, problems);
    for pipeline in &pipelines {
        check_pipeline(pipeline, config, problems);
    }
    let mentioned = Mentioned::of(pipelines.iter().chain(&others));
    warn_of_idle(config, &mentioned, &extensions, problems);
    let service = Service { extensions, pipelines, telemetry: telemetry.cloned() };
    connectors::check(&config.connectors, &service.pipelines, &mentioned, problems);
    config.service = service;
}

/// What pipelines name. A receiver and an exporter may share an id.
#[derive(Default)]
pub(super) struct Mentioned {
    pub receivers: HashSet<ComponentId>,
    pub processors: HashSet<ComponentId>,
    pub exporters: HashSet<ComponentId>,
}

impl Mentioned {
    pub fn of<'a>(pipelines: impl IntoIterator<Item = &'a Pipeline>) -> Self {
        let mut mentioned = Self::default();
        let ids = |list: &'a [Reference]| list.iter().map(|reference| reference.id.clone());
        for pipeline in pipelines {
            mentioned.receivers.extend(ids(&pipeline.receivers));
            mentioned.processors.extend(ids(&pipeline.processors));
            mentioned.exporters.extend(ids(&pipeline.exporters));
        }
        mentioned
    }
}

/// Reads a pipeline. One of another signal than traces is read for the ids in it, and
/// what else is in it is of no matter.
fn pipeline(key: &Key, node: &Node, path: String, problems: &Problems) -> Option<Pipeline> {
    let id = id(&key.name, &key.at, &path, problems)?;
    let unheard = Problems::new();
    let problems = match id.kind.as_str() {
        "traces" => problems,
        "metrics" | "logs" | "profiles" => &unheard,
        kind => {
            let problem = Problem::new(path, format!("unknown signal `{kind}`")).at(&key.at);
            problems.error(problem.hint("name the pipeline `traces` or `traces/name`"));
            return None;
        }
    };
    let mut section = Section::new(node, path, problems);
    let pipeline = Pipeline {
        id,
        at: key.at.clone(),
        receivers: references(&mut section, "receivers"),
        processors: references(&mut section, "processors"),
        exporters: references(&mut section, "exporters"),
    };
    section.finish();
    for (list, kind) in [(&pipeline.receivers, "receiver"), (&pipeline.exporters, "exporter")] {
        if list.is_empty() {
            let path = format!("service.pipelines.{}.{kind}s", pipeline.id);
            problems.error(
                Problem::new(path, format!("must have at least one {kind}"))
                    .at(&key.at)
                    .hint(format!("add `{kind}s: [id]`, or remove the pipeline")),
            );
        }
    }
    Some(pipeline)
}

fn references(section: &mut Section<'_>, key: &str) -> Vec<Reference> {
    let mut references: Vec<Reference> = Vec::new();
    let mut seen: HashMap<ComponentId, Position> = HashMap::new();
    for (path, node) in section.list(key) {
        let Some(text) = node.as_text() else {
            let message = format!("{} is not an id", node.shown());
            section.problems().error(Problem::new(path, message).at(&node.at).hint("write `type` or `type/name`"));
            continue;
        };
        let Some(id) = id(text, &node.at, &path, section.problems()) else {
            continue;
        };
        if let Some(first) = seen.get(&id) {
            let message = format!("`{id}` is named twice, first at {first}");
            section.problems().error(Problem::new(path, message).at(&node.at).hint("keep one of the two"));
            continue;
        }
        seen.insert(id.clone(), node.at.clone());
        references.push(Reference { id, at: node.at.clone() });
    }
    references
}

fn ids<'c>(lists: &[&'c Vec<Component>]) -> HashSet<&'c ComponentId> {
    let components = lists.iter().flat_map(|list| list.iter());
    components.map(|component| &component.id).collect()
}

fn check_pipeline(pipeline: &Pipeline, config: &Config, problems: &Problems) {
    let owner = format!("service::pipelines::{}", pipeline.id);
    let sides = [
        (&pipeline.receivers, "receiver", ids(&[&config.receivers, &config.connectors])),
        (&pipeline.processors, "processor", ids(&[&config.processors])),
        (&pipeline.exporters, "exporter", ids(&[&config.exporters, &config.connectors])),
    ];
    for (references, kind, known) in sides {
        check_references(references, kind, &owner, &known, problems);
    }
}

/// Path and message together are the Collector's text to the letter, for the sake of
/// those who search for it.
fn check_references(
    references: &[Reference],
    kind: &str,
    owner: &str,
    known: &HashSet<&ComponentId>,
    problems: &Problems,
) {
    let missing: Vec<_> = references.iter().filter(|reference| !known.contains(&reference.id)).collect();
    // What a whole section would have held is not known where it could not be filled in.
    if missing.is_empty() || problems.has_error_of(&format!("{kind}s")) {
        return;
    }
    let mut names: Vec<String> = known.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    let names = || names.iter().map(String::as_str);
    for Reference { id, at } in missing {
        let near = match problems.errors() {
            0..MAX_SUGGESTIONS => closest(&id.to_string(), names()),
            _ => None,
        };
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() || known.len() > MAX_LISTED => format!("add `{id}:` under `{kind}s`"),
            None => format!("configured: {}; or add `{id}:` under `{kind}s`", listed(names())),
        };
        let message = format!("references {kind} \"{id}\" which is not configured");
        problems.error(Problem::new(owner, message).at(at).hint(hint));
    }
}

/// The Collector does not build what no pipeline names, and says nothing; a component
/// that was forgotten is worth a word.
fn warn_of_idle(config: &Config, mentioned: &Mentioned, extensions: &[Reference], problems: &Problems) {
    let idle = |component: &Component, place: &str| {
        let message = format!("configured, but named in no {place}, and so not started");
        problems.warning(
            Problem::new(&component.path, message)
                .at(&component.at)
                .hint(format!("name `{}` there, or remove it", component.id)),
        );
    };
    let Mentioned { receivers, processors, exporters } = mentioned;
    let connectors: HashSet<ComponentId> = receivers.union(exporters).cloned().collect();
    for (components, named) in [
        (&config.receivers, receivers),
        (&config.processors, processors),
        (&config.exporters, exporters),
        (&config.connectors, &connectors),
    ] {
        for component in components.iter().filter(|each| !named.contains(&each.id)) {
            idle(component, "pipeline");
        }
    }
    let extensions: HashSet<&ComponentId> = extensions.iter().map(|reference| &reference.id).collect();
    for component in &config.extensions {
        if !extensions.contains(&component.id) {
            idle(component, "list `service.extensions`");
        }
    }
}

#[cfg(test)]
mod tests;
