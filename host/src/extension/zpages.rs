//! The `zpages` extension: small pages that tell what the collector is made of and
//! what it has counted, for a person with a browser and no Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use super::account::{account_json, account_page, asked_trace, no_trace_id, parse_trace_id, why_json, why_page};
use super::health_check::go_duration;
use super::{Overview, PipelineOverview, Port, not_found, page, query, read_port};
use crate::config::Section;
use crate::telemetry::{Point, Snapshot, Value};
use crate::transport::body::Ready;
use crate::transport::listen::{Listener, Server, Versions};

pub struct ZpagesSettings {
    pub port: Port,
    expvar: bool,
}

impl ZpagesSettings {
    pub fn read(mut section: Section<'_>) -> Self {
        let port = read_port(&mut section, "localhost:55679", Versions::Any);
        let mut expvar = section.section_or_default("expvar");
        let enabled = expvar.boolean_or("enabled", false);
        expvar.finish();
        section.finish();
        Self { port, expvar: enabled }
    }
}

pub fn serve(listener: Arc<Listener>, settings: ZpagesSettings, overview: Arc<Overview>) -> Server {
    let pages = Arc::new(Pages { expvar: settings.expvar, overview, started: SystemTime::now() });
    settings.port.serve(listener, move |request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move { pages.answer(request.uri()) }
    })
}

struct Pages {
    expvar: bool,
    overview: Arc<Overview>,
    started: SystemTime,
}

/// The command line knows the gates, and has done with them when anything runs.
const GATES: &str = "<p>There are no feature gates that a running collector looks at; \
                     <code>vespid featuregate</code> lists those that a start looks at.</p>";

impl Pages {
    fn answer(&self, uri: &Uri) -> Response<Ready> {
        let path = uri.path();
        let is_json = query(uri.query(), "format") == Some("json");
        let (title, body) = match path.strip_suffix('/').unwrap_or(path) {
            "/debug/accountz" if is_json => return json(StatusCode::OK, &account_json(&self.overview)),
            "/debug/accountz" => ("Account", account_page(&self.overview.metrics.ledger)),
            path if path == "/debug/whyz" || path.starts_with("/debug/whyz/") => {
                let asked = asked_trace(path.strip_prefix("/debug/whyz").unwrap_or_default(), uri.query());
                if is_json {
                    return self.why(asked.unwrap_or_default());
                }
                ("Why?", why_page(&self.overview.metrics.ledger, asked))
            }
            "/debug/servicez" => ("Service", self.service()),
            "/debug/pipelinez" => ("Pipelines", self.pipelines()),
            "/debug/extensionz" => ("Extensions", self.extensions()),
            "/debug/featurez" => ("Feature gates", GATES.to_owned()),
            "/debug/tracez" => {
                let body = "The collector keeps no traces of itself; /debug/pipelinez has what it has counted.\n";
                return page(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", body);
            }
            "/debug/expvarz" if self.expvar => return self.variables(),
            _ => return not_found(),
        };
        let style = "body{font-family:sans-serif}td,th{text-align:left;padding:.1em 1em .1em 0;vertical-align:top}";
        let html = format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} · vespid</title>\
             <style>{style}</style></head><body><h1>{title}</h1>\n{body}\n</body></html>\n"
        );
        page(StatusCode::OK, "text/html; charset=utf-8", html)
    }

    fn service(&self) -> String {
        let uptime = go_duration(self.overview.metrics.started().elapsed());
        let started = humantime::format_rfc3339_seconds(self.started).to_string();
        let rows = [
            ("Command", "vespid".to_owned()),
            ("Description", env!("CARGO_PKG_DESCRIPTION").to_owned()),
            ("Version", env!("CARGO_PKG_VERSION").to_owned()),
            ("System", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
            ("Started", started),
            ("Uptime", uptime),
            ("Pipelines", self.overview.pipelines.len().to_string()),
            ("Extensions", self.overview.extensions.len().to_string()),
        ];
        let mut out = "<table>".to_owned();
        for (name, value) in rows {
            let _ = write!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
        }
        out.push_str("</table><ul>");
        for name in ["pipelinez", "accountz", "whyz", "extensionz", "featurez"] {
            let _ = write!(out, "<li><a href=\"{name}\">{name}</a></li>");
        }
        if self.expvar {
            out.push_str("<li><a href=\"expvarz\">expvarz</a></li>");
        }
        out.push_str("</ul>");
        out
    }

    fn pipelines(&self) -> String {
        let counted = self.overview.metrics.gather();
        let mut out = String::new();
        for pipeline in &self.overview.pipelines {
            let _ = write!(out, "<h2>{}</h2>", escape(&pipeline.id));
            let heads = ["Kind", "Component", "State", "Counted"].map(|head| format!("<th>{head}</th>"));
            let _ = write!(out, "<table><tr>{}</tr>", heads.concat());
            self.rows(pipeline, &counted, &mut out);
            out.push_str("</table>");
        }
        out
    }

    fn rows(&self, pipeline: &PipelineOverview, counted: &[Snapshot], out: &mut String) {
        for (kind, id) in pipeline.components() {
            let state = match self.overview.metrics.statuses.of(&format!("{kind}:{id}")).trouble() {
                Some(trouble) => escape(&trouble.error),
                None => "OK".to_owned(),
            };
            let mut numbers = String::new();
            for (name, point) in series(counted).filter(|(_, point)| is_of(point, kind, id)) {
                let rest =
                    point.labels.iter().filter(|(name, _)| !matches!(name.as_str(), "otel.signal" | "data_type"));
                let rest: Vec<String> =
                    rest.filter(|(name, _)| name != kind).map(|(name, value)| format!("{name}={value}")).collect();
                let labels = if rest.is_empty() { String::new() } else { format!(" ({})", rest.join(", ")) };
                let _ = write!(numbers, "{}{}: {}<br>", escape(name), escape(&labels), shown(&point.value));
            }
            let _ = writeln!(out, "<tr><td>{kind}</td><td>{}</td><td>{state}</td><td>{numbers}</td></tr>", escape(id));
        }
    }

    fn extensions(&self) -> String {
        let items = self.overview.extensions.iter().map(|id| format!("<li>{}</li>", escape(id)));
        format!("<ul>{}</ul>", items.collect::<String>())
    }

    fn why(&self, asked: &str) -> Response<Ready> {
        match parse_trace_id(asked) {
            Some(trace) => json(StatusCode::OK, &why_json(&self.overview.metrics.ledger, trace)),
            None => json(StatusCode::BAD_REQUEST, &serde_json::json!({"error": no_trace_id(asked)})),
        }
    }

    /// In the form of Go's `expvar`. The command line, which that has too, may hold secrets.
    fn variables(&self) -> Response<Ready> {
        let counted = self.overview.metrics.gather();
        let mut metrics = serde_json::Map::new();
        for (name, point) in series(&counted) {
            let labels = point.labels.iter().map(|(name, value)| format!("{name}={value:?}"));
            let labels = labels.collect::<Vec<_>>().join(",");
            let value = match &point.value {
                Value::Integer(value) => (*value).into(),
                Value::Float(value) => (*value).into(),
                Value::Histogram(found) => serde_json::json!({"count": found.count(), "sum": found.sum}),
            };
            let key = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") };
            metrics.insert(key, value);
        }
        let told = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "metrics": metrics});
        json(StatusCode::OK, &told)
    }
}

fn json(code: StatusCode, value: &serde_json::Value) -> Response<Ready> {
    page(code, "application/json; charset=utf-8", value.to_string())
}

fn series(counted: &[Snapshot]) -> impl Iterator<Item = (&str, &Point)> {
    counted.iter().flat_map(|snapshot| snapshot.points.iter().map(|point| (snapshot.name.as_str(), point)))
}

fn is_of(point: &Point, kind: &str, id: &str) -> bool {
    point.labels.iter().any(|(name, value)| name == kind && value == id)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Histogram(found) => format!("{} values, {} in all", found.count(), found.sum),
    }
}

/// Text as HTML shows it, attributes included.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_stranger_wrote_is_markup() {
        assert_eq!(escape("<b>\"a\" & 'b'</b>"), "&lt;b&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/b&gt;");
    }
}
