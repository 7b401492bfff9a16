//! Grafana Tempo as the destination, where `TEMPO_BIN` or the PATH has it. It
//! is stopped by SIGKILL: after fresh data SIGTERM takes it over a minute.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use super::server::{free_ports, program, skipped};
use super::shop::{self, Store, Stored, expect_tidied, order, recent, stored, tidy, wait_for_spans};
use crate::support::collector::{Process, vespid};
use crate::support::config::{to_http, with};
use crate::support::send::Call;
use crate::support::{Setup, module, request, root, script, to, wait_for};

struct Tempo {
    query: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
    tenant: Option<&'static str>,
    _process: Process,
    _folder: TempDir,
}

impl Tempo {
    /// A Tempo that is ready, or `None`, said loudly, where there is none.
    fn start(multi_tenant: bool) -> Option<Self> {
        let example = std::fs::read_to_string(root().join("examples/tempo/tempo.yaml")).unwrap();
        Self::start_with(&format!("multitenancy_enabled: {multi_tenant}\n{example}"))
    }

    /// The example's config, with its addresses and folders replaced.
    fn start_with(config: &str) -> Option<Self> {
        let Some(binary) = program("TEMPO_BIN", "tempo") else {
            skipped("no tempo binary; set TEMPO_BIN");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let [query, internal, grpc, http] = free_ports();
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server =
            format!("http_listen_address: 127.0.0.1\n  grpc_listen_address: 127.0.0.1\n  grpc_listen_port: {internal}");
        let config = [
            ("http_listen_address: 0.0.0.0", server.as_str()),
            ("http_listen_port: 3200", &format!("http_listen_port: {query}")),
            ("0.0.0.0:4317", &at(grpc).to_string()),
            ("0.0.0.0:4318", &at(http).to_string()),
            ("/var/tempo", folder.path().to_str().unwrap()),
        ]
        .into_iter()
        .fold(config.to_owned(), |config, (from, to)| {
            assert!(config.contains(from), "the example has `{from}`");
            config.replace(from, to)
        });
        let file = fitting(&binary, folder.path(), &config);
        let mut command = Command::new(&binary);
        command.arg("-target=all").arg("-config.file").arg(file).current_dir(folder.path());
        let mut process = Process::spawn(&mut command);
        process.wait_for_log("server listening on addresses");
        let tempo =
            Self { query: at(query), grpc: at(grpc), http: at(http), tenant: None, _process: process, _folder: folder };
        wait_for("Tempo to be ready", || (tempo.get("/ready", None).0 == 200).then_some(()));
        Some(tempo)
    }

    /// Reads as this tenant.
    fn of(&mut self, tenant: &'static str) -> &Self {
        self.tenant = Some(tenant);
        self
    }

    fn get(&self, path: &str, tenant: Option<&str>) -> (u16, String) {
        let call = Call::http(self.query).method(http::Method::GET).path(path).header("content-type", "");
        let answer = call.header("accept", "application/json").header("x-scope-orgid", tenant.unwrap_or("")).post("");
        (answer.status, answer.text().to_owned())
    }

    /// The ids of the traces that a TraceQL query finds.
    fn search(&self, query: &str) -> Vec<u128> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/search?q={encoded}&start={}&end={}", now - 600, now + 60);
        let (status, body) = self.get(&path, self.tenant);
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let traces = answer["traces"].as_array().cloned().unwrap_or_default();
        // Leading zeros are left out there.
        traces.iter().map(|trace| u128::from_str_radix(trace["traceID"].as_str().unwrap(), 16).unwrap()).collect()
    }
}

/// The config as this version of Tempo has it: 2.x keeps fresh traces in an
/// `ingester`, and refuses a key that it does not know.
fn fitting(binary: &Path, folder: &Path, config: &str) -> PathBuf {
    let file = folder.join("tempo.yaml");
    let accepts = |config: &str| {
        std::fs::write(&file, config).unwrap();
        let verify = Command::new(binary).arg("-config.verify").arg("-config.file").arg(&file).output().unwrap();
        verify.status.success().then_some(()).ok_or(String::from_utf8_lossy(&verify.stderr).into_owned())
    };
    if let Err(error) = accepts(config) {
        assert!(error.contains("live_store"), "Tempo refuses the example's config: {error}");
        let (before, rest) = config.split_once("live_store:").unwrap();
        let rest = rest.lines().skip(1).skip_while(|line| line.starts_with(' ')).collect::<Vec<_>>().join("\n");
        let ingester = "ingester: {trace_idle_period: 100ms, trace_live_period: 200ms, flush_check_period: 100ms, \
                        lifecycler: {min_ready_duration: 0s, address: 127.0.0.1}}";
        accepts(&format!("{before}{ingester}\n{rest}")).unwrap_or_else(|error| panic!("Tempo 2: {error}"));
    }
    file
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn number(trace: &[u8]) -> u128 {
    u128::from_be_bytes(trace.try_into().unwrap())
}

impl Store for Tempo {
    fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    fn http(&self) -> SocketAddr {
        self.http
    }

    fn trace(&self, id: &[u8]) -> Vec<Stored> {
        let (status, body) = self.get(&format!("/api/v2/traces/{}", hex(id)), self.tenant);
        assert_eq!(status, 200, "{body}");
        stored(&serde_json::from_str::<Value>(&body).unwrap()["trace"])
    }
}

#[test]
fn tempo_has_the_spans_of_both_protocols_as_the_plugin_left_them() {
    let Some(tempo) = Tempo::start(false) else { return };
    shop::takes_what_the_plugin_left(&tempo);
}

#[test]
fn tempo_has_the_good_spans_of_a_request_with_invalid_ids() {
    let Some(tempo) = Tempo::start(false) else { return };
    shop::takes_the_good_spans_of_a_request_with_bad_ids(&tempo);
}

#[test]
fn traceql_finds_what_the_plugin_set_and_not_what_it_took_away() {
    let Some(tempo) = Tempo::start(false) else { return };
    let collector = Setup::new().processor("wasm/tidy", tidy("searched")).exporter("otlp", to(tempo.grpc())).start();
    let order = order();
    collector.send(&order.request).expect_ok();
    let expected = [number(&order.trace)];
    for query in [
        r#"{ span.deployment.environment.name = "searched" }"#,
        r#"{ span.user.email = "****" && name = "POST /orders" }"#,
        r#"{ resource.service.name = "shop" }"#,
    ] {
        wait_for(query, || (tempo.search(query) == expected).then_some(()));
    }
    // By now the whole trace can be searched.
    assert_eq!(tempo.search(r#"{ name = "GET /healthz" }"#), []);
    assert_eq!(tempo.search(r#"{ span.user.email =~ ".*@.*" }"#), []);
    collector.finish();
}

#[test]
fn a_tenant_in_the_exporters_headers_is_the_tenant_in_tempo() {
    let Some(mut tempo) = Tempo::start(true) else { return };
    let header = json!({"X-Scope-OrgID": "team-a"});
    for (exporter, settings) in [("otlp", to(tempo.grpc())), ("otlphttp", to_http(tempo.http()))] {
        let settings = with(settings, [("headers", header.clone())]);
        let collector = Setup::new().processor("wasm/tidy", tidy("tenants")).exporter(exporter, settings).start();
        let order = order();
        collector.send(&order.request).expect_ok();
        expect_tidied(wait_for_spans(tempo.of("team-a"), &order.trace, 2), "tenants");
        assert_eq!(tempo.of("team-b").trace(&order.trace).len(), 0, "another tenant does not see them");
        collector.finish();
    }
}

#[test]
fn a_plugin_spreads_one_batch_over_two_tenants_of_tempo() {
    let Some(mut tempo) = Tempo::start(true) else { return };
    let steps = json!([
        {"op": "set-tenant", "rows": [0, 2], "tenant": "team-a"},
        {"op": "set-tenant", "rows": [1], "tenant": "team-b"},
    ]);
    for (exporter, settings) in [("otlp", to(tempo.grpc())), ("otlphttp", to_http(tempo.http()))] {
        let collector =
            Setup::new().processor("wasm/split", script(steps.clone())).exporter(exporter, settings).start();
        let spans = vec![recent("first"), recent("second"), recent("third")];
        let traces: Vec<Vec<u8>> = spans.iter().map(|span| span.trace_id.clone()).collect();
        collector.send(&request(spans)).expect_ok();
        for (trace, own, other) in
            [(&traces[0], "team-a", "team-b"), (&traces[1], "team-b", "team-a"), (&traces[2], "team-a", "team-b")]
        {
            assert_eq!(wait_for_spans(tempo.of(own), trace, 1).len(), 1);
            assert_eq!(tempo.of(other).trace(trace).len(), 0);
        }
        collector.finish();
    }
}

#[test]
fn a_sender_hears_that_a_multi_tenant_tempo_was_told_no_tenant() {
    let Some(tempo) = Tempo::start(true) else { return };
    for (exporter, settings) in [("otlp", to(tempo.grpc())), ("otlphttp", to_http(tempo.http()))] {
        let settings = with(settings, [("retry_on_failure.max_elapsed_time", json!("200ms"))]);
        let mut collector = Setup::new().exporter(exporter, settings).start();
        collector.send(&request(vec![recent("lost")])).expect(Code::Unavailable, "no org id");
        assert_eq!(collector.post(&request(vec![recent("lost")])).status, 503);
        // The operator reads it too.
        collector.wait_for_log("no org id");
        collector.finish();
    }
}

#[test]
fn the_tempo_example_works_as_its_readme_says() {
    let Some(tempo) = Tempo::start(false) else { return };
    let settings = [
        format!("processors.wasm/tidy.module={}", module("tidy")),
        format!("exporters.otlp/tempo.endpoint={}", tempo.grpc()),
        "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0".to_owned(),
        "receivers.otlp.protocols.http.endpoint=127.0.0.1:0".to_owned(),
        "extensions.health_check.endpoint=127.0.0.1:0".to_owned(),
        "service.telemetry.metrics.level=none".to_owned(),
    ];
    let mut command = vespid(&["--config=examples/tempo/vespid.yaml"]);
    command.args(settings.map(|setting| format!("--set={setting}")));
    let mut collector = Process::spawn(&mut command);
    collector.wait_for_log("Everything is ready");
    let line = collector.wait_for_log("receiving OTLP over gRPC");
    let at = line.find("127.0.0.1:").unwrap();
    let address: String = line[at..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
    let sent = vespid(&["send", "--count=2", "--interval=10ms", "--endpoint"]).arg(&address).output().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    for query in [
        r#"{ resource.service.name = "shop" }"#,
        r#"{ span.deployment.environment.name = "demo" }"#,
        r#"{ span.user.email = "****" }"#,
    ] {
        wait_for(query, || (tempo.search(query).len() == 2).then_some(()));
    }
    assert_eq!(tempo.search(r#"{ name = "GET /healthz" }"#), []);
    collector.signal(libc::SIGTERM);
    assert_eq!(collector.wait().code, Some(0));
}

#[test]
fn the_tempo_examples_compose_file_names_files_and_services_that_exist() {
    let folder = root().join("examples/tempo");
    let read =
        |name: &str| -> Value { serde_yaml::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap() };
    let compose = read("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            // What the plugin's build makes is there after the README's first line.
            let file = source.split_once("/target/").map_or(source, |(project, _)| project);
            let there = if file.starts_with('.') {
                folder.join(file).exists()
            } else {
                compose["volumes"].as_object().unwrap().contains_key(file)
            };
            assert!(there, "`{name}` mounts `{source}`");
        }
        for needed in service["depends_on"].as_array().into_iter().flatten() {
            assert!(services.contains_key(needed.as_str().unwrap()));
        }
    }
    assert!(folder.join(services["vespid"]["build"].as_str().unwrap()).join("Dockerfile").is_file());
    let port = |url: &Value| url.as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(read("grafana/datasources.yaml")["datasources"][0]["url"], "http://tempo:3200");
    assert_eq!(read("tempo.yaml")["server"]["http_listen_port"], 3200);
    assert_eq!(read("vespid.yaml")["exporters"]["otlp/tempo"]["endpoint"], "tempo:4317");
    assert_eq!(port(&read("tempo.yaml")["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]), "4317");
}
