//! The OpenTelemetry SDK for Go as the sender; `.ci/go-sdk.sh` builds the program.

use std::net::SocketAddr;
use std::process::Command;

use super::server::{cache, skipped};
use super::shop::tidy;
use crate::support::collector::Process;
use crate::support::spans::{all, attribute, names};
use crate::support::{Collector, Setup, Sink};

fn arrives_tidied(protocol: &str, endpoint: impl FnOnce(&Collector) -> SocketAddr) {
    let program = cache().join("go-sdk");
    if !program.is_file() {
        skipped("no program with the Go SDK; build it with .ci/go-sdk.sh");
        return;
    }
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/tidy", tidy("go")).start();
    collector.offer(2);
    let ended = Process::spawn(Command::new(program).arg(protocol).arg(endpoint(&collector).to_string())).wait();
    assert_eq!(ended.code, Some(0), "the SDK's last export was taken: {}", ended.log);
    let request = sink.only();
    assert_eq!(names(&request), ["POST /orders"], "the health check is gone");
    let order = all(&request)[0];
    assert_eq!(attribute(order, "user.email"), Some("****"));
    assert_eq!(attribute(order, "deployment.environment.name"), Some("go"));
    assert_eq!((order.events.len(), order.status.as_ref().unwrap().code), (1, 2));
    collector.finish();
}

#[test]
fn the_go_sdk_exports_over_grpc() {
    arrives_tidied("grpc", Collector::grpc);
    arrives_tidied("grpc-gzip", Collector::grpc);
}

#[test]
fn the_go_sdk_exports_over_http() {
    arrives_tidied("http", Collector::http);
    arrives_tidied("http-gzip", Collector::http);
}
