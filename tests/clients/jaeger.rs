//! Jaeger as the destination: the second real back end, for machines that have
//! Go and no Tempo. `.ci/jaeger.sh` builds it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{cache, free_ports, skipped};
use super::shop::{self, Store, Stored, stored};
use crate::support::collector::Process;
use crate::support::send::Call;
use crate::support::wait_for;

struct Jaeger {
    query: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Jaeger {
    /// A Jaeger that is ready, or `None`, said loudly, where there is none.
    fn start() -> Option<Self> {
        let binary = cache().join("jaeger");
        if !binary.is_file() {
            skipped("no Jaeger; build it with .ci/jaeger.sh, which needs Go");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let [query, query_grpc, grpc, http] = free_ports().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let at = |address: SocketAddr| json!({"endpoint": address.to_string()});
        let config = json!({
            "extensions": {
                "jaeger_storage": {"backends": {"kept": {"memory": {"max_traces": 10_000}}}},
                "jaeger_query": {"storage": {"traces": "kept"}, "http": at(query), "grpc": at(query_grpc)},
            },
            "receivers": {"otlp": {"protocols": {"grpc": at(grpc), "http": at(http)}}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "kept"}},
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            },
        });
        let file = folder.path().join("jaeger.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut process = Process::spawn(Command::new(binary).arg("--config").arg(file).current_dir(folder.path()));
        process.wait_for_log("Everything is ready");
        Some(Self { query, grpc, http, _process: process, _folder: folder })
    }
}

impl Store for Jaeger {
    fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    fn http(&self) -> SocketAddr {
        self.http
    }

    fn trace(&self, id: &[u8]) -> Vec<Stored> {
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = Call::get(self.query, &format!("/api/v3/traces/{id}"));
        // A trace that it does not have is an error there.
        if answer.status != 200 {
            return vec![];
        }
        let answer: Value = serde_json::from_str(answer.text()).unwrap();
        stored(&answer["result"])
    }
}

#[test]
fn jaeger_has_the_spans_of_both_protocols_as_the_plugin_left_them() {
    let Some(jaeger) = Jaeger::start() else { return };
    shop::takes_what_the_plugin_left(&jaeger);
    let services = wait_for("the service in Jaeger", || {
        let answer = Call::get(jaeger.query, "/api/services");
        serde_json::from_str::<Value>(answer.text()).ok()
    });
    assert_eq!(services["data"], json!(["shop"]));
}

#[test]
fn jaeger_has_the_good_spans_of_a_request_with_invalid_ids() {
    let Some(jaeger) = Jaeger::start() else { return };
    shop::takes_the_good_spans_of_a_request_with_bad_ids(&jaeger);
}
