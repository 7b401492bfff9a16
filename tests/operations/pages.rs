//! Health checks and the pages for people.

use std::net::TcpListener;

use regex::Regex;
use serde_json::{Value, json};

use crate::support::config::with;
use crate::support::proto::{bytes, frame, framed};
use crate::support::send::Call;
use crate::support::sink::Down;
use crate::support::spans::spans;
use crate::support::tls::Authority;
use crate::support::{Collector, Setup, Sink, plugin, request, to, wait_for};

#[test]
fn the_health_check_answers_as_the_collectors_does() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let answer = collector.health();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!(body["status"], "Server available");
    let exact = r#"^\{"status":"Server available","upSince":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z","uptime":"[\d.]+(?:µs|ms|s)"\}$"#;
    assert!(Regex::new(exact).unwrap().is_match(answer.text()), "{}", answer.text());
    assert_eq!(Call::get(collector.health_address(), "/other").status, 404);
    collector.finish();
}

#[test]
fn the_health_checks_path_and_words_can_be_others() {
    let collector = Setup::new()
        .exporter("debug", json!({}))
        .set("extensions.health_check.path", json!("/live"))
        .set("extensions.health_check.response_body", json!({"healthy": "all is well"}))
        .start();
    let answer = Call::get(collector.health_address(), "/live");
    assert_eq!((answer.status, answer.text()), (200, "all is well"));
    assert_eq!(collector.health().status, 404);
    collector.finish();
}

#[test]
fn a_port_in_use_is_told_with_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (setting, what) in [
        ("receivers.otlp.protocols.grpc.endpoint", "receivers.otlp.protocols.grpc.endpoint"),
        ("receivers.otlp.protocols.http.endpoint", "receivers.otlp.protocols.http.endpoint"),
        ("extensions.health_check.endpoint", "extensions.health_check.endpoint"),
    ] {
        let log = Setup::new().exporter("debug", json!({})).set(setting, json!(address.to_string())).refused();
        let expected = format!("error: {what}: `{address}` cannot be listened on: Address already in use");
        assert!(log.contains(&expected), "{log}");
        assert!(log.contains("collector.yaml:"), "{log}");
    }
}

/// The status that the second form of the health check tells.
fn status(collector: &Collector, query: &str) -> (u16, Value) {
    let answer = Call::get(collector.health_address(), &format!("/status{query}"));
    let body = if answer.status == 404 { Value::Null } else { serde_json::from_str(answer.text()).unwrap() };
    (answer.status, body)
}

/// The second form, before a destination that is down and of which each failure is final.
fn before(down: &Down, component_health: Value) -> Setup {
    let exporter = with(to(down.address()), [("retry_on_failure", json!({"enabled": false}))]);
    let http = json!({"endpoint": "127.0.0.1:0", "config": {"enabled": true}});
    Setup::new()
        .exporter("otlp/there", exporter)
        .set("extensions.health_check", json!({"use_v2": true, "http": http, "component_health": component_health}))
}

#[test]
fn the_second_form_of_the_health_check_tells_of_each_component() {
    let down = Down::new();
    let collector = before(&down, json!({})).processor("wasm/edit", plugin("script", json!({"steps": []})));
    let collector = collector.without_account().start();
    let (code, body) = status(&collector, "");
    assert_eq!((code, &body["healthy"], &body["status"]), (200, &json!(true), &json!("StatusOK")));
    assert!(body["start_time"].is_string() && body["status_time"].is_string(), "{body}");
    assert_eq!((&body["error"], &body["components"]), (&Value::Null, &Value::Null), "only those who ask see them");
    let (_, body) = status(&collector, "?verbose");
    let names = |of: &Value| of["components"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&body), ["extensions", "pipeline:traces"]);
    let pipeline = &body["components"]["pipeline:traces"];
    assert_eq!(names(pipeline), ["exporter:otlp/there", "processor:wasm/edit", "receiver:otlp"]);
    assert_eq!(names(&body["components"]["extensions"]), ["extension:health_check"]);

    collector.send(&request(spans(1)));
    let (code, body) = status(&collector, "?pipeline=traces&verbose=true");
    assert_eq!((code, &body["healthy"], &body["status"]), (200, &json!(true), &json!("StatusRecoverableError")));
    let exporter = &body["components"]["exporter:otlp/there"];
    assert!(exporter["error"].as_str().unwrap().contains("cannot be reached"), "{body}");
    assert_eq!(body["components"]["receiver:otlp"]["status"], "StatusOK");
    assert_eq!(status(&collector, "?pipeline=traces/other").0, 404);

    let sink = down.up();
    wait_for("the destination's first answer", || {
        collector.send(&request(spans(1)));
        (!sink.received().is_empty()).then_some(())
    });
    let (_, body) = status(&collector, "");
    assert_eq!((&body["status"], &body["error"]), (&json!("StatusOK"), &Value::Null));
    assert_eq!(collector.health().status, 404, "the first form's path is not served");
    let config: Value = serde_json::from_str(Call::get(collector.health_address(), "/config").text()).unwrap();
    assert_eq!(config["service"]["pipelines"]["traces"]["exporters"], json!(["otlp/there"]));
    collector.finish();
}

#[test]
fn a_destination_that_fails_for_too_long_makes_the_collector_unhealthy_if_asked_to() {
    let down = Down::new();
    let health = json!({"include_recoverable_errors": true, "recovery_duration": "0s"});
    let collector = before(&down, health).start();
    assert_eq!(status(&collector, "").0, 200);
    collector.send(&request(spans(1)));
    let (code, body) = status(&collector, "");
    assert_eq!((code, &body["healthy"], &body["status"]), (500, &json!(false), &json!("StatusRecoverableError")));
    collector.finish();
}

#[test]
fn a_collector_that_drains_says_that_it_stops() {
    let sink = Sink::start();
    sink.answer(crate::support::Reply::Hold);
    let http = json!({"endpoint": "127.0.0.1:0"});
    let mut collector = Setup::line(&sink)
        .set("extensions", json!({"healthcheckv2/probe": {"http": http}}))
        .set("service.extensions", json!(["healthcheckv2/probe"]))
        .start();
    let pending = collector.start_send(&request(spans(1)));
    sink.wait(1);
    collector.process.signal(libc::SIGTERM);
    collector.wait_for_log("shutting down");
    let (code, body) = status(&collector, "");
    assert_eq!((code, &body["healthy"], &body["status"]), (503, &json!(false), &json!("StatusStopping")));
    sink.release();
    pending.answer().expect_ok();
    assert_eq!(collector.process.wait().code, Some(0));
}

#[test]
fn pages_speak_tls_where_they_are_told_to() {
    let authority = Authority::new();
    let signed = authority.sign("probe.test");
    let tls = json!({"cert_pem": signed.cert_pem, "key_pem": signed.key_pem});
    let setup = || Setup::new().exporter("debug", json!({}));
    let collector = setup().set("extensions.health_check.tls", tls).start();
    let probe = Call::http(collector.health_address()).path("/").method(http::Method::GET);
    let answer = probe.tls(authority.client(None, &["http/1.1"]), "probe.test").post("");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("Server available"));
    collector.finish();
    let tls = json!({"cert_file": "/nowhere/cert.pem", "key_file": "/nowhere/key.pem"});
    let log = setup().set("extensions.health_check.tls", tls).refused();
    assert!(log.contains("error: extensions.health_check.tls: `/nowhere/key.pem` cannot be read"), "{log}");
}

#[test]
fn probes_over_grpc_are_answered() {
    let down = Down::new();
    let health = json!({"include_recoverable_errors": true, "recovery_duration": "0s"});
    let grpc = json!({"use_v2": true, "grpc": {"endpoint": "127.0.0.1:0"}, "component_health": health});
    let collector = before(&down, json!({})).set("extensions.health_check", grpc).start();
    let check = |service: &str| {
        let message = bytes(1, service);
        let answer =
            Call::grpc(collector.health_address()).path("/grpc.health.v1.Health/Check").post_http2(framed(&message));
        let status = answer.header("grpc-status").map(str::to_owned);
        (answer.text().as_bytes().last().copied(), status)
    };
    assert_eq!(check(""), (Some(1), None));
    assert_eq!(check("traces"), (Some(1), None));
    assert_eq!(check("logs"), (None, Some("5".into())));
    collector.send(&request(spans(1)));
    assert_eq!(check("traces"), (Some(2), None), "not serving");
    for (path, content, code) in [
        ("/grpc.health.v1.Health/Watch", framed(&[]), "12"),
        ("/grpc.health.v1.Health/Check", vec![], "3"),
        ("/grpc.health.v1.Health/Check", framed(&[0xff; 9]), "3"),
        ("/grpc.health.v1.Health/Check", framed(&[0; 10_000]), "3"),
        ("/grpc.health.v1.Health/Check", frame(1, &[0]), "12"),
    ] {
        let answer = Call::grpc(collector.health_address()).path(path).post_http2(content);
        assert_eq!(answer.header("grpc-status"), Some(code), "{path}");
    }
    collector.finish();
}

/// With the pages for people; answers with where they are.
fn with_pages(setup: Setup, settings: Value) -> (Collector, std::net::SocketAddr) {
    let collector =
        setup.set("extensions.zpages", settings).set("service.extensions", json!(["health_check", "zpages"])).start();
    let log = collector.log();
    let line = log.lines().find(|line| line.contains("serving pages at /debug/servicez")).expect(&log);
    let address = Regex::new(r"127\.0\.0\.1:\d+").unwrap().find(line).unwrap().as_str().parse().unwrap();
    (collector, address)
}

#[test]
fn zpages_tell_what_the_collector_is_made_of_and_has_counted() {
    let sink = Sink::start();
    let setup = Setup::line(&sink).processor("wasm/edit", plugin("script", json!({"steps": []})));
    let (collector, address) = with_pages(setup, json!({"endpoint": "127.0.0.1:0", "expvar": {"enabled": true}}));
    collector.send(&request(spans(3))).expect_ok();
    let page = |path: &str| {
        let answer = Call::get(address, path);
        assert_eq!(answer.status, 200, "{path}");
        answer.text().to_owned()
    };
    let service = page("/debug/servicez");
    assert!(service.contains(env!("CARGO_PKG_VERSION")) && service.contains("Uptime"), "{service}");
    let pipelines = page("/debug/pipelinez");
    for part in
        ["<h2>traces</h2>", "<td>wasm/edit</td>", "otelcol_exporter_sent_spans: 3<br>", "(transport=grpc): 3<br>"]
    {
        assert!(pipelines.contains(part), "{part} in {pipelines}");
    }
    assert!(page("/debug/extensionz").contains("<li>zpages</li>"));
    assert!(page("/debug/featurez").contains("no feature gates"));
    let variables: Value = serde_json::from_str(&page("/debug/expvarz")).unwrap();
    assert_eq!(variables["metrics"]["otelcol_exporter_sent_spans{exporter=\"otlp\"}"], 3, "{variables}");
    let traces = Call::get(address, "/debug/tracez");
    assert_eq!(traces.status, 404);
    assert!(traces.text().contains("keeps no traces of itself"));
    assert_eq!(Call::get(address, "/").status, 404);
    collector.finish();
}

#[test]
fn zpages_show_what_strangers_say_as_text_and_no_variables_unasked() {
    let sink = Sink::start();
    sink.answer(crate::support::Reply::grpc(tonic::Code::InvalidArgument, "<script>alert('&')</script>"));
    let (collector, address) = with_pages(Setup::line(&sink), json!({"endpoint": "127.0.0.1:0"}));
    collector.send(&request(spans(1)));
    let answer = Call::get(address, "/debug/pipelinez");
    assert!(answer.text().contains("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;"), "{}", answer.text());
    assert!(!answer.text().contains("<script"), "{}", answer.text());
    assert_eq!(Call::get(address, "/debug/expvarz").status, 404);
    collector.finish();
}

#[test]
fn keys_that_pages_have_no_use_for_are_taken() {
    let unused = json!({"tls": null, "auth": null, "middlewares": [], "dialer": {"timeout": "1s"}, "cors": null});
    let with_port = |mut settings: Value| {
        settings["endpoint"] = json!("127.0.0.1:0");
        settings
    };
    let collector = Setup::new()
        .exporter("debug", json!({}))
        .set("extensions.health_check", with_port(unused.clone()))
        .set("extensions.zpages", with_port(unused))
        .set("extensions.pprof", with_port(json!({"dialer": {"timeout": "1s"}})))
        .set("service.extensions", json!(["health_check", "pprof", "zpages"]))
        .start();
    collector.finish();
}

#[test]
fn pprof_is_known_and_said_to_have_no_effect() {
    let collector = Setup::new()
        .exporter("debug", json!({}))
        .set("extensions.pprof", json!({"endpoint": "127.0.0.1:0", "block_profile_fraction": 3}))
        .set("service.extensions", json!(["health_check", "pprof"]))
        .start();
    let log = collector.log();
    let line = log.lines().find(|line| line.contains("extensions.pprof")).expect(&log);
    assert!(line.contains("\twarn\t") && line.contains("no Go runtime to profile"), "{line}");
    collector.finish();
}
