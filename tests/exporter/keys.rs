//! Every key that the Collector's exporters and client extensions have.

use base64::Engine as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::config::{to_http, with};
use crate::support::spans::spans;
use crate::support::{Setup, Sink, request, to, wait_for};

#[test]
fn every_key_of_the_collector_is_taken() {
    let sink = Sink::start();
    let both = json!({
        "timeout": "10s", "headers": {"x": "y"}, "user_agent": "shop", "middlewares": [], "auth": null,
        "read_buffer_size": 1024, "write_buffer_size": 1024,
        "retry_on_failure": {
            "enabled": true, "initial_interval": "1s", "randomization_factor": 0.5, "multiplier": 1.5,
            "max_interval": "10s", "max_elapsed_time": "60s", "resource_exhausted": true,
        },
        "sending_queue": {"enabled": true, "sizer": "items", "queue_size": 1000, "num_consumers": 2, "block_on_overflow": true},
    });
    let grpc = json!({
        "endpoint": sink.to_string(), "tls": {
            "insecure": true, "insecure_skip_verify": false, "server_name_override": "tempo.test", "min_version": "1.2",
            "max_version": "1.3", "cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], "include_insecure_cipher_suites": false,
            "curve_preferences": ["X25519"], "include_system_ca_certs_pool": false, "reload_interval": "1h",
        },
        "compression": "zstd", "authority": "tempo.test", "balancer_name": "pick_first", "wait_for_ready": true,
        "keepalive": {"time": "30s", "timeout": "5s", "permit_without_stream": true},
    });
    let http = json!({
        "endpoint": format!("http://{sink}"), "metrics_endpoint": "http://a", "logs_endpoint": "http://b", "profiles_endpoint": "http://c",
        "encoding": "proto", "compression": "gzip", "compression_params": {"level": 6}, "proxy_url": "",
        "max_idle_conns": 10, "max_idle_conns_per_host": 5, "max_conns_per_host": 2, "idle_conn_timeout": "10s",
        "disable_keep_alives": false, "http2_read_idle_timeout": "10s", "http2_ping_timeout": "5s",
        "force_attempt_http2": true, "cookies": {"enabled": false},
    });
    for (id, mut settings) in [("otlp", grpc), ("otlphttp", http)] {
        settings.as_object_mut().unwrap().extend(both.as_object().unwrap().clone());
        let collector = Setup::new().exporter(id, settings).start();
        let before = sink.received().len();
        collector.send(&request(spans(2))).expect_ok();
        assert_eq!(sink.wait(before + 1)[before].header("x"), Some("y"));
        collector.finish();
    }
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_key() {
    let refused = |id: &str, key: &str, value: Value, part: &str| {
        let base = if id == "otlp" { to("tempo:4317") } else { to_http("tempo:4318") };
        let log = Setup::new().exporter(id, with(base, [(key, value)])).refused();
        let path = format!("exporters.{id}.{key}");
        assert!(log.contains(&path) && log.contains(part), "`{path}` and `{part}` are not in\n{log}");
    };
    for endpoint in ["", "tempo", "tempo:grpc", "ftp://tempo:4317", "http://tempo"] {
        refused("otlp", "endpoint", json!(endpoint), "endpoint");
    }
    for endpoint in ["", "tempo:4318", "grpc://tempo"] {
        refused("otlphttp", "endpoint", json!(endpoint), "http://tempo:4318");
    }
    refused("otlp", "compression", json!("lz4"), "is not known here");
    refused("otlphttp", "compression", json!("brotli"), "is not known here");
    refused("otlphttp", "compression_params.level", json!(10), "is no level of gzip");
    refused("otlphttp", "encoding", json!("text"), "is not known here");
    refused("otlphttp", "proxy_url", json!("ftp://proxy"), "is not the URL of a proxy");
    refused("otlphttp", "cookies.enabled", json!(true), "cookies are not kept");
    refused("otlp", "balancer_name", json!("weighted"), "is not known here");
    refused("otlp", "middlewares", json!([{"id": "limiter"}]), "other extensions");
    refused("otlp", "auth", json!({}), "has no authenticator");
    refused("otlp", "headers", json!({"a b": "c"}), "is not a header name");
    refused("otlp", "tls.tpm", json!({"enabled": true}), "TPM");
    refused("otlp", "tls.min_version", json!("2.0"), "is no TLS version");
    refused("otlp", "tls.cipher_suites", json!(["RC4"]), "is no cipher suite");
    refused("otlp", "retry_on_failure.max_elapsed_time", json!("1ms"), "is less than");
    refused("otlp", "retry_on_failure.multiplier", json!(0.5), "at least 1");
    let both = json!({"ca_file": "a", "ca_pem": "b"});
    let log = Setup::new().exporter("otlp", with(to("tempo:4317"), [("tls", both)])).refused();
    assert!(log.contains("exporters.otlp.tls.ca_pem"), "{log}");
}

/// A collector whose exporter is authorized by this extension.
fn authorized(sink: &Sink, kind: &str, id: &str, settings: Value) -> Setup {
    let exporter = if kind == "otlp" { to(sink) } else { to_http(sink) };
    Setup::new()
        .set(&format!("extensions.{id}"), settings)
        .set("service.extensions", json!(["health_check", id]))
        .exporter(kind, with(exporter, [("auth.authenticator", json!(id))]))
}

fn basic(pair: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[test]
fn credentials_go_to_the_destination_and_follow_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let (name, word, token) = (folder.path().join("name"), folder.path().join("word"), folder.path().join("token"));
    let write = |path: &std::path::Path, text: &str| std::fs::write(path, text).unwrap();
    for kind in ["otlp", "otlphttp"] {
        write(&name, "ann\n");
        write(&word, "s3cret\n");
        write(&token, "t0ken\nsecond\n");
        let sink = Sink::start();
        let seen = |settings: (&str, Value), header: &str, first: &str| {
            let collector = authorized(&sink, kind, settings.0, settings.1).start();
            collector.send(&request(spans(1))).expect_ok();
            assert_eq!(sink.received().last().unwrap().header(header), Some(first));
            collector
        };
        let client = json!({"client_auth": {"username": "ann", "password": "w0rd"}});
        seen(("basicauth", client), "authorization", &basic("ann:w0rd")).finish();
        let settings = json!({"token": "t0ken", "scheme": "Key", "header": "X-Key"});
        seen(("bearertokenauth", settings), "x-key", "Key t0ken").finish();
        let client = json!({"client_auth": {"username_file": name, "password_file": word}});
        let first = seen(("basicauth/files", client), "authorization", &basic("ann:s3cret"));
        let second = seen(("bearertokenauth", json!({"filename": token})), "authorization", "Bearer t0ken");
        write(&word, "new\n");
        write(&token, "newer\n");
        for (collector, expected) in [(first, basic("ann:new")), (second, "Bearer newer".to_owned())] {
            wait_for("the new credentials", || {
                collector.send(&request(spans(1))).expect_ok();
                (sink.received().last().unwrap().header("authorization") == Some(&expected)).then_some(())
            });
            assert!(!collector.log().contains("s3cret") && !collector.log().contains("t0ken"));
            collector.finish();
        }
    }
}

#[test]
fn a_headers_setter_stands_on_another_authenticator() {
    let sink = Sink::start();
    let rules = json!({"additional_auth": "basicauth", "headers": [
        {"key": "X-Fixed", "value": "v"},
        {"key": "X-Old", "action": "insert", "value": "no"},
        {"key": "X-Gone", "action": "delete"},
    ]});
    let exporter = with(
        to(&sink),
        [("auth.authenticator", json!("headers_setter")), ("headers", json!({"X-Old": "yes", "X-Gone": "here"}))],
    );
    let collector = Setup::new()
        .set("extensions.headers_setter", rules)
        .set("extensions.basicauth", json!({"client_auth": {"username": "ann", "password": "w"}}))
        .set("service.extensions", json!(["health_check", "headers_setter", "basicauth"]))
        .exporter("otlp", exporter)
        .start();
    collector.send(&request(spans(1))).expect_ok();
    let received = sink.wait(1).remove(0);
    assert_eq!(received.header("authorization"), Some(basic("ann:w").as_str()));
    assert_eq!((received.header("x-fixed"), received.header("x-old")), (Some("v"), Some("yes")));
    assert_eq!(received.header("x-gone"), None);
    collector.finish();
}

#[test]
fn two_values_where_one_tenant_is_meant_are_not_guessed_at() {
    let sink = Sink::start();
    let rules = json!({"headers": [{"key": "X-Scope-OrgID", "from_context": "tenant"}]});
    let collector = authorized(&sink, "otlp", "headers_setter", rules)
        .set("receivers.otlp.protocols.http.include_metadata", json!(true))
        .start();
    use prost::Message as _;
    // Over a connection by hand: the client of the tests sets a header once.
    let message = request(spans(1)).encode_to_vec();
    collector.offer(1);
    let answer = raw_post(collector.http(), "tenant: a\r\ntenant: b\r\n", &message);
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains("2 values for `tenant`"), "{answer}");
    assert!(sink.received().is_empty());
    collector.finish();
}

fn raw_post(address: std::net::SocketAddr, headers: &str, body: &[u8]) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = crate::support::send::idle_connection(address);
    let length = body.len();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn an_authenticator_that_cannot_be_used_is_told_with_what_to_do() {
    let refused = |extensions: Value, listed: Value| {
        let exporter = with(to("tempo:4317"), [("auth.authenticator", json!("basicauth"))]);
        let setup = Setup::new().set("extensions", extensions).set("service.extensions", listed);
        setup.exporter("otlp", exporter).refused()
    };
    let client = json!({"basicauth": {"client_auth": {"username": "a", "password": "b"}}});
    let log = refused(json!({}), json!([]));
    assert!(
        log.contains(
            "exporters.otlp.auth.authenticator: failed to resolve authenticator \"basicauth\": authenticator not found"
        ),
        "{log}"
    );
    let log = refused(client, json!([]));
    assert!(log.contains("add `basicauth` to `service.extensions`"), "{log}");
    let server = json!({"basicauth": {"htpasswd": {"inline": "a:b"}}});
    let log = refused(server, json!(["basicauth"]));
    assert!(log.contains("is not a client authenticator"), "{log}");
    let missing = json!({"basicauth": {"client_auth": {"username": "a", "password_file": "/nowhere/word"}}});
    let log = refused(missing, json!(["basicauth"]));
    assert!(log.contains("extensions.basicauth: `/nowhere/word` cannot be read: No such file"), "{log}");
    for (settings, part) in [
        (json!({}), "no credential source provided"),
        (json!({"htpasswd": {"inline": "a:b"}, "client_auth": {"username": "a"}}), "only one of"),
        (json!({"htpasswd": {"inline": "no colon"}}), "line 1 is not `name:hash`"),
        (json!({"client_auth": {"username": "a:b"}}), "invalid authorization format"),
    ] {
        let log = refused(json!({"basicauth": settings}), json!(["basicauth"]));
        assert!(log.contains(part), "`{part}` is not in\n{log}");
    }
}

#[test]
fn setters_that_stand_on_each_other_are_refused() {
    let setter = |on: &str| json!({"additional_auth": on, "headers": [{"key": "a", "value": "b"}]});
    let log = Setup::new()
        .set(
            "extensions",
            json!({"headers_setter/a": setter("headers_setter/b"), "headers_setter/b": setter("headers_setter/a")}),
        )
        .set("service.extensions", json!(["headers_setter/a", "headers_setter/b"]))
        .exporter("otlp", to("tempo:4317"))
        .refused();
    assert!(log.contains("extensions.headers_setter/a.additional_auth"), "{log}");
    for (rule, part) in [
        (json!({"value": "x"}), "missing header name"),
        (json!({"key": "a"}), "missing header source"),
        (json!({"key": "a", "value": "x", "from_context": "y"}), "invalid header source"),
        (json!({"key": "a", "value": "x", "action": "replace"}), "is not known here"),
    ] {
        let log = Setup::new()
            .set("extensions.headers_setter", json!({"headers": [rule]}))
            .set("service.extensions", json!(["headers_setter"]))
            .exporter("otlp", to("tempo:4317"))
            .refused();
        assert!(log.contains(part), "`{part}` is not in\n{log}");
    }
}

#[test]
fn a_late_code_is_not_mistaken_for_a_missing_tenant() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    sink.answer_next([crate::support::Reply::grpc(Code::Unavailable, "later")]);
    collector.send(&request(spans(1))).expect_ok();
    sink.wait(2);
    collector.finish();
}
