//! The tables at the top of `receiver/mod.rs` and `exporter/mod.rs` say which test
//! shows which row of the OTLP contract, the one of `delivery/mod.rs` which shows that
//! a known way to lose spans is none here. Here they are held to it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::support::root;

/// Each section of the contract with the number of its rows; `T` is what Tempo answers.
const RECEIVER: &[(char, usize)] = &[('A', 11), ('B', 9), ('C', 13), ('D', 9), ('E', 6)];
const EXPORTER: &[(char, usize)] = &[('F', 9), ('G', 3), ('H', 5), ('I', 4), ('T', 12)];
/// Ways to lose spans.
const DELIVERY: &[(char, usize)] = &[('L', 14)];

/// All sources below a folder.
fn sources(folder: PathBuf) -> Vec<(PathBuf, String)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The names of all tests, each behind its file's: `grpc::a_call_carries_one_message`.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in [sources(root().join("tests")), sources(root().join("host/src"))].concat() {
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line == "#[test]" {
                let function = lines.find_map(|line| line.strip_prefix("fn ")).unwrap_or_default();
                let name = function.split('(').next().unwrap();
                let file = if path.ends_with("mod.rs") { path.parent().unwrap() } else { &path };
                found.insert(format!("{}::{name}", file.file_stem().unwrap().to_str().unwrap()));
            }
        }
    }
    found
}

#[test]
fn every_row_of_the_contract_has_its_test_or_a_reason() {
    let tests = tests();
    assert!(tests.contains("conformance::every_row_of_the_contract_has_its_test_or_a_reason"));
    let tables =
        [("tests/receiver/mod.rs", RECEIVER), ("tests/exporter/mod.rs", EXPORTER), ("tests/delivery/mod.rs", DELIVERY)];
    for (file, sections) in tables {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let mut rows = BTreeSet::new();
        let lines = text.lines().filter_map(|line| line.strip_prefix("//! "));
        for (row, shown) in lines.filter_map(|line| line.split_once(' ')).filter(|(row, _)| is_row(row)) {
            assert!(rows.insert(row.to_owned()), "{file}: {row} stands there twice");
            let (_, shown) = shown.rsplit_once(": ").unwrap_or_else(|| panic!("{file}: {row} names nothing"));
            if !shown.starts_with("no test, ") {
                for name in shown.split(", ") {
                    assert!(tests.contains(name), "{file}: {row} names `{name}`, and there is no such test");
                }
            }
        }
        let wanted = sections.iter().flat_map(|&(section, last)| (1..=last).map(move |row| format!("{section}{row}")));
        assert_eq!(rows, wanted.collect(), "{file}");
    }
}

/// `A1`, but no word.
fn is_row(text: &str) -> bool {
    text.len() > 1 && text.starts_with(char::is_alphabetic) && text[1..].chars().all(|c| c.is_ascii_digit())
}
