//! Spans from web pages: CORS.

use http::Method;
use prost::Message as _;
use serde_json::json;

use crate::support::send::{Call, HttpAnswer};
use crate::support::spans::spans;
use crate::support::{Collector, Setup, request};

fn start(cors: serde_json::Value) -> Collector {
    Setup::new().exporter("debug", json!({})).set("receivers.otlp.protocols.http.cors", cors).start()
}

fn preflight(collector: &Collector, origin: &str, headers: &str) -> HttpAnswer {
    Call::http(collector.http())
        .method(Method::OPTIONS)
        .header("content-type", "")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", headers)
        .post("")
}

#[test]
fn a_page_of_an_allowed_origin_may_send() {
    let collector = start(json!({
        "allowed_origins": ["https://*.example.com", "http://localhost:3000"],
        "allowed_headers": ["X-Tenant"],
        "exposed_headers": ["X-Answer"],
        "max_age": 7200,
    }));
    let asked = preflight(&collector, "https://shop.example.com", "content-type,x-tenant");
    assert_eq!(asked.status, 204);
    assert_eq!(asked.header("access-control-allow-origin"), Some("https://shop.example.com"));
    assert_eq!(asked.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(asked.header("access-control-allow-headers"), Some("content-type,x-tenant"));
    assert_eq!(asked.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(asked.header("access-control-max-age"), Some("7200"));
    collector.offer(1);
    let sent = Call::http(collector.http()).header("origin", "http://localhost:3000");
    let sent = sent.post(request(spans(1)).encode_to_vec());
    sent.expect_ok();
    assert_eq!(sent.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(sent.header("access-control-expose-headers"), Some("X-Answer"));
    assert_eq!(sent.header("vary"), Some("Origin"));
    // A refusal can be read by the page too.
    let refused = Call::http(collector.http()).header("origin", "http://localhost:3000").post("x");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("access-control-allow-origin"), Some("http://localhost:3000"));
    collector.finish();
}

#[test]
fn a_page_of_another_origin_or_with_other_headers_may_not() {
    let collector = start(json!({"allowed_origins": ["https://*.example.com"]}));
    for (origin, headers) in
        [("https://example.com.evil", ""), ("null", ""), ("https://a.example.com", "authorization")]
    {
        let asked = preflight(&collector, origin, headers);
        assert_eq!(asked.status, 204);
        assert_eq!(asked.header("access-control-allow-origin"), None, "{origin} {headers}");
        assert_eq!(asked.header("access-control-allow-methods"), None, "{origin} {headers}");
    }
    let asked = Call::http(collector.http()).method(Method::OPTIONS).header("origin", "https://a.example.com");
    assert_eq!(asked.post("").status, 405, "this is no preflight");
    collector.finish();
}

#[test]
fn without_cors_nothing_is_said_of_it() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    assert_eq!(preflight(&collector, "https://a.example.com", "").status, 405);
    collector.offer(1);
    let call = Call::http(collector.http()).header("origin", "https://a.example.com");
    assert_eq!(call.post(request(spans(1)).encode_to_vec()).header("access-control-allow-origin"), None);
    collector.finish();
}
