//! The `health_check` extension: whether the collector is up, for probes.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::config::Section;
use crate::transport::body::Ready;
use crate::transport::listen::{Listener, Server, Versions};

#[derive(Debug, Clone)]
pub struct HealthSettings {
    pub endpoint: String,
    path: String,
    healthy: Option<String>,
    unhealthy: Option<String>,
}

impl HealthSettings {
    pub fn read(mut section: Section<'_>) -> Self {
        let endpoint = section.text_or("endpoint", "localhost:13133");
        if !matches!(endpoint.rsplit_once(':').map(|(_, port)| port.parse::<u16>()), Some(Ok(_))) {
            let message = format!("`{endpoint}` is not `host:port`");
            section.problem_at("endpoint", message, "write it like `localhost:13133`");
        }
        let path = section.text_or("path", "/");
        if !path.starts_with('/') {
            section.problem_at("path", format!("`{path}` is not a path"), "begin it with `/`");
        }
        // The Collector takes this section and ignores it since 0.120; configs still carry it.
        section.ignore_with_warning(
            "check_collector_pipeline",
            "has no effect, as in the Collector",
            "look at `otelcol_exporter_send_failed_spans` instead",
        );
        let (mut healthy, mut unhealthy) = (None, None);
        if let Some(mut bodies) = section.section("response_body") {
            (healthy, unhealthy) = (bodies.text("healthy"), bodies.text("unhealthy"));
            bodies.finish();
        }
        section.finish();
        Self { endpoint, path, healthy, unhealthy }
    }
}

/// Whether the pipelines take spans: not before all is started, and not once
/// the collector is shutting down.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<bool>);

impl Health {
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers probes from now on.
pub fn serve(listener: Listener, settings: HealthSettings, health: Health) -> Server {
    let (since, started) = (SystemTime::now(), Instant::now());
    let settings = Arc::new(settings);
    listener.serve(Versions::Any, move |request: Request<Incoming>| {
        let (settings, health) = (Arc::clone(&settings), health.clone());
        async move {
            if request.uri().path() != settings.path {
                let mut response = Response::new(Ready::new("404 page not found"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            }
            answer(&settings, health.is_ready(), since, started)
        }
    })
}

fn answer(settings: &HealthSettings, ready: bool, since: SystemTime, started: Instant) -> Response<Ready> {
    let (code, body) = if ready {
        let since = humantime::format_rfc3339_nanos(since);
        let uptime = humantime::format_duration(started.elapsed()).to_string().replace(' ', "");
        let standard = format!(r#"{{"status":"Server available","upSince":"{since}","uptime":"{uptime}"}}"#);
        (StatusCode::OK, settings.healthy.clone().unwrap_or(standard))
    } else {
        let standard = r#"{"status":"Server not available","upSince":"0001-01-01T00:00:00Z","uptime":""}"#;
        (StatusCode::SERVICE_UNAVAILABLE, settings.unhealthy.clone().unwrap_or_else(|| standard.into()))
    };
    let mut response = Response::new(Ready::new(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
