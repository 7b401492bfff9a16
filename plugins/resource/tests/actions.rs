//! The actions are those of `attributes`, whose tests have every one; here on resources.

use resource::Resource;
use vespid_plugin::Value;
use vespid_plugin::testing::{self, Span, Traces};

#[test]
fn actions_work_on_each_resource_and_leave_spans_alone() {
    let config = r#"{"attributes": [
        {"key": "env", "action": "upsert", "value": "prod"},
        {"key": "host", "action": "delete"},
        {"key": "name", "action": "extract", "pattern": "^(?P<team>[^-]+)-"},
        {"key": "port", "action": "convert", "converted_type": "string"}
    ]}"#;
    let resource = testing::Resource::new;
    let traces = Traces::new()
        .resource(resource().attribute("name", "shop-cart").attribute("host", "a").attribute("port", 80))
        .span(Span::new("s").attribute("host", "stays"))
        .resource(resource().attribute("env", 5).attribute("name", "x"))
        .span(Span::new("t"));
    let mut plugin: Resource = testing::configure(config).unwrap();
    let after = testing::run(&mut plugin, traces).unwrap().traces;
    let [first, second] = after.resources.as_slice() else { panic!("two resources") };
    assert_eq!(first.text("env"), Some("prod"));
    assert_eq!(first.text("team"), Some("shop"));
    assert_eq!(first.text("port"), Some("80"));
    assert_eq!(first.get("host"), None);
    assert_eq!(second.attributes.0, [("env".to_owned(), Value::from("prod")), ("name".to_owned(), Value::from("x"))]);
    assert_eq!(after.spans[0].text("host"), Some("stays"));
}

#[test]
fn a_wrong_config_is_refused_at_the_setting() {
    for (config, expected) in [
        ("{}", "it needs `attributes`"),
        (r#"{"attributes": []}"#, "it needs `attributes`"),
        (r#"{"actions": []}"#, "actions: unknown key `actions`"),
        (r#"{"attributes": [{"key": "a", "action": "x"}]}"#, "attributes[0].action: `x` is not known"),
    ] {
        let Err(rejection) = testing::configure::<Resource>(config) else { panic!("{config} was not refused") };
        assert!(rejection.text().starts_with(expected), "{config}: {rejection}");
    }
}
