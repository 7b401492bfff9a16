//! The health check's second form: a status for the collector and for each pipeline,
//! with the components' own behind `?verbose`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use super::health_check::{Health, Stage};
use super::{Overview, PipelineOverview, Port, not_found, page, query, read_path, read_port};
use crate::config::Section;
use crate::telemetry::Trouble;
use crate::transport::body::Ready;
use crate::transport::listen::{Listener, Server, Versions};

/// What the second form is served at, and how.
pub struct SecondForm {
    pub http: Option<Port>,
    pub grpc: Option<Port>,
    pub settings: StatusSettings,
}

#[derive(Debug, Clone)]
pub struct StatusSettings {
    status_path: Option<String>,
    config_path: Option<String>,
    /// How long an exporter's trouble may last before the collector calls itself
    /// unhealthy; never without `include_recoverable_errors`.
    recovery: Option<Duration>,
}

impl SecondForm {
    pub fn read(mut section: Section<'_>) -> Self {
        section.boolean("use_v2");
        // The first form's keys, which the Collector passes over here.
        for key in ["endpoint", "path", "response_body", "check_collector_pipeline"] {
            section.ignore_with_warning(key, "has no effect in the second form", "write it under `http`");
        }
        let (http, grpc) = (section.section("http"), section.section("grpc"));
        if http.is_none() && grpc.is_none() {
            section.problem("must specify at least one protocol", "write `http: {endpoint: localhost:13133}`");
        }
        let (mut status_path, mut config_path) = (None, None);
        let http = http.map(|mut http| {
            let port = read_port(&mut http, "localhost:13133", Versions::Any);
            status_path = read_page(&mut http, "status", true);
            config_path = read_page(&mut http, "config", false);
            http.finish();
            port
        });
        let grpc = grpc.map(|mut grpc| {
            let port = read_port(&mut grpc, "localhost:13132", Versions::Http2);
            for key in [
                "keepalive",
                "max_concurrent_streams",
                "max_recv_msg_size_mib",
                "read_buffer_size",
                "write_buffer_size",
            ] {
                grpc.ignore_with_warning(key, "has no effect", "remove it");
            }
            grpc.finish();
            port
        });
        let mut recovery = None;
        if let Some(mut component_health) = section.section("component_health") {
            // No component ends in a permanent error here: what cannot work does not start.
            component_health.boolean("include_permanent_errors");
            let duration = component_health.duration_or("recovery_duration", Duration::from_secs(300));
            recovery = component_health.boolean_or("include_recoverable_errors", false).then_some(duration);
            component_health.finish();
        }
        section.finish();
        Self { http, grpc, settings: StatusSettings { status_path, config_path, recovery } }
    }
}

/// A page's path, if it is enabled.
fn read_page(http: &mut Section<'_>, key: &str, enabled: bool) -> Option<String> {
    let mut section = http.section_or_default(key);
    let enabled = section.boolean_or("enabled", enabled);
    let path = read_path(&mut section, &format!("/{key}"));
    section.finish();
    enabled.then_some(path)
}

pub(super) fn serve(port: Port, listener: Arc<Listener>, page: Arc<StatusPage>) -> Server {
    port.serve(listener, move |request: Request<Incoming>| {
        let page = Arc::clone(&page);
        async move { page.answer(&request) }
    })
}

pub(super) struct StatusPage {
    settings: StatusSettings,
    health: Health,
    overview: Arc<Overview>,
    started: SystemTime,
}

/// A state as it is told; `components` only to those who ask for them.
#[derive(Serialize)]
pub(super) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    healthy: bool,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    status_time: String,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    components: serde_json::Map<String, serde_json::Value>,
}

impl StatusPage {
    pub(super) fn new(settings: StatusSettings, health: Health, overview: Arc<Overview>) -> Self {
        Self { settings, health, overview, started: SystemTime::now() }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Ready> {
        let path = Some(request.uri().path());
        if path == self.settings.config_path.as_deref() {
            return page(StatusCode::OK, "application/json", self.overview.config.clone());
        }
        if path != self.settings.status_path.as_deref() {
            return not_found();
        }
        let asked = request.uri().query();
        let verbose = query(asked, "verbose").is_some_and(|value| value != "false");
        let name = query(asked, "pipeline").filter(|name| !name.is_empty());
        let name = name.map(|name| name.replace("%2F", "/").replace("%2f", "/"));
        let Some((code, told)) = self.told(name.as_deref(), verbose) else { return not_found() };
        page(code, "application/json", serde_json::to_vec(&told).unwrap_or_default())
    }

    /// The state of a pipeline, or of the whole collector, and HTTP's status for it.
    pub(super) fn told(&self, pipeline: Option<&str>, verbose: bool) -> Option<(StatusCode, Told)> {
        let (stage, since) = self.health.stage();
        let mut told = match pipeline {
            None => self.collector(verbose),
            Some(name) => self.pipeline(self.overview.pipelines.iter().find(|it| it.id == name)?, verbose),
        };
        let code = match stage {
            Stage::Ready if told.healthy => StatusCode::OK,
            Stage::Ready => StatusCode::INTERNAL_SERVER_ERROR,
            Stage::Starting | Stage::Stopping => {
                let status = if stage == Stage::Starting { "StatusStarting" } else { "StatusStopping" };
                (told.healthy, told.status, told.error, told.status_time) = (false, status, None, rfc3339(since));
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        told.start_time = Some(rfc3339(self.started));
        Some((code, told))
    }

    fn collector(&self, verbose: bool) -> Told {
        let pipelines = self.overview.pipelines.iter();
        let pipelines = pipelines.map(|it| (format!("pipeline:{}", it.id), self.pipeline(it, verbose)));
        let extensions = self.overview.extensions.iter().map(|id| (format!("extension:{id}"), self.well(None)));
        let extensions = ("extensions".to_owned(), self.joined(extensions.collect(), verbose));
        self.joined(pipelines.chain([extensions]).collect(), verbose)
    }

    fn pipeline(&self, pipeline: &PipelineOverview, verbose: bool) -> Told {
        let told = pipeline.components().map(|(kind, id)| {
            let name = format!("{kind}:{id}");
            let status = self.overview.metrics.statuses.of(&name);
            let told = status.trouble().map(|trouble| self.ailing(trouble));
            (name, told.unwrap_or_else(|| self.well(status.well_since())))
        });
        self.joined(told.collect(), verbose)
    }

    /// One state for several: the first that is not well, else the one that changed last.
    fn joined(&self, parts: Vec<(String, Told)>, verbose: bool) -> Told {
        let worst = parts.iter().map(|(_, told)| told).find(|told| !told.healthy);
        let worst = worst.or_else(|| parts.iter().map(|(_, told)| told).find(|told| told.error.is_some()));
        let latest = parts.iter().map(|(_, told)| &told.status_time).max().cloned();
        let mut joined = match worst {
            Some(worst) => Told {
                start_time: None,
                healthy: worst.healthy,
                status: worst.status,
                error: worst.error.clone(),
                status_time: worst.status_time.clone(),
                components: serde_json::Map::new(),
            },
            None => Told { status_time: latest.unwrap_or_else(|| self.well(None).status_time), ..self.well(None) },
        };
        if verbose {
            let parts = parts.into_iter();
            joined.components =
                parts.filter_map(|(name, told)| Some((name, serde_json::to_value(told).ok()?))).collect();
        }
        joined
    }

    fn well(&self, since: Option<SystemTime>) -> Told {
        Told {
            start_time: None,
            healthy: true,
            status: "StatusOK",
            error: None,
            status_time: rfc3339(since.unwrap_or_else(|| self.health.stage().1)),
            components: serde_json::Map::new(),
        }
    }

    fn ailing(&self, trouble: Trouble) -> Told {
        let lasts = Instant::now().duration_since(trouble.began);
        Told {
            start_time: None,
            healthy: self.settings.recovery.is_none_or(|recovery| lasts < recovery),
            status: "StatusRecoverableError",
            error: Some(trouble.error),
            status_time: rfc3339(trouble.since),
            components: serde_json::Map::new(),
        }
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}
