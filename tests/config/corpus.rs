//! Configs of real users, from the documentation, the charts and the tests of the
//! OpenTelemetry Collector, its Operator, Tempo, Alloy and others: what is made of
//! components that exist here is taken, and what is not is told by name. The folder is
//! not part of the tree; `VESPID_CORPUS` names another place for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_yaml::Value;

use crate::support::collector::{Ended, Process, vespid};
use crate::support::root;

const KINDS: [&str; 5] = ["receivers", "processors", "exporters", "connectors", "extensions"];

/// By kind: ids, types or the like.
type ByKind = BTreeMap<&'static str, BTreeSet<String>>;

fn corpus() -> Option<PathBuf> {
    let beside = root().parent()?.join("shared/corpus");
    let path = std::env::var_os("VESPID_CORPUS").map_or(beside, PathBuf::from);
    if !path.join("configs").is_dir() {
        eprintln!("skipped: there is no {}", path.join("configs").display());
        return None;
    }
    Some(path)
}

/// The types that exist, as the binary says.
fn known() -> ByKind {
    let listed = Process::spawn(&mut vespid(&["components"])).wait().out;
    let listed: Value = serde_yaml::from_str(&listed).unwrap();
    let names = |kind: &str| {
        let components = listed[kind].as_sequence().unwrap().iter();
        components.map(|component| component["name"].as_str().unwrap().to_owned()).collect()
    };
    KINDS.map(|kind| (kind, names(kind))).into()
}

/// A config as serde reads it.
struct Case {
    file: String,
    path: PathBuf,
    /// What the Collector's own `validate` says of it: `ok`, types that its core does
    /// not have, an error, or nothing because it is no such config.
    verdict: String,
    config: Option<Value>,
}

impl Case {
    fn configured(&self) -> ByKind {
        let keys = |kind: &str| {
            let section = self.config.as_ref().and_then(|config| config.get(kind)).and_then(Value::as_mapping);
            section.into_iter().flat_map(|map| map.keys()).filter_map(|key| key.as_str().map(str::to_owned)).collect()
        };
        KINDS.map(|kind| (kind, keys(kind))).into()
    }

    /// What the pipelines of traces name, or the others.
    fn named(&self, by_traces: bool) -> ByKind {
        let mut named = ByKind::new();
        for (id, pipeline) in self.pipelines() {
            if is_traces(&id) == by_traces {
                for kind in ["receivers", "processors", "exporters"] {
                    let ids = pipeline.get(kind).and_then(Value::as_sequence).into_iter().flatten();
                    named.entry(kind).or_default().extend(ids.filter_map(|id| id.as_str().map(str::to_owned)));
                }
            }
        }
        named
    }

    fn pipelines(&self) -> Vec<(String, Value)> {
        let found = self.config.as_ref().and_then(|config| config.get("service")?.get("pipelines")?.as_mapping());
        let pipelines = found.into_iter().flatten();
        pipelines.filter_map(|(id, pipeline)| Some((id.as_str()?.to_owned(), pipeline.clone()))).collect()
    }

    /// Sound but for types that the Collector's own core does not have.
    fn is_sound(&self) -> bool {
        self.verdict == "ok" || self.verdict.starts_with("unknown types")
    }

    fn validate(&self, flags: &[&str]) -> Ended {
        let mut command = vespid(&["validate", "--config"]);
        let ended = Process::spawn(command.arg(&self.path).args(flags)).wait();
        assert!(matches!(ended.code, Some(0 | 1)), "{}: {}\n{}", self.file, ended.how, ended.log);
        assert!(!ended.log.contains("panicked"), "{}\n{}", self.file, ended.log);
        assert_eq!(ended.code == Some(1), ended.log.contains("error: "), "{}\n{}", self.file, ended.log);
        ended
    }
}

fn is_traces(pipeline: &str) -> bool {
    pipeline == "traces" || pipeline.starts_with("traces/")
}

fn kind_of(id: &str) -> &str {
    id.split('/').next().unwrap_or_default().trim()
}

/// Reasons to refuse what the Collector's `validate` takes: files of the machine that
/// the config is for are not here; a URL without a scheme, and endpoints that a
/// placeholder or a variable of that machine stands in, which the Collector notices
/// when it uses them; a traces pipeline whose only exporter makes metrics.
const REASONS: [&str; 6] = [
    "No such file or directory",
    "there is no file",
    "` is no URL",
    "` is no endpoint",
    "` is not `host:port`",
    "`--traces-only` leaves out, and there is no other",
];

/// Nothing is wrong, but for these.
fn is_taken(ended: &Ended) -> bool {
    let mut errors = ended.log.lines().filter(|line| line.starts_with("error: "));
    errors.all(|error| REASONS.iter().any(|reason| error.contains(reason)))
}

fn cases(corpus: &Path) -> Vec<Case> {
    let index = std::fs::read_to_string(corpus.join("configs-index.jsonl")).unwrap();
    let case = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let file = entry["file"].as_str().unwrap().to_owned();
        let path = corpus.join("configs").join(&file);
        let text = std::fs::read_to_string(&path).unwrap();
        let config = serde_yaml::from_str::<Value>(&text).ok().filter(Value::is_mapping);
        Case { file, path, verdict: entry["otelcol_0_161_0_validate"].as_str().unwrap().to_owned(), config }
    };
    index.lines().map(case).collect()
}

/// Does that with each, on two threads; the first panic is the test's.
fn for_each(cases: &[Case], check: impl Fn(&Case) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(case);
                }
            });
        }
    });
}

#[test]
fn a_real_config_is_taken_or_every_type_that_does_not_exist_is_named_in_one_go() {
    let Some(corpus) = corpus() else { return };
    let (known, taken) = (known(), AtomicUsize::new(0));
    for_each(&cases(&corpus), |case| {
        let ended = case.validate(&[]);
        let configured = case.configured();
        let mut all_exist = true;
        for kind in KINDS {
            for id in configured[kind].iter().filter(|id| !known[kind].contains(kind_of(id))) {
                all_exist = false;
                let words = format!("unknown type: \"{}\" for id: \"{}\"", kind_of(id), id.trim());
                assert!(ended.log.contains(&words), "{}: `{words}` is not in\n{}", case.file, ended.log);
            }
        }
        let pipelines = case.pipelines();
        let others: Vec<_> = pipelines.iter().filter(|(id, _)| !is_traces(id)).collect();
        for (id, _) in &others {
            let words = format!("service.pipelines.{id}: this collector carries traces only");
            assert!(ended.log.contains(&words), "{}: `{words}` is not in\n{}", case.file, ended.log);
        }
        if !pipelines.is_empty() && all_exist && others.is_empty() && case.is_sound() {
            assert!(is_taken(&ended), "{}\n{}", case.file, ended.log);
            taken.fetch_add(usize::from(ended.code == Some(0)), Ordering::Relaxed);
        } else if !all_exist || !others.is_empty() {
            assert_eq!(ended.code, Some(1), "{}", case.file);
        }
    });
    assert!(taken.into_inner() >= 10, "few of them are made of what exists here");
}

#[test]
fn with_traces_only_what_other_signals_need_is_of_no_matter() {
    let Some(corpus) = corpus() else { return };
    let (known, taken) = (known(), AtomicUsize::new(0));
    for_each(&cases(&corpus), |case| {
        let ended = case.validate(&["--traces-only"]);
        let (configured, here, elsewhere) = (case.configured(), case.named(true), case.named(false));
        let empty = BTreeSet::new();
        let mut all_exist = true;
        for kind in KINDS {
            let named = here.get(kind).unwrap_or(&empty);
            let only_elsewhere = |id: &String| {
                let in_list = |list: &ByKind| list.get(kind).is_some_and(|ids| ids.contains(id));
                let both_sides = |list: &ByKind| ["receivers", "exporters"].map(|side| list[side].contains(id));
                match kind {
                    // A connector goes with what it joins traces to.
                    "connectors" if here.is_empty() || elsewhere.is_empty() => here.is_empty(),
                    "connectors" => both_sides(&here) != [true, true] && both_sides(&elsewhere) != [false, false],
                    _ => in_list(&elsewhere) && !in_list(&here),
                }
            };
            for id in configured[kind].iter().filter(|id| !known[kind].contains(kind_of(id))) {
                let words = format!("unknown type: \"{}\" for id: \"{}\"", kind_of(id), id.trim());
                if named.contains(id) {
                    assert!(ended.log.contains(&words), "{}: `{words}` is not in\n{}", case.file, ended.log);
                }
                if only_elsewhere(id) {
                    assert!(!ended.log.contains(&words), "{}: `{words}` is in\n{}", case.file, ended.log);
                } else {
                    all_exist = false;
                }
            }
        }
        assert!(!ended.log.contains("carries traces only"), "{}\n{}", case.file, ended.log);
        if !here.is_empty() && all_exist && case.is_sound() {
            assert!(is_taken(&ended), "{}\n{}", case.file, ended.log);
            taken.fetch_add(usize::from(ended.code == Some(0)), Ordering::Relaxed);
        } else if here.is_empty() {
            assert_eq!(ended.code, Some(1), "{}", case.file);
        }
    });
    assert!(taken.into_inner() >= 20, "few of them are made of what exists here");
}
