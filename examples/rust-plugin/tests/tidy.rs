use tidy::Tidy;
use vespid_plugin::testing::{self, Event, Link, Outcome, Resource, Scope, Span, Traces};
use vespid_plugin::{Rejection, SpanId, TraceId};

fn run(config: &str, traces: Traces) -> Outcome {
    let mut tidy: Tidy = testing::configure(config).expect("the config is valid");
    testing::run(&mut tidy, traces).expect("tidy rejects no batch")
}

fn masked(text: &str) -> String {
    let outcome = run("{}", Traces::new().span(Span::new("s").attribute("k", text)));
    outcome.span("s").text("k").expect("the attribute stays").to_owned()
}

#[test]
fn health_checks_go_and_the_rest_stays() {
    let traces = Traces::new()
        .span(Span::new("GET /healthz"))
        .span(Span::new("grpc.health.v1.Health/Check"))
        .span(Span::new("probe").attribute("url.path", "/readyz"))
        .span(Span::new("GET").attribute("http.target", "/livez?verbose"))
        .span(Span::new("GET /orders").attribute("url.path", "/orders/healthz"));
    let outcome = run("{}", traces);
    assert_eq!(outcome.span_names(), ["GET /orders"]);
    assert_eq!(outcome.drop_reason("probe"), Some("health check"));
}

#[test]
fn the_list_of_health_checks_is_the_configs() {
    let traces = Traces::new().span(Span::new("GET /ping")).span(Span::new("GET /healthz"));
    let outcome = run(r#"{"health_checks": ["/ping"]}"#, traces);
    assert_eq!(outcome.span_names(), ["GET /healthz"]);
}

#[test]
fn every_span_that_stays_gets_the_attribute() {
    let config = r#"{"set": {"key": "deployment.environment", "value": "prod"}}"#;
    let traces = Traces::new().span(Span::new("a")).span(Span::new("b").attribute("deployment.environment", "test"));
    let outcome = run(config, traces);
    for span in &outcome.traces.spans {
        assert_eq!(span.text("deployment.environment"), Some("prod"));
    }
}

#[test]
fn addresses_are_masked_wherever_text_is() {
    let link = Link::new(TraceId::default(), SpanId::default());
    let traces = Traces::new()
        .resource(Resource::new().attribute("owner", "ops@example.org"))
        .scope(Scope::new().attribute("author", "x@example.org"))
        .span(
            Span::new("s")
                .attribute("user", "ann@example.org")
                .event(Event::new("e").attribute("to", "bob@example.org"))
                .link(link.attribute("by", "eve@example.org")),
        );
    let outcome = run("{}", traces);
    let span = outcome.span("s");
    assert_eq!(span.text("user"), Some("****"));
    assert_eq!(span.events[0].text("to"), Some("****"));
    assert_eq!(span.links[0].text("by"), Some("****"));
    assert_eq!(outcome.traces.resources[0].text("owner"), Some("****"));
    assert_eq!(outcome.traces.scopes[0].text("author"), Some("****"));
}

#[test]
fn only_the_address_is_masked() {
    assert_eq!(masked("mail ann@example.org now"), "mail **** now");
    assert_eq!(masked("from a.b+c@x.example, to d@y.example."), "from ****, to ****.");
    assert_eq!(masked("für jürgen@müller.example"), "für ****");
    for text in ["@", "a@", "@b.c", "user@localhost", "2 @ 3.50", "no address"] {
        assert_eq!(masked(text), text);
    }
    assert_eq!(masked("a@b.c@d.e"), "****@d.e");
}

#[test]
fn a_misspelt_setting_is_rejected_by_name() {
    let rejection = |config| testing::configure::<Tidy>(config).err().map(|r: Rejection| r.to_string());
    let wrong = rejection(r#"{"set": {"kee": "a"}}"#).expect("`kee` is no setting");
    assert!(wrong.starts_with("set.kee: unknown key `kee`"), "{wrong}");
    let empty = rejection(r#"{"set": {"key": "", "value": "a"}}"#);
    assert_eq!(empty.as_deref(), Some("set.key: is empty"));
}
