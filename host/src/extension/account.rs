//! The pages that tell what became of spans: all of them in numbers, and those of
//! one trace by reasons. Each is also JSON, for programs and for `vespid why`.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::zpages::escape;
use super::{Overview, query};
use crate::component::Delivery;
use crate::telemetry::{Finding, Ledger, State, Why};

/// A page shows no more of the spans that one decision was about; JSON has them all.
const SHOWN_SPANS: usize = 10;

/// Reads a trace's id: 32 hex digits, not all of them zeros.
pub fn parse_trace_id(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|id| is_hex && *id != 0)?;
    Some(id.to_be_bytes())
}

/// The account at this moment.
pub(super) fn account_json(overview: &Overview) -> Value {
    let account = overview.metrics.ledger.read();
    let mut told = serde_json::Map::new();
    told.insert("balances".to_owned(), account.balances().into());
    for state in State::ALL {
        told.insert(state.name().to_owned(), account.sum(state).into());
    }
    told.insert("in_flight".to_owned(), account.in_flight.into());
    let lines = account.lines.iter().filter(|line| line.state != State::Copied).map(|line| {
        let mut told = json!({"state": line.state.name(), "component": &*line.component, "spans": line.spans});
        if !line.reason.is_empty() {
            told["reason"] = (&*line.reason).into();
        }
        told
    });
    told.insert("lines".to_owned(), lines.collect());
    let pipelines = overview.pipelines.iter().map(|it| {
        let delivery: Value = it.deliveries.iter().map(|(exporter, mode)| delivery_json(exporter, mode)).collect();
        json!({
            "id": it.id, "receivers": it.receivers, "processors": it.processors, "exporters": it.exporters,
            "delivery": delivery,
        })
    });
    told.insert("pipelines".to_owned(), pipelines.collect());
    told.into()
}

/// When a sender gets its OK, as far as one exporter decides it.
fn delivery_json(exporter: &str, delivery: &Delivery) -> Value {
    match delivery {
        Delivery::Delivered => json!({"exporter": exporter, "ok_when": "delivered"}),
        Delivery::Synced(storage) => json!({"exporter": exporter, "ok_when": "synced", "storage": storage}),
        Delivery::Early => json!({"exporter": exporter, "ok_when": "queued"}),
    }
}

pub(super) fn account_page(ledger: &Ledger) -> String {
    let account = ledger.read();
    let verdict =
        if account.balances() { "It balances." } else { "It does not balance: that is a fault of the collector." };
    let mut out = format!(
        "<p>received + copied + recovered = sent + dropped + rejected + in flight. {verdict} \
         <a href=\"accountz?format=json\">As JSON</a>; <a href=\"whyz\">one trace</a>.</p><table>"
    );
    let sums = State::ALL.map(|state| (state.name(), account.sum(state)));
    for (name, spans) in sums.into_iter().chain([("in flight", account.in_flight)]) {
        let _ = write!(out, "<tr><th>{name}</th><td>{spans}</td></tr>");
    }
    out.push_str(
        "</table><h2>By component</h2><table><tr><th>State</th><th>Component</th><th>Reason</th><th>Spans</th></tr>",
    );
    for line in account.lines.iter().filter(|line| line.state != State::Copied) {
        let (state, component, reason) = (line.state.name(), escape(&line.component), escape(&line.reason));
        let spans = line.spans;
        let _ = write!(out, "<tr><td>{state}</td><td>{component}</td><td>{reason}</td><td>{spans}</td></tr>");
    }
    out.push_str("</table>");
    out
}

/// The trace that a request asks about: behind the path or in the query.
pub(super) fn asked_trace<'a>(behind: &'a str, parameters: Option<&'a str>) -> Option<&'a str> {
    match behind.trim_matches('/') {
        "" => query(parameters, "trace_id").filter(|id| !id.is_empty()),
        id => Some(id),
    }
}

/// What is remembered of a trace.
pub(super) fn why_json(ledger: &Ledger, trace: [u8; 16]) -> Value {
    let why = ledger.why(trace);
    let findings = why.findings.iter().map(|finding| {
        let Finding { at, state, component, reason, spans, of_request } = finding;
        let mut told = json!({"time": shown(*at), "state": state.name(), "component": &**component});
        if !reason.is_empty() {
            told["reason"] = (&**reason).into();
        }
        match of_request {
            Some(spans) => told["spans_of_request"] = (*spans).into(),
            None => told["spans"] = spans.iter().map(|id| hex(id)).collect(),
        }
        told
    });
    let since = |time: Option<SystemTime>| shown(time.unwrap_or_else(|| ledger.started()));
    json!({
        "trace_id": hex(&trace),
        "findings": findings.collect::<Value>(),
        "left_out": why.left_out,
        "remembered": {
            "dropped_since": since(why.dropped_since),
            "sent_since": since(why.sent_since),
            "rejected_since": since(why.rejected_since),
        },
    })
}

pub(super) fn why_page(ledger: &Ledger, asked: Option<&str>) -> String {
    let form = "<form action=\"/debug/whyz\"><label>Trace id <input name=\"trace_id\" size=\"34\"></label> \
                <button>Why?</button></form>";
    let Some(asked) = asked else { return form.to_owned() };
    let Some(trace) = parse_trace_id(asked) else { return format!("{form}<p>{}</p>", escape(&no_trace_id(asked))) };
    let Why { findings, left_out, .. } = ledger.why(trace);
    let mut out = format!("{form}<h2>{}</h2>", hex(&trace));
    if findings.is_empty() {
        out.push_str("<p>Nothing is remembered of this trace.</p>");
    }
    if left_out > 0 {
        let _ = write!(out, "<p>{left_out} older findings are left out.</p>");
    }
    out.push_str("<table>");
    for Finding { at, state, component, reason, spans, of_request } in &findings {
        let about = match of_request {
            Some(spans) => format!("in a request: {spans} spans in all"),
            None => spans.iter().take(SHOWN_SPANS).map(|id| hex(id)).collect::<Vec<_>>().join(" "),
        };
        let more = spans.len().saturating_sub(SHOWN_SPANS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let cells = [&shown(*at), state.name(), &escape(component), &escape(reason), &format!("{about}{more}")];
        let _ = write!(out, "<tr>{}</tr>", cells.map(|cell| format!("<td>{cell}</td>")).concat());
    }
    out.push_str("</table>");
    out
}

pub(super) fn no_trace_id(asked: &str) -> String {
    let asked: String = asked.chars().take(64).collect();
    format!("`{asked}` is no trace id: write its 32 hex digits")
}

fn shown(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_32_hex_digits_and_not_all_zeros() {
        let id = parse_trace_id("5b8efff798038103d269b633813fc60C").unwrap();
        assert_eq!(hex(&id), "5b8efff798038103d269b633813fc60c");
        for text in ["", "5b8e", "00000000000000000000000000000000", "+b8efff798038103d269b633813fc60c", "ä"] {
            assert_eq!(parse_trace_id(text), None, "{text}");
        }
        assert_eq!(parse_trace_id(&"f".repeat(33)), None);
    }

    #[test]
    fn the_account_tells_when_senders_get_their_ok() {
        let told = |delivery| delivery_json("otlp", &delivery);
        assert_eq!(told(Delivery::Delivered), json!({"exporter": "otlp", "ok_when": "delivered"}));
        let synced = json!({"exporter": "otlp", "ok_when": "synced", "storage": "file_storage"});
        assert_eq!(told(Delivery::Synced("file_storage".into())), synced);
        assert_eq!(told(Delivery::Early)["ok_when"], "queued");
    }

    #[test]
    fn a_trace_is_asked_for_in_the_path_or_in_the_query() {
        assert_eq!(asked_trace("/ab", None), Some("ab"));
        assert_eq!(asked_trace("", Some("format=json&trace_id=cd")), Some("cd"));
        assert_eq!(asked_trace("/", Some("trace_id=")), None);
    }
}
