//! The semantics of the interface, as the in-memory batch has them.

use super::*;
use crate::types::{Owner, Value};
use crate::{NoConfig, Pattern, SpanKind, StatusCode, Texts, patterns};

/// A processor out of a closure.
struct With<F>(F);

impl<F: FnMut(&Batch, &mut Edits) -> Result<(), Rejection>> Processor for With<F> {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Rejection> {
        Err(Rejection::new("a closure has no config"))
    }

    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
        (self.0)(batch, edits)
    }
}

fn run_with(traces: Traces, mut act: impl FnMut(&Batch, &mut Edits)) -> Outcome {
    let plugin = |batch: &Batch, edits: &mut Edits| {
        act(batch, edits);
        Ok(())
    };
    run(&mut With(plugin), traces).expect("the closure rejects nothing")
}

fn two_spans() -> Traces {
    let a = Span::new("a").kind(SpanKind::Server).times(10, 15);
    let b = Span::new("b").times(10, 5).status(StatusCode::Error, "x");
    Traces::new()
        .metadata("X-Team", &["web"])
        .resource(Resource::new().attribute("service.name", "shop"))
        .scope(Scope::new().attribute("library", "http"))
        .span(
            a.attribute("user", "ann@example.org")
                .attribute("count", 3)
                .attribute("user", "plain")
                .event(Event::new("login").attribute("by", "ann@example.org")),
        )
        .resource(Resource::new())
        .span(b.attribute("ratio", 0.5).attribute("ok", true))
}

#[test]
fn reads_return_what_the_batch_holds() {
    run_with(two_spans(), |batch, _| {
        assert_eq!(batch.span_count(), 2);
        assert_eq!(batch.names().iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(batch.kinds(), [SpanKind::Server, SpanKind::Unspecified]);
        assert_eq!(batch.durations(), [5, 0]);
        assert_eq!(batch.status_codes(), [StatusCode::Unset, StatusCode::Error]);
        assert_eq!(batch.resource_rows(), [0, 1]);
        assert_eq!(batch.scope_rows(), [0, 1]);
        assert_eq!(batch.metadata("x-team"), ["web"]);
        assert_eq!(batch.event_span_rows(), [0]);
        assert_eq!(batch.row_count(Owner::Resource), 2);
        assert_eq!(batch.row_count(Owner::Link), 0);
        assert_eq!(batch.trace_ids().len(), 2);
        assert!(batch.parent_span_ids().iter().all(|id| id.is_zero()));
        let users = batch.text_attribute(Owner::Span, "user");
        let expected = [(0, "ann@example.org"), (0, "plain")];
        assert_eq!(users.iter().collect::<Vec<_>>(), expected);
        assert_eq!(batch.int_attribute(Owner::Span, "count").get(0), Some(3));
        let ratio = batch.double_attribute(Owner::Span, "ratio");
        assert_eq!(ratio.iter().collect::<Vec<_>>(), [(1, 0.5)]);
        let ok = batch.boolean_attribute(Owner::Span, "ok");
        assert_eq!(ok.values(), [true]);
        assert_eq!(batch.attributes(Owner::Span, 0).len(), 3);
        assert_eq!(batch.find_text(Owner::Event, "@")[0].key(), "by");
        let kinds = batch.attribute_kinds(Owner::Span, "count");
        assert_eq!(kinds, [Some(crate::ValueKind::Int), None]);
    });
}

#[test]
fn reads_do_not_see_the_edits_of_the_same_call() {
    run_with(two_spans(), |batch, edits| {
        edits.set(Owner::Span, &[1], "new", 1);
        assert_eq!(batch.attribute(Owner::Span, 1, "new"), None);
    });
}

#[test]
fn a_set_leaves_one_attribute_in_the_place_of_the_first() {
    let outcome = run_with(two_spans(), |_, edits| {
        edits.set(Owner::Span, &[1, 0], "user", "bob");
    });
    let text = |text: &str| Value::Text(text.to_owned());
    let first = [("user".into(), text("bob")), ("count".into(), 3.into())];
    assert_eq!(outcome.span("a").attributes.0, first);
    assert_eq!(outcome.span("b").attributes.0[2], ("user".into(), text("bob")));
}

#[test]
fn edits_apply_in_call_order_and_drops_last() {
    let outcome = run_with(two_spans(), |_, edits| {
        edits.drop_spans(&[1], "first");
        edits.drop_spans(&[1], "second");
        edits.remove(Owner::Span, &[0], "user");
        edits.set_texts(Owner::Span, &[1, 0], "user", &["two", "one"]);
        edits.set_names(&[1], ["renamed"]);
        edits.set_status(&[0], StatusCode::Ok, "");
        edits.set_tenant(&[0], "team-a");
        edits.set(Owner::Scope, &[1], "late", Value::Json("{}".into()));
    });
    assert_eq!(outcome.span_names(), ["a"]);
    assert_eq!(outcome.drop_reason("renamed"), Some("first"));
    assert_eq!(outcome.dropped[0].span.text("user"), Some("two"));
    let a = outcome.span("a");
    assert_eq!(a.attributes.all("user").count(), 1);
    assert_eq!((a.text("user"), a.status.code), (Some("one"), StatusCode::Ok));
    assert_eq!(a.tenant.as_deref(), Some("team-a"));
    assert!(outcome.traces.scopes[1].get("late").is_some());
}

#[test]
fn a_column_is_rewritten_by_its_dictionary() {
    let traces = Traces::new()
        .span(Span::new("a").attribute("k", "x"))
        .span(Span::new("b").attribute("k", "y"))
        .span(Span::new("c").attribute("k", "x").attribute("k", "w").attribute("k", "x"));
    let outcome = run_with(traces, |batch, edits| {
        assert_eq!(batch.duplicate_rows(Owner::Span), [2]);
        let column = batch.text_attribute(Owner::Span, "k");
        let to_z = |text: &str| (text == "x").then(|| "z".to_owned());
        assert_eq!(edits.rewrite(Owner::Span, &column, to_z), 3);
    });
    let texts = |span: &Span| span.attributes.all("k").filter_map(Value::as_text).collect::<Vec<_>>().join(" ");
    let texts: Vec<_> = outcome.traces.spans.iter().map(texts).collect();
    assert_eq!(texts, ["z", "y", "z w z"]);
}

#[test]
fn patterns_find_and_replace() {
    let mail = Pattern::new(r"[a-z]+@[a-z.]+").unwrap();
    assert!(Pattern::new("(").unwrap_err().text().starts_with("pattern `(`: "));
    let outcome = run_with(two_spans(), |batch, edits| {
        assert_eq!(batch.find_matches(Owner::Span, &[mail])[0].rows(), [0]);
        let texts: Texts = ["to b@c", "d"].into_iter().collect();
        let texts = patterns::replace_in_texts(&[mail], texts, "$0");
        assert_eq!(texts.iter().collect::<Vec<_>>(), ["to $0", "d"]);
        let changed = edits.replace_matches(Owner::Span, &[mail], "****");
        assert_eq!((changed[0].key.as_str(), &changed[0].rows[..]), ("user", &[0][..]));
    });
    let users: Vec<_> = outcome.span("a").attributes.all("user").collect();
    assert_eq!(users, [&Value::from("****"), &Value::from("plain")]);
}

#[test]
fn logs_and_metrics_are_part_of_the_outcome() {
    let outcome = run_with(Traces::new(), |_, _| {
        crate::warn!("{} left", 3);
        crate::host::count("seen", &[("kind", "x")], 2.0);
        crate::host::count("seen", &[], 1.0);
    });
    assert_eq!(outcome.logs, [(LogLevel::Warn, "3 left".to_owned())]);
    assert_eq!(outcome.metric("seen"), 3.0);
}

#[test]
#[should_panic(expected = "trap: row 2 of 2 Span rows")]
fn a_row_out_of_range_traps() {
    run_with(two_spans(), |_, edits| edits.set(Owner::Span, &[2], "k", 1));
}

#[test]
#[should_panic(expected = "trap: 2 rows, 1 values")]
fn too_few_values_trap() {
    run_with(two_spans(), |_, edits| {
        edits.set_texts(Owner::Span, &[0, 1], "k", &["one"]);
    });
}

#[test]
fn a_rejection_carries_the_text_and_its_causes() {
    let reject = |_: &Batch, _: &mut Edits| {
        "x".parse::<u8>()?;
        Ok(())
    };
    let rejection = run(&mut With(reject), Traces::new()).unwrap_err();
    assert_eq!(rejection.text(), "invalid digit found in string");
    // The next run finds no call left over.
    run_with(Traces::new(), |batch, _| assert_eq!(batch.span_count(), 0));
}
