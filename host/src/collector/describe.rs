//! What `validate` shows of a config that is sound.

use crate::component::Delivery;
use crate::config::{Config, Pipeline, Reference};
use crate::extension::PipelineOverview;

use super::Graph;

impl Graph {
    /// How the pipelines are built, and when their senders get their OK: a line for each.
    pub fn describe(&self, config: &Config) -> String {
        let line = |pipeline: &Pipeline| {
            let id = pipeline.id.to_string();
            let built = self.overview.pipelines.iter().find(|it| it.id == id);
            format!("{}; {}\n", way(pipeline), built.map_or_else(String::new, delivery))
        };
        config.service.pipelines.iter().map(line).collect()
    }
}

fn way(pipeline: &Pipeline) -> String {
    let names = |references: &[Reference]| -> String {
        references.iter().map(|reference| reference.id.to_string()).collect::<Vec<_>>().join(", ")
    };
    // Batches are made behind all other processors.
    let (batches, processors): (Vec<_>, Vec<_>) =
        pipeline.processors.iter().partition(|it| it.id.kind.as_str() == "batch");
    let steps = processors.into_iter().chain(batches.last().copied());
    let steps: String = steps.map(|it| format!(" → {}", it.id)).collect();
    format!("{}: {}{steps} → {}", pipeline.id, names(&pipeline.receivers), names(&pipeline.exporters))
}

/// When a sender gets its OK from a pipeline.
pub fn delivery(pipeline: &PipelineOverview) -> String {
    let all = &pipeline.deliveries;
    let is_batched = pipeline.processors.iter().any(|id| id == "batch" || id.starts_with("batch/"));
    let merged = if is_batched { " of its request, whatever batch they went in" } else { "" };
    if all.iter().all(|(_, delivery)| *delivery == Delivery::Delivered) {
        return format!("a sender gets its OK when every exporter's destination has the spans{merged}");
    }
    let of = |wanted: fn(&Delivery) -> bool| -> Vec<&str> {
        all.iter().filter(|(_, delivery)| wanted(delivery)).map(|(id, _)| id.as_str()).collect()
    };
    let delivered = of(|delivery| *delivery == Delivery::Delivered);
    let mut waits = vec![];
    if !delivered.is_empty() {
        waits.push(format!("the destination of {} has the spans{merged}", delivered.join(", ")));
    }
    for (id, delivery) in all {
        if let Delivery::Synced(storage) = delivery {
            waits.push(format!("the destination of {id} has them or they are synced to {storage}"));
        }
    }
    let early = of(|delivery| *delivery == Delivery::Early);
    let early = match early.as_slice() {
        [] => String::new(),
        ids => format!("early OK from {}: a crash loses what they have not sent", ids.join(", ")),
    };
    match (waits.as_slice(), early.as_str()) {
        ([], _) => early,
        (_, "") => format!("a sender gets its OK when {}", waits.join(" and ")),
        _ => format!("a sender gets its OK when {}; {early}", waits.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(deliveries: &[(&str, Delivery)], processors: &[&str]) -> String {
        let texts = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        delivery(&PipelineOverview {
            id: "traces".to_owned(),
            receivers: vec![],
            processors: texts(processors),
            exporters: vec![],
            deliveries: deliveries.iter().map(|(id, delivery)| ((*id).to_owned(), delivery.clone())).collect(),
        })
    }

    #[test]
    fn the_modes_of_a_pipelines_exporters_stand_in_one_line() {
        let synced = || Delivery::Synced("file_storage".to_owned());
        assert_eq!(
            line(&[("otlp", Delivery::Delivered), ("otlp/b", synced())], &["batch/x"]),
            "a sender gets its OK when the destination of otlp has the spans of its request, whatever batch they \
             went in and the destination of otlp/b has them or they are synced to file_storage"
        );
        assert_eq!(
            line(&[("otlp", Delivery::Early), ("otlp/b", synced())], &[]),
            "a sender gets its OK when the destination of otlp/b has them or they are synced to file_storage; early \
             OK from otlp: a crash loses what they have not sent"
        );
        assert_eq!(
            line(&[("otlp", Delivery::Early)], &[]),
            "early OK from otlp: a crash loses what they have not sent"
        );
    }
}
