//! Connectors join pipelines: each stands at both ends, and the way has an end.

use std::collections::HashMap;

use super::error::{Problem, Problems};
use super::shape::Mentioned;
use super::{Component, ComponentId, Pipeline, Reference};

/// Reports connectors of which one side is missing, and a cycle. The messages begin
/// with the Collector's words, for the sake of those who search for them.
pub(super) fn check(connectors: &[Component], pipelines: &[Pipeline], mentioned: &Mentioned, problems: &Problems) {
    for connector in connectors {
        let id = &connector.id;
        let (receives, exports) = (mentioned.receivers.contains(id), mentioned.exporters.contains(id));
        let (used, missing) = match (receives, exports) {
            (true, false) => ("receiver", "exporter"),
            (false, true) => ("exporter", "receiver"),
            _ => continue,
        };
        let side = |pipeline: &Pipeline| {
            let list = if receives { &pipeline.receivers } else { &pipeline.exporters };
            list.iter().find(|reference| reference.id == *id).map(|reference| reference.at.clone())
        };
        let Some(at) = pipelines.iter().find_map(side) else { continue };
        let message = format!(
            "connector \"{id}\" used as {used} in [traces] pipeline but not used in any supported {missing} pipeline"
        );
        let hint = format!("name `{id}` under the `{missing}s` of another traces pipeline too, or remove it");
        problems.error(Problem::new("service.pipelines", message).at(&at).hint(hint));
    }
    let graph = Graph::new(connectors, pipelines);
    let (_, stuck) = graph.downstream_first();
    let cycle = graph.cycle(&stuck);
    if let Some((first, _)) = cycle.first() {
        let steps: String = cycle
            .iter()
            .map(|(pipeline, through)| {
                format!("pipeline \"{}\" -> connector \"{through}\" (traces to traces) -> ", pipeline.id)
            })
            .collect();
        let message = format!("cycle detected: {steps}pipeline \"{}\"", first.id);
        let problem = Problem::new("service.pipelines", message).at(&first.at);
        problems.error(problem.hint("spans would go round for ever: take one of these connectors out of a pipeline"));
    }
}

/// Which pipelines lead to which.
pub(super) struct Graph<'a> {
    pipelines: &'a [Pipeline],
    connectors: HashMap<&'a ComponentId, Connector>,
}

/// The pipelines, by their place, on both sides of a connector.
#[derive(Default)]
struct Connector {
    feeders: Vec<usize>,
    readers: Vec<usize>,
}

impl<'a> Graph<'a> {
    pub fn new(connectors: &'a [Component], pipelines: &'a [Pipeline]) -> Self {
        let mut sides: HashMap<&ComponentId, Connector> =
            connectors.iter().map(|connector| (&connector.id, Connector::default())).collect();
        for (index, pipeline) in pipelines.iter().enumerate() {
            for reference in &pipeline.receivers {
                sides.entry(&reference.id).and_modify(|connector| connector.readers.push(index));
            }
            for reference in &pipeline.exporters {
                sides.entry(&reference.id).and_modify(|connector| connector.feeders.push(index));
            }
        }
        Graph { pipelines, connectors: sides }
    }

    /// The pipelines, each behind all that it leads to, and those that lead round
    /// for ever, by their place.
    pub fn downstream_first(&self) -> (Vec<&'a Pipeline>, Vec<bool>) {
        let leads = |reference: &Reference| {
            self.connectors.get(&reference.id).is_some_and(|connector| !connector.readers.is_empty())
        };
        let count = |pipeline: &Pipeline| pipeline.exporters.iter().filter(|reference| leads(reference)).count();
        let mut waiting: Vec<usize> = self.pipelines.iter().map(count).collect();
        let mut unread: HashMap<&ComponentId, usize> =
            self.connectors.iter().map(|(id, connector)| (*id, connector.readers.len())).collect();
        // From its end, so that pipelines without connectors keep their order.
        let mut ready: Vec<usize> = (0..self.pipelines.len()).rev().filter(|&i| waiting.get(i) == Some(&0)).collect();
        let mut order = Vec::new();
        let mut stuck = vec![true; self.pipelines.len()];
        while let Some(index) = ready.pop() {
            let Some(pipeline) = self.pipelines.get(index) else { continue };
            order.push(pipeline);
            stuck.get_mut(index).into_iter().for_each(|stuck| *stuck = false);
            for reference in &pipeline.receivers {
                let Some(left) = unread.get_mut(&reference.id) else { continue };
                *left = left.saturating_sub(1);
                let feeders = self.connectors.get(&reference.id).filter(|_| *left == 0);
                for &feeder in feeders.into_iter().flat_map(|connector| &connector.feeders) {
                    let Some(waiting) = waiting.get_mut(feeder) else { continue };
                    *waiting = waiting.saturating_sub(1);
                    if *waiting == 0 {
                        ready.push(feeder);
                    }
                }
            }
        }
        (order, stuck)
    }

    /// A cycle among the pipelines that are stuck, each with the connector to the next.
    fn cycle(&self, stuck: &[bool]) -> Vec<(&'a Pipeline, &'a ComponentId)> {
        let is_stuck = |index: &usize| stuck.get(*index) == Some(&true);
        let mut way: Vec<(&Pipeline, &ComponentId)> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut here = stuck.iter().position(|stuck| *stuck);
        while let Some(index) = here {
            if let Some(&start) = places.get(&index) {
                return way.split_off(start);
            }
            places.insert(index, way.len());
            let Some(pipeline) = self.pipelines.get(index) else { break };
            // What is stuck leads to something that is stuck.
            let next = pipeline.exporters.iter().find_map(|reference| {
                let connector = self.connectors.get(&reference.id)?;
                Some((&reference.id, connector.readers.iter().copied().find(is_stuck)?))
            });
            here = next.map(|(_, index)| index);
            way.extend(next.map(|(through, _)| (pipeline, through)));
        }
        Vec::new()
    }
}
