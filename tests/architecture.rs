//! `host/ARCHITECTURE.md`'s arrows, read from the sources: imports go one way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::root;

/// What each module may name of the others. `telemetry` and `config` name nobody,
/// and every reader of settings may name them.
const LAYERS: [&[&str]; 7] = [
    &["cli"],
    &["collector"],
    &["registry", "pipeline"],
    &["receiver", "plugin", "exporter", "connector", "extension"],
    &["transport", "storage"],
    &["component"],
    &["traces"],
];
const BELOW_ALL: [&str; 2] = ["telemetry", "config"];

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = vec![];
    let mut folders = vec![root().join("host/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root().join("host/src")).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 40, "the sources are where they were");
    found
}

/// Tests may ask other libraries for the truth.
fn is_test(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "tests.rs")
}

/// `receiver` of `receiver/otlp/grpc.rs`, `pipeline` of `pipeline.rs`.
fn module(path: &Path) -> String {
    Path::new(path.iter().next().unwrap()).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The lines that are code.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// The modules that a source names with `crate::`.
fn named(text: &str) -> BTreeSet<String> {
    let parts = code(text).flat_map(|line| line.split("crate::").skip(1));
    let mut found = BTreeSet::new();
    for part in parts {
        match part.strip_prefix('{') {
            Some(list) => found.extend(list.split(',').filter_map(|each| words(each.trim()).next()).map(str::to_owned)),
            None => found.extend(words(part).next().map(str::to_owned)),
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn imports_go_down_the_layers_and_peers_never_import_each_other() {
    let mut wrong = vec![];
    for (path, text) in sources() {
        let from = module(&path);
        if matches!(from.as_str(), "main" | "lib") {
            continue;
        }
        for to in named(&text).into_iter().filter(|to| *to != from) {
            let fine = match (layer(&from), layer(&to)) {
                (Some(from), Some(to)) => from < to,
                (Some(_), None) => BELOW_ALL.contains(&to.as_str()),
                (None, _) => false,
            };
            if !fine {
                wrong.push(format!("{} names `{to}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_plugin_module_names_wasmtime() {
    only("wasmtime", &["plugin/"]);
    only("wasmtime_wasi", &["plugin/"]);
}

#[test]
fn only_the_edges_name_hyper_and_tonic() {
    let edges = ["transport/", "receiver/otlp/", "exporter/", "extension/", "collector/telemetry/"];
    for library in ["hyper", "tonic", "hyper_util", "hyper_rustls"] {
        only(library, &edges);
    }
}

fn only(library: &str, places: &[&str]) {
    for (path, text) in sources() {
        let allowed = places.iter().any(|place| path.to_str().unwrap().starts_with(place));
        let named = code(&text).any(|line| words(line).any(|word| word == library));
        assert!(allowed || !named || is_test(&path), "{} names {library}", path.display());
    }
}

#[test]
fn every_source_file_can_be_read_in_one_sitting() {
    for (path, text) in sources() {
        assert!(text.lines().count() <= 600, "{} is longer than 600 lines", path.display());
    }
}
