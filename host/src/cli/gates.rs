//! Feature gates: the Collector's switches. Its Operator and Helm chart set some at
//! each start, so an id that is not known here keeps nothing from starting.

use crate::config::{Problem, Problems};

/// A gate that changes something here.
struct Gate {
    id: &'static str,
    stage: &'static str,
    description: &'static str,
}

const APPEND_LISTS: &str = "confmap.enableMergeAppendOption";

const GATES: [Gate; 1] = [Gate {
    id: APPEND_LISTS,
    stage: "Alpha",
    description: "where configs are merged, lists under service.extensions and the receivers and exporters of \
                  service.pipelines are appended instead of replaced",
}];

/// Gates of the Collector whose either state is what happens here anyway, or that are
/// about what this collector does not have.
const WITHOUT_EFFECT: [&str; 11] = [
    "UseCollectorDefaultTelemetryShape",
    "exporter.PersistRequestContext",
    "otelcol.printInitialConfig",
    "pkg.exporterhelper.queueBatchEnabled",
    "processor.filter.defaultErrorModeIgnore",
    "processor.tailsamplingprocessor.recordpolicy",
    "processor.transform.defaultErrorModeIgnore",
    "receiverhelper.newReceiverMetrics",
    "service.partialReload",
    "service.partialReloadReceivers",
    "telemetry.UseLocalHostAsDefaultMetricsAddress",
];

/// The gates as `--feature-gates` sets them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gates {
    pub append_lists: bool,
}

impl Gates {
    /// `a` and `+a` switch on, `-a` off; the last word on a gate counts. One warning
    /// names all that are not known.
    pub(super) fn read(written: &[String], problems: &Problems) -> Self {
        let mut gates = Self::default();
        let mut unknown: Vec<&str> = Vec::new();
        for text in written.iter().flat_map(|text| text.split(',')).map(str::trim) {
            let (id, on) = match text.strip_prefix('-') {
                Some(id) => (id, false),
                None => (text.strip_prefix('+').unwrap_or(text), true),
            };
            match id {
                "" => {}
                APPEND_LISTS => gates.append_lists = on,
                id if WITHOUT_EFFECT.contains(&id) || unknown.contains(&id) => {}
                id => unknown.push(id),
            }
        }
        if !unknown.is_empty() {
            let ids: Vec<String> = unknown.iter().map(|id| format!("`{id}`")).collect();
            let message = format!("not known here, and without effect: {}", ids.join(", "));
            let hint = "`vespid featuregate` lists the gates that have an effect";
            problems.warning(Problem::new("--feature-gates", message).hint(hint));
        }
        gates
    }
}

/// `vespid featuregate [ID]`.
pub(super) fn execute(id: Option<&str>) -> anyhow::Result<()> {
    let found: Vec<&Gate> = GATES.iter().filter(|gate| id.is_none_or(|id| id == gate.id)).collect();
    if let Some(id) = id.filter(|_| found.is_empty()) {
        let known = WITHOUT_EFFECT.contains(&id);
        anyhow::bail!(
            "feature gate `{id}` {}",
            if known { "is taken, and has no effect here" } else { "is not known" }
        );
    }
    println!("{:<34}{:<9}{:<8}Description", "ID", "Enabled", "Stage");
    for gate in found {
        println!("{:<34}{:<9}{:<8}{}", gate.id, false, gate.stage, gate.description);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &[&str]) -> (Gates, Vec<String>) {
        let problems = Problems::new();
        let written: Vec<String> = written.iter().map(|text| (*text).to_owned()).collect();
        let gates = Gates::read(&written, &problems);
        (gates, problems.take_warnings().into_iter().map(|warning| warning.message).collect())
    }

    #[test]
    fn the_last_word_on_a_gate_counts() {
        assert!(read(&["confmap.enableMergeAppendOption"]).0.append_lists);
        assert!(read(&["-confmap.enableMergeAppendOption,+confmap.enableMergeAppendOption"]).0.append_lists);
        assert!(!read(&["confmap.enableMergeAppendOption", "-confmap.enableMergeAppendOption"]).0.append_lists);
        assert_eq!(read(&["", "service.partialReload,,-otelcol.printInitialConfig"]), (Gates::default(), vec![]));
    }

    #[test]
    fn one_warning_names_all_gates_that_are_not_known() {
        let (_, warnings) = read(&["a.b,-c", "+a.b,service.partialReload"]);
        assert_eq!(warnings, ["not known here, and without effect: `a.b`, `c`"]);
    }
}
