//! Patterns against Go itself, the two engines and the prefilter against each other.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;

use super::engine::{Pattern, Span};
use super::search::Budget;
use super::syntax;
use crate::plugin::guest::Meter;

fn compile(pattern: &str) -> Result<Pattern, String> {
    let syntax = syntax::parse(pattern).map_err(|error| error.to_string())?;
    Pattern::compile(pattern, syntax)
}

/// Time enough for any test.
fn unhurried<R>(search: impl FnOnce(&Budget<'_>) -> R) -> R {
    let meter = Meter::default();
    search(&Budget::new(&meter, Duration::from_secs(3600)))
}

fn all(pattern: &Pattern, text: &str) -> Vec<Span> {
    let mut found = vec![];
    unhurried(|budget| {
        pattern.each_match(text, budget, |span| {
            found.push(span);
            Ok(())
        })
    })
    .unwrap();
    found
}

#[derive(Deserialize)]
struct Answer {
    error: String,
    names: Option<Vec<String>>,
    found: Option<Vec<Option<Vec<Vec<i64>>>>>,
    replaced: Option<Vec<String>>,
}

/// The Go program, built once; `None` where Go is not at hand.
fn go() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/patterns/main.go");
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(folder.path().join(PROGRAM)).arg(source).env("GO111MODULE", "off");
        let Ok(built) = command.output() else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "Go is missing, and patterns must be held to it");
            // Past the test harness, which hides what a passing test prints.
            let said = "\nSKIPPED: there is no `go`; patterns are not held to what it makes of them\n";
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            return None;
        };
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Some(folder)
    });
    built.as_ref().map(tempfile::TempDir::path)
}

fn ask(patterns: &[String], texts: &[String]) -> Option<Vec<Answer>> {
    let mut child = Command::new(go()?.join(PROGRAM)).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines = [serde_json::to_string(texts).unwrap()].into_iter();
    let lines: Vec<String> = lines.chain(patterns.iter().map(|it| serde_json::to_string(it).unwrap())).collect();
    let writer = std::thread::spawn(move || input.write_all((lines.join("\n") + "\n").as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let answers: Vec<Answer> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), patterns.len());
    Some(answers)
}

/// Holds every pattern to what Go makes of it, in every text; how many Go takes.
fn hold(patterns: &[String], texts: &[String]) -> Option<usize> {
    let answers = ask(patterns, texts)?;
    let mut taken = 0;
    for (pattern, answer) in patterns.iter().zip(answers) {
        let compiled = match (compile(pattern), answer.error.as_str()) {
            (Ok(compiled), "") => compiled,
            (Err(_), error) if !error.is_empty() => continue,
            (ours, error) => panic!("{pattern:?}: Go says {error:?}, we say {:?}", ours.err()),
        };
        taken += 1;
        assert_eq!(compiled.names(), answer.names.unwrap(), "{pattern:?}");
        let (found, replaced) = (answer.found.unwrap(), answer.replaced.unwrap());
        let stepping = compile(pattern).unwrap().stepping();
        for ((text, found), replaced) in texts.iter().zip(found).zip(replaced) {
            let found = found.unwrap_or_default();
            for compiled in [&compiled, &stepping] {
                hold_text(compiled, text, &found, &replaced);
            }
        }
    }
    Some(taken)
}

fn hold_text(pattern: &Pattern, text: &str, found: &[Vec<i64>], replaced: &str) {
    let context = format!("{:?} in {text:?}", pattern.text());
    let spans: Vec<Span> = found.iter().map(|offsets| (offsets[0] as usize, offsets[1] as usize)).collect();
    assert_eq!(all(pattern, text), spans, "{context}");
    if let Some(prefilter) = pattern.prefilter().filter(|_| !found.is_empty()) {
        assert!(prefilter.find(text.as_bytes(), 0).is_some(), "the prefilter of {context}");
    }
    let first = unhurried(|budget| pattern.capture(text, budget)).unwrap();
    let groups = |offsets: &Vec<i64>| offsets.iter().map(|&at| usize::try_from(at).ok()).collect::<Vec<_>>();
    assert_eq!(first, found.first().map(groups), "groups of {context}");
    let matches = unhurried(|budget| pattern.is_match(text, budget)).unwrap();
    assert_eq!(matches, !found.is_empty(), "{context}");
    let meter = Meter::default();
    let search = super::Search::new(vec![pattern], Budget::new(&meter, Duration::MAX));
    let ours = search.replace(text, u64::MAX, "<é>", usize::MAX).unwrap();
    assert_eq!(ours.as_deref().unwrap_or(text), replaced, "{context}");
}

const PROGRAM: &str = "regexp";
const PATTERNS: &str = include_str!("tests/patterns.txt");
const TEXTS: &str = include_str!("tests/texts.txt");

/// One a line, with JSON's escapes.
fn lines(list: &str) -> Vec<String> {
    let line = |line: &str| serde_json::from_str(&format!("\"{line}\"")).unwrap_or_else(|_| panic!("{line}"));
    list.lines().map(line).collect()
}

#[test]
fn patterns_mean_what_go_makes_of_them() {
    let patterns: Vec<String> = PATTERNS.lines().map(str::to_owned).collect();
    let texts = lines(TEXTS);
    assert!(patterns.len() >= 150 && texts.len() >= 30);
    if let Some(taken) = hold(&patterns, &texts) {
        assert!(taken >= 150, "Go takes {taken}");
        assert!(patterns.len() - taken >= 50, "and refuses {}", patterns.len() - taken);
    }
}

#[test]
fn random_patterns_mean_what_go_makes_of_them() {
    let mut random = fastrand::Rng::with_seed(7);
    let patterns: Vec<String> = (0..4000).map(|_| grammar::pattern(&mut random)).collect();
    let texts: Vec<String> = (0..40).map(|_| grammar::text(&mut random)).collect();
    if let Some(taken) = hold(&patterns, &texts) {
        assert!(taken > 2000 && taken < 4000, "Go takes {taken}");
    }
}

#[test]
fn random_signs_are_refused_where_go_refuses_them() {
    let mut random = fastrand::Rng::with_seed(8);
    let patterns: Vec<String> = (0..20_000).map(|_| grammar::signs(&mut random)).collect();
    let texts: Vec<String> = (0..5).map(|_| grammar::text(&mut random)).collect();
    if let Some(taken) = hold(&patterns, &texts) {
        assert!(taken > 2000 && taken < 18_000, "Go takes {taken}");
    }
}

mod batches;
mod budget;
mod grammar;
