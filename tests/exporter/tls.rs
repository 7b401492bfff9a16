//! TLS towards a destination.

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use crate::support::spans::spans;
use crate::support::tls::{Identity, identity};
use crate::support::{Collector, Setup, Sink, request};

/// A destination with TLS, known as `destination.test`, and a collector for
/// which a failure is final.
struct Secure {
    identity: Identity,
    sink: Sink,
    folder: TempDir,
}

impl Secure {
    fn new() -> Self {
        let identity = identity("destination.test");
        let sink = Sink::start_tls(identity.acceptor.clone());
        Self { identity, sink, folder: tempfile::tempdir().unwrap() }
    }

    fn collector(&self, id: &str, tls: Value) -> Collector {
        let scheme = if id == "otlphttp" { "https://" } else { "" };
        let endpoint = format!("{scheme}127.0.0.1:{}", self.sink.address.port());
        let off = json!({"enabled": false});
        Setup::new().exporter(id, json!({"endpoint": endpoint, "tls": tls, "retry_on_failure": off})).start()
    }

    fn delivers(&self, id: &str, tls: Value) {
        let before = self.sink.received().len();
        let collector = self.collector(id, tls);
        let sent = request(spans(2));
        collector.send(&sent).expect_ok();
        assert_eq!(self.sink.wait(before + 1)[before].request(), sent);
        collector.finish();
    }

    fn refuses(&self, id: &str, tls: Value, part: &str) {
        let before = self.sink.received().len();
        let collector = self.collector(id, tls);
        collector.send(&request(spans(2))).expect(Code::Unavailable, part);
        collector.finish();
        assert_eq!(self.sink.received().len(), before);
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_from_a_file_and_from_text() {
    let secure = Secure::new();
    let file = secure.identity.write_ca(secure.folder.path());
    for id in ["otlp", "otlphttp"] {
        secure.delivers(id, json!({"ca_file": file, "server_name_override": "destination.test"}));
        let pem = &secure.identity.ca_pem;
        secure.delivers(id, json!({"ca_pem": pem, "server_name_override": "destination.test"}));
    }
}

#[test]
fn another_name_is_refused_unless_it_is_overridden() {
    let secure = Secure::new();
    let file = secure.identity.write_ca(secure.folder.path());
    for id in ["otlp", "otlphttp"] {
        secure.refuses(id, json!({"ca_file": file}), "not valid for name");
    }
}

#[test]
fn another_authority_is_refused() {
    let secure = Secure::new();
    let other = identity("destination.test").ca_pem;
    for id in ["otlp", "otlphttp"] {
        let tls = json!({"ca_pem": other, "server_name_override": "destination.test"});
        secure.refuses(id, tls, "invalid peer certificate");
    }
}

#[test]
fn verification_is_left_out_where_that_is_asked_for() {
    let secure = Secure::new();
    for id in ["otlp", "otlphttp"] {
        secure.delivers(id, json!({"insecure_skip_verify": true}));
    }
}

#[test]
fn plain_text_to_a_destination_with_tls_fails_and_says_so() {
    let secure = Secure::new();
    secure.refuses("otlp", json!({"insecure": true}), "cannot be reached");
}

#[test]
fn certificates_that_cannot_be_read_keep_the_collector_from_starting() {
    let refused = |tls: Value| {
        let exporter = json!({"endpoint": "localhost:4317", "tls": tls});
        Setup::new().exporter("otlp", exporter).refused()
    };
    let log = refused(json!({"ca_file": "/nowhere/ca.pem"}));
    assert!(log.contains("exporters.otlp.tls: `/nowhere/ca.pem` cannot be read: No such file"), "{log}");
    let log = refused(json!({"ca_pem": "nothing of the sort"}));
    assert!(log.contains("holds no PEM that can be used"), "{log}");
}
