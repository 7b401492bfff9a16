//! The `health_check` extension: whether the collector is up, for probes.
//! `health_v2` has its second form.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::health_v2::{self, SecondForm, StatusPage, StatusSettings};
use super::{Overview, Port, health_grpc, not_found, page, read_path, read_port};
use crate::config::Section;
use crate::transport::body::Ready;
use crate::transport::listen::{Listener, Server, Versions};

/// The servers that one extension's section asks for.
pub struct HealthSettings(pub Vec<HealthServer>);

pub struct HealthServer {
    pub port: Port,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    First(FirstSettings),
    Second(StatusSettings),
    Grpc(StatusSettings),
}

#[derive(Debug, Clone)]
struct FirstSettings {
    path: String,
    healthy: Option<String>,
    unhealthy: Option<String>,
}

impl HealthSettings {
    /// The section of `health_check`; `use_v2: true` asks for the second form.
    pub fn read(mut section: Section<'_>) -> Self {
        if section.boolean_or("use_v2", false) {
            return Self::read_v2(section);
        }
        let port = read_port(&mut section, "localhost:13133", Versions::Any);
        let path = read_path(&mut section, "/");
        // The Collector takes this section and ignores it since 0.120; configs still carry it.
        section.ignore_with_warning(
            "check_collector_pipeline",
            "has no effect, as in the Collector",
            "look at `otelcol_exporter_send_failed_spans` instead",
        );
        // The second form's; without `use_v2` the Collector passes over them.
        for key in ["http", "grpc", "component_health"] {
            section.ignore_with_warning(key, "has no effect without `use_v2: true`", "add it, or remove this");
        }
        let (mut healthy, mut unhealthy) = (None, None);
        if let Some(mut bodies) = section.section("response_body") {
            (healthy, unhealthy) = (bodies.text("healthy"), bodies.text("unhealthy"));
            bodies.finish();
        }
        section.finish();
        Self(vec![HealthServer { port, form: Form::First(FirstSettings { path, healthy, unhealthy }) }])
    }

    /// The section of `healthcheckv2`.
    pub fn read_v2(section: Section<'_>) -> Self {
        let SecondForm { http, grpc, settings } = SecondForm::read(section);
        let http = http.map(|port| HealthServer { port, form: Form::Second(settings.clone()) });
        let grpc = grpc.map(|port| HealthServer { port, form: Form::Grpc(settings) });
        Self(http.into_iter().chain(grpc).collect())
    }
}

/// Where the collector is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Starting,
    Ready,
    Stopping,
}

/// Whether the pipelines take spans: not before all is started, and not once
/// the collector is shutting down.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<(Stage, SystemTime)>);

impl Health {
    pub fn new() -> Self {
        Self(watch::Sender::new((Stage::Starting, SystemTime::now())))
    }

    pub fn set(&self, stage: Stage) {
        self.0.send_replace((stage, SystemTime::now()));
    }

    /// The stage, and since when.
    pub fn stage(&self) -> (Stage, SystemTime) {
        *self.0.borrow()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers probes from now on.
pub fn serve(listener: Arc<Listener>, server: HealthServer, health: Health, overview: Arc<Overview>) -> Server {
    let page = |settings| Arc::new(StatusPage::new(settings, health.clone(), overview));
    let HealthServer { port, form } = server;
    match form {
        Form::First(settings) => serve_first(port, listener, settings, health),
        Form::Second(settings) => health_v2::serve(port, listener, page(settings)),
        Form::Grpc(settings) => health_grpc::serve(port, listener, page(settings)),
    }
}

fn serve_first(port: Port, listener: Arc<Listener>, settings: FirstSettings, health: Health) -> Server {
    let (since, started) = (SystemTime::now(), Instant::now());
    let settings = Arc::new(settings);
    port.serve(listener, move |request: Request<Incoming>| {
        let (settings, health) = (Arc::clone(&settings), health.clone());
        async move {
            if request.uri().path() != settings.path {
                return not_found();
            }
            answer(&settings, health.stage().0 == Stage::Ready, since, started)
        }
    })
}

fn answer(settings: &FirstSettings, ready: bool, since: SystemTime, started: Instant) -> Response<Ready> {
    let (code, body) = if ready {
        let since = humantime::format_rfc3339_nanos(since);
        let uptime = go_duration(started.elapsed());
        let standard = format!(r#"{{"status":"Server available","upSince":"{since}","uptime":"{uptime}"}}"#);
        (StatusCode::OK, settings.healthy.clone().unwrap_or(standard))
    } else {
        let standard = r#"{"status":"Server not available","upSince":"0001-01-01T00:00:00Z","uptime":""}"#;
        (StatusCode::SERVICE_UNAVAILABLE, settings.unhealthy.clone().unwrap_or_else(|| standard.into()))
    };
    page(code, "application/json", body)
}

/// As Go writes a duration: `1h2m3.5s`, `250ms`.
pub(super) fn go_duration(time: std::time::Duration) -> String {
    let nanoseconds = time.as_nanos();
    if nanoseconds < 1_000_000_000 {
        return match nanoseconds {
            0 => "0s".into(),
            1..1_000 => format!("{nanoseconds}ns"),
            1_000..1_000_000 => format!("{}µs", nanoseconds as f64 / 1e3),
            _ => format!("{}ms", nanoseconds as f64 / 1e6),
        };
    }
    let (minutes, rest) = (time.as_secs() / 60, time.as_secs() % 60);
    let fraction = format!("{:09}", time.subsec_nanos());
    let seconds = match fraction.trim_end_matches('0') {
        "" => format!("{rest}s"),
        fraction => format!("{rest}.{fraction}s"),
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (15, "15ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (62_300_000_000, "1m2.3s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_000_000_001, "25h1m1.000000001s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
