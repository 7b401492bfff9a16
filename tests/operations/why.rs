//! `vespid why`, and the page behind it: what became of a trace's spans.

use serde_json::{Value, json};
use tonic::Code;

use crate::support::collector::{Ended, Process, vespid};
use crate::support::send::Call;
use crate::support::spans::{Span, spans};
use crate::support::{Collector, Reply, Setup, Sink, request, script, wait_for};

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The page's answer for a trace.
fn asked(collector: &Collector, trace: &[u8]) -> Value {
    let answer = Call::get(collector.pages_address(), &format!("/debug/whyz/{}?format=json", hex(trace)));
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(answer.text()).unwrap()
}

/// What `vespid why` says.
fn why(collector: &Collector, arguments: &[&str]) -> Ended {
    let endpoint = format!("--endpoint=http://{}", collector.pages_address());
    Process::spawn(vespid(&["why", &endpoint]).args(arguments)).wait()
}

/// State, component and reason of each finding.
fn told(answer: &Value) -> Vec<[&str; 3]> {
    let findings = answer["findings"].as_array().unwrap().iter();
    findings.map(|it| ["state", "component", "reason"].map(|key| it[key].as_str().unwrap_or_default())).collect()
}

/// Two spans of one trace and one of another, whose first span a plugin drops.
fn dropping(sink: &Sink, reason: &str) -> (Collector, Vec<Span>) {
    let steps = json!([{"op": "drop", "rows": [0], "reason": reason}]);
    let collector = Setup::line(sink).processor("wasm/tidy", script(steps)).start();
    let mut all = spans(3);
    all[1].trace_id = all[0].trace_id.clone();
    collector.send(&request(all.clone())).expect_ok();
    (collector, all)
}

#[test]
fn a_trace_is_told_by_what_dropped_its_spans_and_where_the_rest_went() {
    let sink = Sink::start();
    let (collector, all) = dropping(&sink, "health check");
    let answer = asked(&collector, &all[0].trace_id);
    let dropped = ["dropped", "processor:wasm/tidy", "health check"];
    assert_eq!(told(&answer), [dropped, ["sent", "exporter:otlp", ""]]);
    assert_eq!(answer["findings"][0]["spans"], json!([hex(&all[0].span_id)]));
    assert_eq!(answer["findings"][1]["spans_of_request"], 2);
    assert_eq!(told(&asked(&collector, &all[2].trace_id)), [["sent", "exporter:otlp", ""]]);

    let id = hex(&all[0].trace_id);
    let said = why(&collector, &[&id]);
    assert_eq!(said.code, Some(0), "{}", said.log);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], format!("trace {id}"));
    let decided = format!("dropped   processor:wasm/tidy  health check  (1 span: {})", hex(&all[0].span_id));
    assert!(lines[1].ends_with(&decided), "{}", said.out);
    assert!(lines[2].ends_with("sent      exporter:otlp  (a request's 2 spans of all traces in it)"), "{}", said.out);
    let json: Value = serde_json::from_str(&why(&collector, &[&id, "--json"]).out).unwrap();
    assert_eq!(json, answer);
    collector.finish();
}

#[test]
fn a_trace_whose_spans_were_all_dropped_was_sent_nowhere() {
    let sink = Sink::start();
    let (collector, all) = dropping(&sink, "noise");
    let mut one = spans(1);
    one[0].trace_id = all[0].trace_id.iter().map(|byte| byte ^ 0x55).collect();
    collector.send(&request(one.clone())).expect_ok();
    assert_eq!(told(&asked(&collector, &one[0].trace_id)), [["dropped", "processor:wasm/tidy", "noise"]]);
    collector.finish();
}

#[test]
fn rejected_requests_are_told_with_their_reasons() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let mut all = spans(4);
    all[3].span_id = vec![0; 8];
    sink.answer_next([Reply::grpc(Code::InvalidArgument, "no")]);
    collector.send(&request(all[..1].to_vec()));
    sink.answer_next([Reply::Partial { rejected: 1, message: "old" }]);
    collector.send(&request(all[1..].to_vec())).expect_ok();
    let refused = ["rejected", "exporter:otlp", "permanent_error: InvalidArgument"];
    let answer = asked(&collector, &all[0].trace_id);
    assert_eq!(told(&answer), [refused]);
    assert_eq!(answer["findings"][0]["spans"], json!([hex(&all[0].span_id)]));
    let partly = [["sent", "exporter:otlp", ""], ["rejected", "exporter:otlp", "partial_success"]];
    assert_eq!(told(&asked(&collector, &all[2].trace_id)), partly);
    let invalid = ["rejected", "receiver:otlp", "invalid_ids"];
    assert_eq!(told(&asked(&collector, &all[3].trace_id)), [invalid]);
    sink.answer(Reply::Hold);
    let gone = spans(1);
    let pending = collector.start_send(&request(gone.clone()));
    sink.wait(3);
    assert_eq!(told(&asked(&collector, &gone[0].trace_id)), [[""; 3]; 0], "it is under way");
    drop(pending);
    let canceled = ["rejected", "exporter:otlp", "canceled"];
    wait_for("the end of it", || (told(&asked(&collector, &gone[0].trace_id)) == [canceled]).then_some(()));
    collector.finish();
}

#[test]
fn a_trace_that_nobody_knows_is_no_error() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let said = why(&collector, &["5b8efff798038103d269b633813fc60c"]);
    assert_eq!(said.code, Some(0), "{}", said.log);
    assert!(said.out.contains("nothing is remembered of it"), "{}", said.out);
    collector.finish();
}

#[test]
fn what_is_no_trace_id_is_refused() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    for id in ["5b8e", "5b8efff798038103d269b633813fc60g", "00000000000000000000000000000000"] {
        let said = why(&collector, &[id]);
        assert_eq!(said.code, Some(1));
        assert_eq!(said.log, format!("error: `{id}` is no trace id\nhint: write its 32 hex digits\n"));
        let answer = Call::get(collector.pages_address(), &format!("/debug/whyz/{id}?format=json"));
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("32 hex digits"), "{}", answer.text());
    }
    collector.finish();
}

#[test]
fn a_collector_without_pages_cannot_be_asked_and_the_fix_is_said() {
    let down = crate::support::sink::Down::new();
    let endpoint = format!("--endpoint={}", down.address());
    let said = Process::spawn(&mut vespid(&["why", "5b8efff798038103d269b633813fc60c", &endpoint])).wait();
    assert_eq!(said.code, Some(1));
    let expected = format!("error: the collector at `http://{}` does not answer: ", down.address());
    assert!(said.log.starts_with(&expected), "{}", said.log);
    assert!(said.log.contains("hint: ") && said.log.contains("add `zpages:` under `extensions`"), "{}", said.log);
}

#[test]
fn the_pages_for_people_show_the_same_and_no_markup_of_strangers() {
    let sink = Sink::start();
    let (collector, all) = dropping(&sink, "<script>alert(1)</script>");
    let page = |path: &str| {
        let answer = Call::get(collector.pages_address(), path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains("<script"), "{}", answer.text());
        answer.text().to_owned()
    };
    let account = page("/debug/accountz");
    for part in
        ["It balances.", "<tr><th>received</th><td>3</td></tr>", "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>"]
    {
        assert!(account.contains(part), "{part} in {account}");
    }
    let why = page(&format!("/debug/whyz?trace_id={}", hex(&all[0].trace_id)));
    for part in ["<td>dropped</td>", "<td>processor:wasm/tidy</td>", &hex(&all[0].span_id)] {
        assert!(why.contains(part), "{part} in {why}");
    }
    assert!(page("/debug/whyz").contains("<form"));
    assert!(page("/debug/whyz?trace_id=%3Cscript").contains("is no trace id"));
    collector.finish();
}
