//! Configs and what `vespid validate` says of each: `NAME.yaml` beside
//! `NAME.stderr`, the exact text that a person sees. `UPDATE_GOLDEN=1` writes
//! the texts anew. Those in `good/` are valid, and `NAME.stdout` shows them.

mod corpus;

use std::path::{Path, PathBuf};

use regex::Regex;

use crate::support::collector::{Ended, Process, vespid};
use crate::support::guests::guest;
use crate::support::root;

/// Runs `vespid validate` from the root of the tree, so that paths in messages
/// are the same everywhere.
fn validate(path: &Path) -> Ended {
    let mut command = vespid(&["validate", "--config"]);
    command.arg(path.strip_prefix(root()).unwrap());
    command.env("GUESTS", guest("script").parent().unwrap()).env_remove("UNSET");
    // A port that is taken is no matter: nothing is opened.
    let taken = [1, 2, 3].map(|number| (number, std::net::TcpListener::bind("127.0.0.1:0").unwrap()));
    for (number, listener) in &taken {
        command.env(format!("TAKEN_{number}"), listener.local_addr().unwrap().to_string());
    }
    Process::spawn(&mut command).wait()
}

/// The text without what differs from machine to machine.
fn normal(text: &str) -> String {
    let text = text.replace(guest("script").parent().unwrap().to_str().unwrap(), "<guests>");
    Regex::new("[0-9a-f]{64}").unwrap().replace_all(&text, "<digest>").into_owned()
}

fn configs(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/config").join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    paths.sort();
    paths
}

/// Compares with the file beside the config, or writes it.
fn compare(path: &Path, extension: &str, found: &str, wrong: &mut Vec<String>) {
    let golden = path.with_extension(extension);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    if found != expected {
        wrong.push(format!("{}\n--- expected\n{expected}--- found\n{found}", golden.display()));
    }
}

#[test]
fn a_mistake_in_a_config_is_told_exactly_so() {
    let mut wrong = vec![];
    let paths = configs("");
    assert!(paths.len() >= 15);
    for path in paths {
        let ended = validate(&path);
        assert_eq!(ended.code, Some(1), "{} is refused\n{}", path.display(), ended.log);
        assert_eq!(ended.out, "");
        compare(&path, "stderr", &normal(&ended.log), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew", wrong.join("\n"));
}

#[test]
fn a_good_config_is_shown_and_opens_no_port() {
    let mut wrong = vec![];
    for path in configs("good") {
        let ended = validate(&path);
        assert_eq!(ended.code, Some(0), "{}\n{}", path.display(), ended.log);
        compare(&path, "stdout", &normal(&ended.out), &mut wrong);
        assert_eq!(ended.log, "", "{}", path.display());
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew", wrong.join("\n"));
}

#[test]
fn the_examples_configs_are_shaped_as_the_collector_takes_them() {
    let quickstart = root().join("examples/quickstart/collector.yaml");
    let mut command = vespid(&["validate", "--config"]);
    let set = format!("--set=processors.wasm/tidy.module={}", guest("tidy").display());
    let ended = Process::spawn(command.arg(quickstart).arg(set)).wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}
