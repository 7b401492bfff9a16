//! Every key that the Collector's `otlp` receiver has.

use prost::Message as _;
use serde_json::{Value, json};

use crate::support::send::{Call, JSON};
use crate::support::spans::spans;
use crate::support::tls::{Authority, Signed};
use crate::support::{Reply, Setup, Sink, request};

const GRPC: &str = "receivers.otlp.protocols.grpc";
const HTTP: &str = "receivers.otlp.protocols.http";

fn with(setup: Setup, protocol: &str, keys: &Value) -> Setup {
    let keys = keys.as_object().unwrap();
    keys.iter().fold(setup, |setup, (key, value)| setup.set(&format!("{protocol}.{key}"), value.clone()))
}

#[test]
fn every_key_of_the_collector_is_taken() {
    let both = json!({
        "transport": "tcp", "include_metadata": true, "middlewares": [], "dialer": {"timeout": "1s"}, "auth": null,
        "tls": null,
    });
    let grpc = json!({
        "max_recv_msg_size_mib": 8, "max_concurrent_streams": 100, "read_buffer_size": 524288, "write_buffer_size": 1024,
        "keepalive": {
            "server_parameters": {
                "max_connection_idle": "1m", "max_connection_age": "1h", "max_connection_age_grace": "1m",
                "time": "30s", "timeout": "10s",
            },
            "enforcement_policy": {"min_time": "1m", "permit_without_stream": true},
        },
    });
    let http = json!({
        "traces_url_path": "/v1/traces", "metrics_url_path": "/v1/metrics", "logs_url_path": "/v1/logs",
        "max_request_body_size": 20971520, "compression_algorithms": ["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed"],
        "cors": {"allowed_origins": ["https://*"], "allowed_headers": ["x"], "exposed_headers": ["y"], "max_age": 7200},
        "read_timeout": "10s", "read_header_timeout": "10s", "write_timeout": "10s", "idle_timeout": "1m",
        "keep_alives_enabled": true, "response_headers": [{"name": "x", "value": "y"}],
    });
    let setup = Setup::new().exporter("debug", json!({"sending_queue": {"enabled": true}}));
    let setup = with(with(setup, GRPC, &both), HTTP, &both);
    let collector = with(with(setup, GRPC, &grpc), HTTP, &http).start();
    collector.send(&request(spans(1))).expect_ok();
    collector.post(&request(spans(1))).expect_ok();
    collector.finish();
}

#[test]
fn every_key_of_tls_is_taken() {
    let authority = Authority::new();
    let Signed { cert_pem, key_pem, .. } = authority.sign("collector.test");
    let keys = json!({
        "cert_pem": cert_pem, "key_pem": key_pem, "include_system_ca_certs_pool": false, "min_version": "1.2", "max_version": "1.3",
        "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"], "include_insecure_cipher_suites": false,
        "curve_preferences": ["X25519", "P256"], "reload_interval": "1h", "client_ca_file_reload": false,
        "tpm": {"enabled": false, "path": "", "owner_auth": "", "auth": ""},
    });
    let setup = Setup::new().exporter("debug", json!({})).set(&format!("{HTTP}.tls"), keys);
    let collector = setup.set(&format!("{GRPC}.tls"), json!({"enabled": false})).start();
    collector.offer(1);
    let message = request(spans(1));
    let client = authority.client(None, &["http/1.1"]);
    Call::http(collector.http()).tls(client, "collector.test").post(message.encode_to_vec()).expect_ok();
    collector.send(&message).expect_ok();
    collector.finish();
}

#[test]
fn what_is_not_done_is_refused_by_its_key() {
    let refused = |key: &str, value: Value, part: &str| {
        let log = Setup::new().exporter("debug", json!({})).set(key, value).refused();
        assert!(log.contains(key) && log.contains(part), "`{key}` and `{part}` are not in\n{log}");
    };
    refused(&format!("{GRPC}.middlewares"), json!([{"id": "opa"}]), "cannot be led through `opa`");
    refused(&format!("{HTTP}.tls"), json!({}), "has no certificate and key");
    refused(&format!("{HTTP}.auth"), json!({}), "names no authenticator");
    let tpm = json!({"cert_file": "a", "key_file": "b", "tpm": {"enabled": true}});
    refused(&format!("{HTTP}.tls"), tpm, "keys in a TPM cannot be used");
}

#[test]
fn an_answer_that_takes_too_long_is_a_status_in_the_requests_encoding() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = Setup::line(&sink).set(&format!("{HTTP}.write_timeout"), json!("300ms")).start();
    collector.post(&request(spans(1))).expect(503, "did not answer within `write_timeout`");
    let span = json!({"traceId": "01".repeat(16), "spanId": "02".repeat(8)});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
    collector.offer(1);
    let answer = Call::http(collector.http()).header("content-type", JSON).post(body).json(503);
    assert!(answer["message"].as_str().unwrap().contains("write_timeout"), "{answer}");
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    sink.release();
    collector.finish();
}
