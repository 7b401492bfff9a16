use super::super::parse::parse_for_tests as parse;
use super::*;

/// Reads the settings of `receivers.otlp` from a text, and gives what was reported.
fn reported(text: &str, read: impl FnOnce(&mut Section<'_>)) -> Vec<Problem> {
    let node = parse(text);
    let problems = Problems::new();
    let mut section = Section::new(&node, "receivers.otlp", &problems);
    read(&mut section);
    section.finish();
    match problems.finish() {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems().to_vec(),
    }
}

fn one(text: &str, read: impl FnOnce(&mut Section<'_>)) -> String {
    let problems = reported(text, read);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].to_string()
}

#[test]
fn settings_are_read_and_absent_ones_have_their_defaults() {
    let text = "endpoint: 0.0.0.0:4317\nport: 0123\ntimeout: 1m30s\nmemory: 64MiB\n\
                count: 7\nwhole: 3.0\nrate: 2\nshift: -4\non: true\ncompression: gzip\n\
                allowed: [a, 5]\ncommas: a,b\nnothing: ~\n";
    let problems = reported(text, |section| {
        assert_eq!(section.text("endpoint").as_deref(), Some("0.0.0.0:4317"));
        assert_eq!(section.text_or("port", ""), "0123");
        assert_eq!(section.duration("timeout"), Some(Duration::from_secs(90)));
        assert_eq!(section.size_or("memory", 0), 64 << 20);
        assert_eq!(section.u64("count"), Some(7));
        assert_eq!(section.usize_or("whole", 0), 3);
        assert_eq!(section.f64_or("rate", 0.0), 2.0);
        assert_eq!(section.i64("shift"), Some(-4));
        assert!(section.boolean_or("on", false));
        assert_eq!(section.choice("compression", &["gzip", "none"]), Some("gzip"));
        assert_eq!(section.texts_or("allowed", &[]), ["a", "5"]);
        assert_eq!(section.texts_or("commas", &[]), ["a", "b"]);
        assert_eq!(section.text("nothing"), None);
        assert_eq!(section.u64_or("nothing", 9), 9);
        assert_eq!(section.choice_or("absent", &["a", "b"], "b"), "b");
        assert_eq!(section.texts_or("absent", &["x"]), ["x"]);
        assert_eq!(section.duration_or("absent", Duration::ZERO), Duration::ZERO);
    });
    assert_eq!(problems, []);
}

#[test]
fn a_null_body_is_an_empty_mapping() {
    assert_eq!(
        reported("", |section| {
            assert_eq!(section.text_or("endpoint", "localhost:4317"), "localhost:4317");
        }),
        []
    );
    assert_eq!(
        one("[1]", |section| assert_eq!(section.u64("count"), None)),
        "error: receivers.otlp: a list is not a mapping\n  --> test.yaml:1:1\n\
         hint: write `key: value` lines here, or leave it empty for the defaults"
    );
}

#[test]
fn a_wrong_value_is_reported_where_it_stands_and_reading_goes_on() {
    let text = "timeout: 50\nmemory: lots\ncount: '5'\nhuge: -1\nrate: x\non: yes\n\
                text: [a]\nallowed: {a: 1}\nnested: [a, [b]]\ncompression: gzi\nsince: {}\n";
    let problems = reported(text, |section| {
        let default = Duration::from_secs(5);
        assert_eq!(section.duration_or("timeout", default), default);
        assert_eq!(section.size("memory"), None);
        assert_eq!(section.u64_or("count", 3), 3);
        assert_eq!(section.u64("huge"), None);
        assert_eq!(section.f64("rate"), None);
        assert_eq!(section.boolean("on"), None);
        assert_eq!(section.text("text"), None);
        assert_eq!(section.texts("allowed"), None);
        assert_eq!(section.texts_or("nested", &[]), ["a"]);
        assert_eq!(section.choice("compression", &["", "gzip", "none"]), None);
        assert_eq!(section.duration("since"), None);
    });
    let shown: Vec<_> = problems
        .iter()
        .map(|problem| {
            let path = problem.path.strip_prefix("receivers.otlp.").unwrap();
            let at = problem.at.as_ref().unwrap();
            let hint = problem.hint.as_ref().unwrap();
            format!("{} {path}: {} ({hint})", at.line, problem.message)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "1 timeout: `50` is not a duration (write a unit, such as `50ms`)",
            "2 memory: `lots` is not a size (write it as `64MiB`, `1GB` or a number of bytes)",
            "3 count: `5` is not a whole number (leave out the quotes)",
            "4 huge: `-1` is not between 0 and 18446744073709551615 (write a number in this range)",
            "5 rate: `x` is not a number (write a number, such as `0.5`)",
            "6 on: `yes` is neither `true` nor `false` (write `true` or `false`, without quotes)",
            "7 text: a list is not text (write one value, in quotes if it begins with a special character)",
            "8 allowed: a mapping is not a list (write `[one, two]`, or lines that begin with `- `)",
            "9 nested[1]: a list is not text (write one value, in quotes if it begins with a special character)",
            "10 compression: `gzi` is not known here (did you mean `gzip`?)",
            "11 since: a mapping is not a duration (write one value)",
        ]
    );
}

#[test]
fn a_key_that_nobody_asked_for_is_unknown() {
    assert_eq!(
        one("endpoint: x\ntls: {}\nenpoint: y\n", |section| {
            section.text("endpoint");
            section.node("tls");
        }),
        "error: receivers.otlp.enpoint: unknown key `enpoint`\n  --> test.yaml:3:1\n\
         hint: did you mean `endpoint`?"
    );
    assert!(
        one("other: y\n", |section| {
            section.text("tls");
            section.text("endpoint");
            section.u64("endpoint");
            section.ignore("auth");
        })
        .ends_with("hint: known here: `auth`, `endpoint`, `tls`")
    );
    assert!(one("other: y\n", |_| ()).ends_with("hint: nothing can be set here"));
}

#[test]
fn headers_have_two_forms() {
    let expected = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "0x10".to_owned())];
    for text in ["headers: {a: '1', b: 0x10}", "headers: [{name: a, value: 1}, {name: b, value: 0x10}]"] {
        let problems = reported(text, |section| {
            assert_eq!(section.headers("headers"), expected);
        });
        assert_eq!(problems, []);
    }
}

#[test]
fn no_message_about_a_header_shows_its_value() {
    for text in [
        "headers: secret",
        "headers: {a: [secret]}",
        "headers: [{name: a, value: {secret: 1}}]",
        "headers: [{value: secret}]",
        "headers: [{name: a, value: secret}, {name: a, value: secret}]",
    ] {
        let message = one(text, |section| {
            section.headers("headers");
        });
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn sections_nest_and_carry_their_path() {
    let text = "protocols:\n  grpc:\n  http: {endpoint: [1]}\n\
                policies:\n  - {name: a}\n  - {name: b, nmae: c}\n";
    let problems = reported(text, |section| {
        let mut protocols = section.section("protocols").unwrap();
        let grpc = protocols.section("grpc").unwrap();
        assert_eq!(grpc.at(), Some(&Position::new("test.yaml", 2, 3)));
        grpc.finish();
        let mut http = protocols.section("http").unwrap();
        assert_eq!(http.text("endpoint"), None);
        http.finish();
        assert!(protocols.section("unix").is_none());
        protocols.finish();
        let mut names = Vec::new();
        for mut policy in section.sections("policies") {
            names.extend(policy.text("name"));
            policy.finish();
        }
        assert_eq!(names, ["a", "b"]);
    });
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["receivers.otlp.protocols.http.endpoint", "receivers.otlp.policies[1].nmae"]);
}

#[test]
fn a_part_can_be_switched_off() {
    let text = "off: {enabled: false, whatever: 1}\non: {enabled: true, size: 1}\nbare:\n";
    let problems = reported(text, |section| {
        assert!(matches!(section.toggle("off"), Toggle::Off));
        assert!(matches!(section.toggle("bare"), Toggle::On(_)));
        assert!(matches!(section.toggle("absent"), Toggle::Absent));
        let Toggle::On(mut on) = section.toggle("on") else {
            panic!("on is off");
        };
        assert_eq!(on.u64("size"), Some(1));
        on.finish();
    });
    assert_eq!(problems, []);
}

#[test]
fn a_component_reports_its_own_checks_at_the_key() {
    assert_eq!(
        one("digest: abc\n", |section| {
            section.refuse("digest", "digests are not checked", "remove it");
            section.refuse("absent", "no", "no");
        }),
        "error: receivers.otlp.digest: digests are not checked\n  --> test.yaml:1:1\n\
         hint: remove it"
    );
    let problems = reported("digest: ~\nsize: 0\n", |section| {
        section.refuse("digest", "digests are not checked", "remove it");
        section.u64("size");
        section.problem_at("size", "must be above 0", "write `1`");
        section.problem_at("other", "is missing", "");
        section.problem("makes no sense", "");
    });
    let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "error: receivers.otlp.size: must be above 0\n  --> test.yaml:2:7\nhint: write `1`",
            "error: receivers.otlp.other: is missing\n  --> test.yaml:1:1",
            "error: receivers.otlp: makes no sense\n  --> test.yaml:1:1",
        ]
    );
}

#[test]
fn a_harmless_key_without_effect_is_a_warning() {
    let node = parse("address: ':8888'\n");
    let problems = Problems::new();
    let mut section = Section::new(&node, "service.telemetry.metrics", &problems);
    section.ignore_with_warning("address", "`address` has no effect", "use `readers`");
    section.warning_at("address", "old", "");
    section.finish();
    let warnings = problems.finish().unwrap();
    assert_eq!(warnings.len(), 2);
    assert_eq!(
        warnings[0].as_warning().to_string(),
        "warning: service.telemetry.metrics.address: `address` has no effect\n  \
         --> test.yaml:1:10\nhint: use `readers`"
    );
}

#[test]
fn free_mappings_and_raw_values_can_be_had() {
    let problems = reported("config: {mask: [a]}\nlabels: {x: 1, 'y z': b}\n", |section| {
        assert_eq!(section.json("config"), Some(serde_json::json!({"mask": ["a"]})));
        let mut labels = section.section("labels").unwrap();
        let names: Vec<_> = labels.entries().iter().map(|(key, _)| &key.name).collect();
        assert_eq!(names, ["x", "y z"]);
        labels.finish();
        assert!(section.has("config") && !section.has("absent"));
    });
    assert_eq!(problems, []);
}
