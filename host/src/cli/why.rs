//! `vespid why TRACE_ID`: what became of a trace's spans, as a running collector
//! remembers it. It is asked through the pages of its `zpages` extension.

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::extension::account::parse_trace_id;
use crate::transport::fetch::{FetchError, fetch};

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The trace's id: 32 hex digits
    trace_id: String,
    /// Where the collector's `zpages` are
    #[arg(long, default_value = "http://localhost:55679")]
    endpoint: String,
    /// Print the collector's answer as it is
    #[arg(long)]
    json: bool,
}

/// No answer is read beyond this: 10,000 findings, and among them a million spans.
const ANSWER_LIMIT: usize = 64 << 20;
/// So many spans of one decision are named; `--json` has them all.
const SHOWN_SPANS: usize = 10;

pub(super) fn execute(args: &WhyArgs) -> anyhow::Result<()> {
    let id = &args.trace_id;
    anyhow::ensure!(parse_trace_id(id).is_some(), "`{id}` is no trace id\nhint: write its 32 hex digits");
    let scheme = if args.endpoint.contains("://") { "" } else { "http://" };
    let endpoint = format!("{scheme}{}", args.endpoint.trim_end_matches('/'));
    let answer = fetch(&format!("{endpoint}/debug/whyz/{id}?format=json"), ANSWER_LIMIT);
    let answer = answer.map_err(|error| unanswered(&endpoint, &error))?;
    if args.json {
        println!("{}", String::from_utf8_lossy(&answer));
        return Ok(());
    }
    let answer: Value = serde_json::from_slice(&answer).with_context(|| format!("`{endpoint}` is no collector"))?;
    print!("{}", told(&answer));
    Ok(())
}

fn unanswered(endpoint: &str, error: &FetchError) -> anyhow::Error {
    let hint = match error {
        FetchError::Url => "write it like `http://localhost:55679`",
        _ => {
            "the collector answers through its `zpages`: add `zpages:` under `extensions` and to \
              `service.extensions`, or say with `--endpoint` where they are"
        }
    };
    anyhow::anyhow!("the collector at `{endpoint}` does not answer: {error}\nhint: {hint}")
}

/// The answer for a person.
fn told(answer: &Value) -> String {
    // A plugin's reason is nothing that a terminal may obey.
    let text = |value: &Value| value.as_str().unwrap_or_default().replace(char::is_control, " ");
    let mut out = format!("trace {}\n", text(&answer["trace_id"]));
    let findings = answer["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    if findings.is_empty() {
        let since = |key: &str| text(&answer["remembered"][key]);
        out.push_str(&format!(
            "nothing is remembered of it. It has not been here, or its spans are under way, or it was too long ago:\n\
             the memory reaches back to {} for dropped spans, {} for sent and {} for rejected requests\n",
            since("dropped_since"),
            since("sent_since"),
            since("rejected_since"),
        ));
    }
    if let Some(left_out @ 1..) = answer["left_out"].as_u64() {
        out.push_str(&format!("{left_out} older findings are left out\n"));
    }
    for finding in findings {
        let [time, state, component, reason] = ["time", "state", "component", "reason"].map(|key| text(&finding[key]));
        let reason = if reason.is_empty() { reason } else { format!("  {reason}") };
        out.push_str(&format!("{time}  {state:8}  {component}{reason}  {}\n", about(finding)));
    }
    out
}

/// Which spans a finding is about.
fn about(finding: &Value) -> String {
    if let Some(spans) = finding["spans_of_request"].as_u64() {
        return format!("(a request's {} of all traces in it)", counted(spans));
    }
    let spans = finding["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = spans.iter().take(SHOWN_SPANS).filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let more = if spans.len() > SHOWN_SPANS { " …" } else { "" };
    format!("({}: {shown}{more})", counted(spans.len() as u64))
}

fn counted(spans: u64) -> String {
    if spans == 1 { "1 span".to_owned() } else { format!("{spans} spans") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_told_in_lines() {
        let dropped = json!({"time": "T1", "state": "dropped", "component": "processor:wasm/tidy", "reason": "noise\u{1b}",
            "spans": (0..12).map(|n| format!("{n:016x}")).collect::<Vec<_>>()});
        let sent = json!({"time": "T2", "state": "sent", "component": "exporter:otlp", "spans_of_request": 1});
        let text = told(&json!({"trace_id": "ab", "findings": [dropped, sent], "left_out": 0}));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "trace ab");
        let start = "T1  dropped   processor:wasm/tidy  noise   (12 spans: 0000000000000000 0000000000000001 ";
        assert!(lines[1].starts_with(start) && lines[1].ends_with("0000000000000009 …)"), "{text}");
        assert_eq!(lines[2], "T2  sent      exporter:otlp  (a request's 1 span of all traces in it)");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn an_answer_without_findings_says_how_far_the_memory_reaches() {
        let since = json!({"dropped_since": "T1", "sent_since": "T2", "rejected_since": "T3"});
        let text = told(&json!({"trace_id": "ab", "findings": [], "remembered": since}));
        assert!(text.contains("nothing is remembered") && text.contains("T2 for sent"), "{text}");
        // Whatever answers there: nothing is believed to be in it.
        assert!(told(&json!([1])).contains("nothing is remembered"));
    }
}
