//! Regular expressions that the collector runs for plugins.

use prost::Message as _;
use serde_json::{Value as Json, json};

use crate::support::config::with;
use crate::support::proto::framed;
use crate::support::send::Call;
use crate::support::spans::{Request, all, attribute, names, spans, text};
use crate::support::{Setup, Sink, request, script, span, to};

/// One search of a text takes long: its automaton has more states than a cache holds.
const EXPLODES: &str = "(?:[ab0-]*a[ab0-]{60}){8}[c-z]";
/// Each match is found by a search to the text's end.
const QUADRATIC: &str = "[a-c0]*z|a";

fn replace(owner: &str, patterns: &[&str], replacement: &str) -> Json {
    json!({"op": "replace-matches", "owner": owner, "patterns": patterns, "replacement": replacement})
}

/// A span for each text, which it has as the attribute `k`.
fn holding<'a>(texts: impl IntoIterator<Item = &'a str>) -> Request {
    let one = |held: &str| {
        let mut span = span("holds");
        span.attributes.push(text("k", held));
        span
    };
    request(texts.into_iter().map(one).collect())
}

/// What becomes of the texts after the plugins, each with its steps.
fn after(plugins: &[Json], texts: &[&str]) -> Vec<String> {
    let sink = Sink::start();
    let mut setup = Setup::line(&sink);
    for (number, steps) in plugins.iter().enumerate() {
        setup = setup.processor(&format!("wasm/{number}"), script(steps.clone()));
    }
    let collector = setup.start();
    collector.send(&holding(texts.iter().copied())).expect_ok();
    let arrived = sink.only();
    assert_eq!(collector.metrics().sum("vespid_plugin_failures", &[]), 0, "{}", collector.log());
    collector.finish();
    all(&arrived).into_iter().map(|span| attribute(span, "k").unwrap_or_default().to_owned()).collect()
}

#[test]
fn patterns_are_read_as_go_reads_them() {
    let cases = [
        (r"\d+", "7 ٣", "# ٣"),
        (r"(?i)\bSTRASSE\b", "die strasse", "die #"),
        (r"\Qa.b\E+", "a.bb axb", "# axb"),
        (r"{a}", "x{a}", "x#"),
        (r"[[a-b]+", "c[ab", "c#"),
        (r"[&&-]+", "a&-b", "a#b"),
        (r"\x{e9}|\101", "éA", "##"),
        (r"\p{^Greek}+", "βaé", "β#"),
        (r"a*", "baac", "#b#c#"),
        (r"\B", "é", "#é#"),
        (r"(?:4[0-9]{12}(?:[0-9]{3})?)", "card 4111111111111111.", "card #."),
    ];
    for (pattern, held, expected) in cases {
        assert_eq!(after(&[json!([replace("span", &[pattern], "#")])], &[held]), [expected], "{pattern}");
    }
}

#[test]
fn a_pattern_sees_what_earlier_plugins_and_patterns_made_of_a_text() {
    let set = json!([{"op": "set-texts", "owner": "span", "rows": [1, 2], "key": "k", "values": ["b@b.io", "none"]}]);
    let drop = json!([{"op": "drop", "rows": [0], "reason": "noise"}]);
    let redact = json!([replace("span", &["[a-z]+@[a-z.]+", "<mail>"], "<mail>")]);
    let sent = ["dropped@example.org", "was it", "ada@example.org", "ada@example.org and <mail>"];
    assert_eq!(after(&[set, drop, redact], &sent), ["<mail>", "none", "<mail> and <mail>"]);
    // The second pattern finds what the first one put there.
    let twice = json!([replace("span", &["[a-z]+@[a-z.]+", "#"], "##")]);
    assert_eq!(after(&[twice], &["a@b", "#"]), ["####", "##"]);
}

#[test]
fn functions_over_given_texts_tell_matches_and_groups() {
    let sink = Sink::start();
    let steps = json!([{
        "op": "search-texts", "key": "searched",
        "patterns": [r"(?P<user>[a-z]+)@(\S+)|(?P<none>NONE)", r"\d"],
        "texts": ["", "é ada@b.io x@y", "1", "nothing"],
    }]);
    let collector = Setup::line(&sink).processor("wasm/search", script(steps)).start();
    collector.send(&request(spans(1))).expect_ok();
    let arrived = sink.only();
    let found: Json = serde_json::from_str(attribute(all(&arrived)[0], "searched").unwrap()).unwrap();
    let absent = u32::MAX;
    let expected = json!({
        "matched": [0, 1, 1, 0],
        "each": [
            {
                "groups": ["", "user", "", "none"],
                "found": [[1, 3, 11], [1, 12, 15]],
                "captured": [[1, [3, 11, 3, 6, 7, 11, absent, absent]]],
            },
            {"groups": [""], "found": [[2, 0, 1]], "captured": [[2, [0, 1]]]},
        ],
        "replaced": ["", "é **** ****", "****", "nothing"],
    });
    assert_eq!(found, expected);
    collector.finish();
}

#[test]
fn a_pattern_that_go_refuses_keeps_the_collector_from_starting() {
    let cases = [
        (r"é(?=x)", "Go and RE2 have no such group: `(?=` at character 2"),
        (r"(a)\1", r"Go and RE2 have no such escape: `\1` at character 4"),
        ("a{1001}", "a repeat count is above 1000 or descends: `{1001}` at character 2"),
        (r"\pL{1000}", "takes more than 1048576 bytes when it is compiled"),
    ];
    for (pattern, expected) in cases {
        let steps = json!([replace("span", &[pattern], "#")]);
        let log = Setup::new().exporter("debug", json!({})).processor("wasm/edit", script(steps)).refused();
        assert!(log.contains("error: processors.wasm/edit.config: the plugin refused its configuration"), "{log}");
        assert!(log.contains(expected), "{log}");
    }
}

/// A long text without a match, in which every beginning of one is followed up.
fn tedious() -> String {
    let mut random = fastrand::Rng::with_seed(1);
    (0..1 << 19).map(|_| ['a', 'b', '0'][random.usize(..3)]).collect()
}

fn searching(pattern: &str, deadline: &str) -> Json {
    with(script(json!([replace("span", &[pattern], "#")])), [("limits.deadline", json!(deadline))])
}

#[test]
fn a_search_without_end_is_cut_off_with_its_pattern_named() {
    for pattern in [EXPLODES, QUADRATIC] {
        let sink = Sink::start();
        let mut collector = Setup::line(&sink).processor("wasm/search", searching(pattern, "100ms")).start();
        let batches = [holding(["zb"]), holding([tedious().as_str()]), holding(["0z"])];
        for batch in &batches {
            collector.send(batch).expect_ok();
        }
        let arrived = sink.wait(3);
        assert_eq!(arrived[1].request(), batches[1], "the batch passes unedited");
        let held = |at: usize| attribute(all(&arrived[at].request())[0], "k").unwrap().to_owned();
        let edited = if pattern == QUADRATIC { ["#b", "#"] } else { ["zb", "0z"] };
        assert_eq!([held(0), held(2)], edited, "the others are searched");
        let line = collector.wait_for_log("the plugin failed on a batch of 1 spans (on_error: pass)");
        let said = format!("the deadline of 100ms passed in a search for the pattern `{pattern}`");
        assert!(line.contains(&said) && line.contains("raise `limits.deadline`"), "{line}");
        let failures = collector.metrics().sum("vespid_plugin_failures", &[("reason", "deadline")]);
        assert_eq!(failures, 1, "{}", collector.log());
        collector.finish();
    }
}

#[test]
fn a_neighbour_is_not_disturbed_by_searches_without_end() {
    let (slow, fast) = (Sink::start(), Sink::start());
    let edit = script(json!([{"op": "set-names", "rows": [0], "names": ["edited"]}]));
    let collector = Setup::new()
        .receiver("otlp/neighbour", json!({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}))
        .processor("wasm/search", searching(QUADRATIC, "4s"))
        .processor("wasm/edit", edit)
        .exporter("otlp/slow", to(&slow))
        .exporter("otlp/fast", to(&fast))
        .pipeline("traces/slow", &["otlp"], &["wasm/search"], &["otlp/slow"])
        .pipeline("traces/fast", &["otlp/neighbour"], &["wasm/edit"], &["otlp/fast"])
        .start();
    // More of them than the collector has workers.
    let text = tedious();
    let searching: Vec<_> = (0..4).map(|_| collector.start_send(&holding([text.as_str()]))).collect();
    collector.wait_for_metric("vespid_receiver_in_flight_spans", &[("receiver", "otlp")], 4);
    let neighbour = collector.grpc_of("otlp/neighbour");
    for count in 1..=20 {
        collector.offer(1);
        Call::grpc(neighbour).call(framed(&request(spans(1)).encode_to_vec())).expect_ok();
        assert_eq!(names(&fast.wait(count)[count - 1].request()), ["edited"]);
        assert_eq!(collector.health().status, 200);
    }
    assert!(searching.iter().all(|pending| !pending.is_answered()), "the neighbour was faster than the deadline");
    for pending in searching {
        pending.answer().expect_ok();
    }
    assert_eq!(slow.wait(4).len(), 4);
    collector.finish();
}
