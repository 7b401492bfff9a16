//! The ways to a destination: sockets, proxies, redirects, names, encodings.

use serde_json::{Value, json};
use tonic::Code;

use crate::support::config::{to_http, with};
use crate::support::proxy::Proxy;
use crate::support::spans::spans;
use crate::support::tls::{Authority, identity, mutual};
use crate::support::{Collector, Reply, Setup, Sink, request, to};

fn start<const N: usize>(id: &str, settings: Value, keys: [(&str, Value); N]) -> Collector {
    Setup::new().exporter(id, with(settings, keys)).start()
}

fn delivers(collector: Collector, sink: &Sink) -> crate::support::sink::Received {
    let before = sink.received().len();
    let sent = request(spans(3));
    collector.send(&sent).expect_ok();
    let received = sink.wait(before + 1).remove(before);
    if !received.headers["content-type"].as_bytes().ends_with(b"json") {
        assert_eq!(received.request(), sent);
    }
    collector.finish();
    received
}

#[test]
fn an_endpoint_may_be_written_in_every_form() {
    let sink = Sink::start();
    let port = sink.address.port();
    for endpoint in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("dns:///localhost:{port}"),
        format!("dns:localhost:{port}"),
        format!("passthrough:///127.0.0.1:{port}"),
    ] {
        delivers(start("otlp", to(&endpoint), []), &sink);
    }
    // A scheme decides about TLS by itself.
    for endpoint in [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}/")] {
        delivers(start("otlp_grpc", to(&endpoint), [("tls", Value::Null)]), &sink);
    }
    delivers(start("otlp_http", to_http(&sink), [("endpoint", json!(format!("http://localhost:{port}/")))]), &sink);
    let exact = [("endpoint", Value::Null), ("traces_endpoint", json!(format!("http://127.0.0.1:{port}/api/spans")))];
    assert_eq!(delivers(start("otlphttp", to_http(&sink), exact), &sink).path, "/api/spans");
}

#[test]
fn a_destination_may_be_a_socket_of_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tempo.sock");
    let sink = Sink::start_unix(&path);
    delivers(start("otlp", to(format!("unix://{}", path.display())), []), &sink);
    let received = delivers(start("otlp", to(format!("unix:{}", path.display())), []), &sink);
    assert_eq!(received.authority, "localhost");
}

#[test]
fn every_compression_arrives_as_it_was() {
    let sink = Sink::start();
    for codec in ["gzip", "snappy", "zstd", "none", ""] {
        let received = delivers(start("otlp", to(&sink), [("compression", json!(codec))]), &sink);
        assert_eq!(received.header("grpc-encoding").unwrap_or("none"), if codec.is_empty() { "none" } else { codec });
    }
    for codec in ["gzip", "zlib", "deflate", "snappy", "x-snappy-framed", "zstd", "lz4", "none", ""] {
        let received = delivers(start("otlphttp", to_http(&sink), [("compression", json!(codec))]), &sink);
        assert_eq!(
            received.header("content-encoding").unwrap_or("none"),
            if codec.is_empty() { "none" } else { codec }
        );
    }
    for (codec, level) in [("gzip", 9), ("gzip", -1), ("zlib", 1), ("zstd", 11), ("snappy", 0)] {
        let keys = [("compression", json!(codec)), ("compression_params.level", json!(level))];
        delivers(start("otlphttp", to_http(&sink), keys), &sink);
    }
}

#[test]
fn json_is_written_and_its_answers_are_read() {
    let sink = Sink::start();
    let collector = start("otlphttp", to_http(&sink), [("encoding", json!("json"))]);
    let sent = request(spans(2));
    collector.send(&sent).expect_ok();
    let received = sink.wait(1).remove(0);
    assert_eq!(received.header("content-type"), Some("application/json"));
    let json: Value = serde_json::from_slice(&received.message).unwrap();
    let span = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let hex: String =
        sent.resource_spans[0].scope_spans[0].spans[0].trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((span["name"].as_str(), span["traceId"].as_str()), (Some("span 0"), Some(hex.as_str())));
    sink.answer_next([Reply::Partial { rejected: 1, message: "too old" }]);
    let partial = collector.send(&request(spans(2))).expect_ok().partial_success.clone().unwrap();
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (1, "too old"));
    sink.answer_next([Reply::Status { grpc: 3, http: 400, message: "no such thing".into(), retry: None }]);
    collector.send(&request(spans(1))).expect(Code::InvalidArgument, "no such thing");
    collector.finish();
}

#[test]
fn user_agent_and_authority_are_what_the_config_says() {
    let sink = Sink::start();
    for (id, settings) in [("otlp", to(&sink)), ("otlphttp", to_http(&sink))] {
        let received = delivers(start(id, settings.clone(), []), &sink);
        assert!(received.header("user-agent").unwrap().starts_with("OTel-OTLP-Exporter-Vespid/"));
        assert_eq!(received.authority, sink.to_string());
        let received = delivers(start(id, settings, [("user_agent", json!("shop/1"))]), &sink);
        assert_eq!(received.header("user-agent"), Some("shop/1"));
    }
    let received = delivers(start("otlp", to(&sink), [("authority", json!("tempo.test"))]), &sink);
    assert_eq!(received.authority, "tempo.test");
}

#[test]
fn connections_are_kept_unless_that_is_not_wanted() {
    for (id, settings, keep) in
        [("otlp", to as fn(String) -> Value, true), ("otlphttp", to_http, true), ("otlphttp", to_http, false)]
    {
        let sink = Sink::start();
        let keys = if keep { json!({}) } else { json!({"disable_keep_alives": true}) };
        let mut settings = settings(sink.to_string());
        settings.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let collector = Setup::new().exporter(id, settings).start();
        for _ in 0..4 {
            collector.send(&request(spans(1))).expect_ok();
        }
        let connections: std::collections::HashSet<usize> = sink.wait(4).iter().map(|it| it.connection).collect();
        assert_eq!(connections.len(), if keep { 1 } else { 4 }, "{id}");
        collector.finish();
    }
}

#[test]
fn a_redirect_within_the_host_is_followed_and_any_other_is_final() {
    let (sink, other) = (Sink::start(), Sink::start());
    let collector = start("otlphttp", to_http(&sink), [("headers", json!({"authorization": "Bearer s3cret"}))]);
    for status in [307, 308] {
        sink.answer_next([Reply::Redirect { status, location: "/moved".into() }]);
        let before = sink.received().len();
        collector.send(&request(spans(1))).expect_ok();
        let last = sink.wait(before + 2).remove(before + 1);
        assert_eq!((last.path.as_str(), last.header("authorization")), ("/moved", Some("Bearer s3cret")));
    }
    for (status, location) in [
        (301, "/moved".to_owned()),
        (302, "/moved".into()),
        (307, format!("http://localhost:{}/", other.address.port())),
    ] {
        sink.answer_next([Reply::Redirect { status, location }]);
        collector.send(&request(spans(1))).expect(Code::Internal, &format!("answered HTTP {status}"));
    }
    sink.answer(Reply::Redirect { status: 307, location: "/on/and/on".into() });
    collector.send(&request(spans(1))).expect(Code::Internal, "leads on and on");
    assert!(other.received().is_empty(), "credentials go nowhere else");
    collector.finish();
}

#[test]
fn a_proxy_of_the_config_is_used_over_both_protocols() {
    let sink = Sink::start();
    let proxy = Proxy::start(sink.address);
    let url = json!(format!("http://ann:w0rd@{}", proxy.address));
    delivers(start("otlp", to("tempo.test:4317"), [("proxy_url", url.clone())]), &sink);
    let asked = proxy.asked();
    assert!(asked[0].starts_with("CONNECT tempo.test:4317 HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[0].to_ascii_lowercase().contains("proxy-authorization: basic yw5uoncwcmq="), "{asked:?}");
    let plain = delivers(start("otlphttp", to_http("tempo.test:4318"), [("proxy_url", url)]), &sink);
    assert_eq!(plain.header("proxy-authorization"), Some("Basic YW5uOncwcmQ="));
    let asked = proxy.asked();
    assert!(asked[1].starts_with("POST http://tempo.test:4318/v1/traces HTTP/1.1\r\n"), "{asked:?}");
}

#[test]
fn a_proxy_of_the_environment_is_used_and_spares_whom_it_should() {
    let secure = identity("tempo.test");
    let sink = Sink::start_tls(secure.acceptor.clone());
    let proxy = Proxy::start(sink.address);
    let off = json!({"enabled": false});
    let tls = json!({"ca_pem": secure.ca_pem});
    let setup = |id: &str, endpoint: &str| {
        let settings = json!({"endpoint": endpoint, "tls": tls, "retry_on_failure": off});
        Setup::new()
            .variable("HTTPS_PROXY", format!("http://{}", proxy.address))
            .variable("NO_PROXY", "inside.test")
            .exporter(id, settings)
    };
    let received = delivers(setup("otlphttp", "https://tempo.test:4318").start(), &sink);
    assert_eq!(received.version, http::Version::HTTP_2);
    delivers(setup("otlp", "tempo.test:4317").start(), &sink);
    assert_eq!(proxy.asked().len(), 2);
    let collector = setup("otlp", "inside.test:4317").start();
    collector.send(&request(spans(1))).expect(Code::Unavailable, "cannot be");
    collector.finish();
    assert_eq!(proxy.asked().len(), 2, "what is inside is reached directly");
    // This machine itself needs no proxy, as Go has it.
    let here = Sink::start();
    let direct =
        Setup::new().variable("HTTP_PROXY", format!("http://{}", proxy.address)).exporter("otlphttp", to_http(&here));
    delivers(direct.start(), &here);
}

#[test]
fn a_client_shows_its_certificate() {
    let authority = Authority::new();
    let (own, others) = (authority.sign("client.test"), Authority::new().sign("client.test"));
    let sink = Sink::start_tls(mutual(&authority, "tempo.test"));
    let off = json!({"enabled": false});
    for id in ["otlp", "otlphttp"] {
        let scheme = if id == "otlphttp" { "https://" } else { "" };
        let endpoint = format!("{scheme}127.0.0.1:{}", sink.address.port());
        let settings = |tls: Value| {
            let tls = with(tls, [("ca_pem", json!(authority.pem)), ("server_name_override", json!("tempo.test"))]);
            json!({"endpoint": endpoint, "tls": tls, "retry_on_failure": off})
        };
        let good = json!({"cert_pem": own.cert_pem, "key_pem": own.key_pem});
        delivers(start(id, settings(good), []), &sink);
        for bad in [json!({}), json!({"cert_pem": others.cert_pem, "key_pem": others.key_pem})] {
            let collector = start(id, settings(bad), []);
            collector.send(&request(spans(1))).expect(Code::Unavailable, "cannot be reached");
            collector.finish();
        }
    }
}

#[test]
fn http2_is_spoken_where_the_server_can_and_not_where_the_config_says_no() {
    let secure = identity("tempo.test");
    let sink = Sink::start_tls(secure.acceptor.clone());
    let settings = json!({
        "endpoint": format!("https://127.0.0.1:{}", sink.address.port()),
        "tls": {"ca_pem": secure.ca_pem, "server_name_override": "tempo.test", "min_version": "1.2", "max_version": "1.2"},
    });
    assert_eq!(delivers(start("otlphttp", settings.clone(), []), &sink).version, http::Version::HTTP_2);
    let keys = [("force_attempt_http2", json!(false))];
    assert_eq!(delivers(start("otlphttp", settings, keys), &sink).version, http::Version::HTTP_11);
}

#[test]
fn a_certificate_that_was_replaced_is_trusted_after_its_interval() {
    let (old, new) = (Authority::new(), identity("tempo.test"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &old.pem).unwrap();
    let sink = Sink::start_tls(new.acceptor.clone());
    let tls = json!({"ca_file": file, "server_name_override": "tempo.test", "reload_interval": "10ms"});
    let mut settings = to(&sink);
    settings["tls"] = tls;
    let mut collector = Setup::new().exporter("otlp", settings).start();
    let pending = collector.start_send(&request(spans(1)));
    collector.wait_for_log("invalid peer certificate");
    std::fs::write(folder.path().join("new"), &new.ca_pem).unwrap();
    std::fs::rename(folder.path().join("new"), &file).unwrap();
    pending.answer().expect_ok();
    collector.finish();
}

#[test]
fn a_call_can_wait_for_its_destination_instead_of_failing() {
    let down = crate::support::sink::Down::new();
    let keys =
        [("wait_for_ready", json!(true)), ("timeout", json!("20s")), ("retry_on_failure", json!({"enabled": false}))];
    let collector = start("otlp", to(down.address()), keys);
    let pending = collector.start_send(&request(spans(1)));
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 1);
    let sink = down.up();
    pending.answer().expect_ok();
    sink.wait(1);
    collector.finish();
}

#[test]
fn a_connection_that_went_dead_is_found_out_by_pings() {
    let secure = identity("tempo.test");
    let sink = Sink::start_tls(secure.acceptor.clone());
    let proxy = Proxy::start(sink.address);
    sink.answer(Reply::Hold);
    let settings = json!({
        "endpoint": "https://tempo.test:4318", "proxy_url": format!("http://{}", proxy.address),
        "tls": {"ca_pem": secure.ca_pem}, "timeout": "0s", "retry_on_failure": {"enabled": false},
        "http2_read_idle_timeout": "100ms", "http2_ping_timeout": "100ms",
    });
    let collector = start("otlphttp", settings, []);
    let pending = collector.start_send(&request(spans(1)));
    sink.wait(1);
    proxy.freeze();
    pending.answer().expect(Code::Unavailable, "cannot be reached");
    collector.finish();
}

#[test]
fn no_more_connections_are_made_than_the_config_allows() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = start("otlphttp", to_http(&sink), [("max_conns_per_host", json!(2))]);
    let pending: Vec<_> = (0..5).map(|_| collector.start_send(&request(spans(1)))).collect();
    sink.wait(2);
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 5);
    assert_eq!(sink.received().len(), 2);
    sink.release();
    pending.into_iter().for_each(|one| drop(one.answer().expect_ok().clone()));
    let connections: std::collections::HashSet<usize> = sink.wait(5).iter().map(|it| it.connection).collect();
    assert!(connections.len() <= 2, "{connections:?}");
    collector.finish();
}

#[test]
fn credentials_that_go_without_tls_are_warned_of() {
    let client = json!({"client_auth": {"username": "a", "password": "b"}});
    let warned = |endpoint: &str| {
        let collector = Setup::new()
            .set("extensions.basicauth", client.clone())
            .set("service.extensions", json!(["health_check", "basicauth"]))
            .exporter("otlp", with(to(endpoint), [("auth.authenticator", json!("basicauth"))]))
            .start();
        collector.finish().log.contains("credentials go to the destination without TLS")
    };
    assert!(warned("tempo.test:4317"));
    assert!(!warned("127.0.0.1:4317") && !warned("https://tempo.test:4317"));
}
