use std::ffi::OsString;
use std::path::PathBuf;

use super::super::Secrets;
use super::*;

type Variables = &'static [(&'static str, &'static str)];

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vespid-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read_with(uris: &[&str], sets: &[&str], variables: Variables) -> (Option<Config>, Problems) {
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let problems = Problems::new();
    let world = World { variable: &variable, file: &read_file, fetch: &web };
    let (uris, sets) = (owned(uris), owned(sets));
    let sources =
        Sources { uris: &uris, sets: &sets, append_lists: false, traces_only: false, fetch: &web, seen: &|_, _| {} };
    let config = read_from(sources, world, &problems);
    (config, problems)
}

/// What is on the web of these tests.
fn web(url: &str, _: usize) -> Result<Vec<u8>, String> {
    match url {
        "https://ann:s3cret@web/part.yaml?key=s3cret" => Ok(b"x: {a: 1}\n".to_vec()),
        "http://web/token" => Ok(b"t0ken\n".to_vec()),
        _ => Err("it answered HTTP 404 Not Found".to_owned()),
    }
}

/// What `x` is once sources are merged and everything is filled in, errors aside.
fn x(uris: &[&str], sets: &[&str], variables: Variables) -> Node {
    let (config, _) = read_with(uris, sets, variables);
    let Value::Map(map) = config.unwrap().merged.value else {
        panic!("no mapping");
    };
    map.get("x").unwrap().1.clone()
}

fn json(node: &Node) -> serde_json::Value {
    node.to_json("x", &Problems::new())
}

/// The first error, as shown.
fn first_error(uris: &[&str], variables: Variables) -> String {
    let (_, problems) = read_with(uris, &[], variables);
    problems.finish().unwrap_err().problems()[0].to_string()
}

#[test]
fn later_sources_override_earlier_ones() {
    let merged = x(
        &[
            "yaml:x: {a: 1, l: [1, 2], m: {p: 1, q: 2}, gone: {z: 1}}",
            "yaml:x: {a: 2, l: [3], m: {q: 3, r: 4}, gone: ~}",
            "yaml:x::m::s: 5",
        ],
        &["x.a=9", "x.t.u={v: w}"],
        &[],
    );
    assert_eq!(
        json(&merged),
        serde_json::json!({
            "a": 9, "l": [3], "m": {"p": 1, "q": 3, "r": 4, "s": 5}, "gone": null,
            "t": {"u": {"v": "w"}},
        })
    );
    let Value::Map(map) = &merged.value else {
        panic!("no mapping");
    };
    assert_eq!(map.get("a").unwrap().1.at.to_string(), "--set:1:5");
}

#[test]
fn keys_with_separators_join_what_is_nested() {
    let node = x(&["yaml:{'x::a::b': 1, x: {a: {c: 2}}, 'x::d': 3}"], &[], &[]);
    assert_eq!(json(&node), serde_json::json!({"a": {"b": 1, "c": 2}, "d": 3}));
    let many: String = (0..=1000).map(|i| format!("x::k{i}: 1\n")).collect();
    assert!(first_error(&[&format!("yaml:{many}")], &[]).contains("more than 1000 keys"));
}

#[test]
fn large_mappings_are_merged_too() {
    let one: String = (0..50).map(|i| format!("k{i}: {i}, ")).collect();
    let merged = x(&[&format!("yaml:x: {{{one}}}"), "yaml:x: {k7: a, k70: b, k8: c}"], &[], &[]);
    let json = json(&merged);
    assert_eq!(json["k7"], "a");
    assert_eq!(json["k8"], "c");
    assert_eq!(json["k9"], 9);
    assert_eq!(json.as_object().unwrap().len(), 51);
}

#[test]
fn a_config_may_come_from_a_variable() {
    let node = x(&["env:CONFIG"], &[], &[("CONFIG", "x: [1]")]);
    assert_eq!(node.at.to_string(), "env:CONFIG:1:4");
    let (_, problems) = read_with(&["env:UNSET"], &[], &[]);
    assert_eq!(problems.take_warnings().len(), 0);
}

#[test]
fn a_config_or_a_value_may_come_from_a_url_that_is_shown_without_its_secrets() {
    let node = x(&["https://ann:s3cret@web/part.yaml?key=s3cret", "yaml:x: {b: '${http://web/token}'}"], &[], &[]);
    assert_eq!(json(&node), serde_json::json!({"a": 1, "b": "t0ken"}));
    assert_eq!(node.at.source.as_ref(), "yaml");
    let Value::Map(map) = &node.value else { panic!("a mapping") };
    assert_eq!(map.get("a").unwrap().1.at.to_string(), "https://web/part.yaml:1:8");
}

#[test]
fn with_the_gate_lists_of_references_are_appended() {
    let merged = |append_lists: bool| {
        let uris = [
            "yaml:service: {extensions: [a], pipelines: {traces: {receivers: [r], processors: [p], exporters: [e]}}, other: [1]}",
            "yaml:service: {extensions: [b, a], pipelines: {traces: {receivers: [s], processors: [q], exporters: [e, f]}}, other: [2]}",
        ]
        .map(str::to_owned);
        let world = World { variable: &|_| None, file: &read_file, fetch: &web };
        let sources =
            Sources { uris: &uris, sets: &[], append_lists, traces_only: false, fetch: &web, seen: &|_, _| {} };
        let merged = super::merged(sources, world, &mut Budget::new(), &Problems::new()).unwrap();
        json(&merged)["service"].clone()
    };
    let service = merged(true);
    assert_eq!(service["extensions"], serde_json::json!(["a", "b"]));
    assert_eq!(
        service["pipelines"]["traces"],
        serde_json::json!({"receivers": ["r", "s"], "processors": ["q"], "exporters": ["e", "f"]})
    );
    assert_eq!(service["other"], serde_json::json!([2]));
    assert_eq!(merged(false)["extensions"], serde_json::json!(["b", "a"]));
}

#[test]
fn what_is_no_config_is_refused() {
    let message = |uri: &str| first_error(&[uri], &[("LIST", "[1]")]);
    assert_eq!(
        message("/nowhere.yaml"),
        "error: there is no file `/nowhere.yaml`\n\
         hint: check the path; it is relative to the working directory"
    );
    assert_eq!(
        message("https://ann:s3cret@example.org/c.yaml?key=s3cret"),
        "error: `https://example.org/c.yaml` cannot be fetched: it answered HTTP 404 Not Found\n\
         hint: check that the URL answers with the text itself"
    );
    assert!(message("s3:bucket").contains("the scheme `s3:` is not known"));
    assert!(message("env:LIST").contains("a config is a mapping, and this is a list"));
    assert!(message("yaml:text").contains("this is a single value\n  --> yaml:1:1"));
    assert!(message(&format!("yaml:{}: 1", "a::".repeat(200))).contains("levels deep"));
    assert!(message("yaml:a: b: c").contains("error: not valid YAML"));
    assert!(first_error(&[], &[]).contains("no config is named"));
    let (_, problems) = read_with(&["yaml:x: 1"], &["x"], &[]);
    assert!(problems.has_errors());
}

#[test]
fn all_broken_sources_are_reported_together() {
    let (config, problems) = read_with(&["/nowhere.yaml", "yaml:a: [", "yaml:x: 1"], &["y=["], &[]);
    assert!(config.is_none());
    assert_eq!(problems.finish().unwrap_err().problems().len(), 3);
}

#[test]
fn a_value_that_is_one_substitution_may_be_anything() {
    const VARIABLES: Variables = &[
        ("PORT", "8080"),
        ("PADDED", "0123"),
        ("LIST", "[a, 1]"),
        ("MAP", "{a: {b: true}}"),
        ("TEXT", "'quoted' # and all"),
        ("BROKEN", "[a"),
        ("EMPTY", ""),
        ("NESTED", "${LIST}"),
        ("INNER", "['${PORT}', 'x${PORT}']"),
        ("WHICH", "PORT"),
        ("DOLLAR", "a$$b$c"),
    ];
    let value = |text: &str| x(&[&format!("yaml:x: {text}")], &[], VARIABLES);
    let cases = [
        ("${env:PORT}", serde_json::json!(8080)),
        ("'${PORT}'", serde_json::json!(8080)),
        ("${PADDED}", serde_json::json!(83)),
        ("${LIST}", serde_json::json!(["a", 1])),
        ("${MAP}", serde_json::json!({"a": {"b": true}})),
        ("${TEXT}", serde_json::json!("'quoted' # and all")),
        ("${BROKEN}", serde_json::json!("[a")),
        ("${EMPTY}", serde_json::json!(null)),
        ("${UNSET}", serde_json::json!(null)),
        ("'${env:UNSET:-5s}'", serde_json::json!("5s")),
        ("'${UNSET:-[1, 2]}'", serde_json::json!([1, 2])),
        ("'${env:EMPTY:-5s}'", serde_json::json!(null)),
        ("'${env:UNSET:-${PORT}}'", serde_json::json!(8080)),
        ("'${env:${WHICH}}'", serde_json::json!(8080)),
        ("${NESTED}", serde_json::json!(["a", 1])),
        ("${INNER}", serde_json::json!([8080, "x8080"])),
        ("${DOLLAR}", serde_json::json!("a$b$c")),
        ("'${yaml:[1, 2]}'", serde_json::json!([1, 2])),
    ];
    for (text, expected) in cases {
        assert_eq!(json(&value(text)), expected, "{text}");
    }
    let texts = [
        ("${PADDED}", Some("0123")),
        ("${LIST}", Some("[a, 1]")),
        ("${MAP}", Some("{a: {b: true}}")),
        ("${EMPTY}", Some("")),
        ("${UNSET}", None),
        ("${NESTED}", Some("[a, 1]")),
        ("${INNER}", Some("['8080', 'x8080']")),
    ];
    for (text, expected) in texts {
        assert_eq!(value(text).as_text(), expected, "{text}");
    }
    assert_eq!(value("${LIST}").at.to_string(), "yaml:1:4");
}

#[test]
fn within_a_longer_text_the_original_text_is_put_in() {
    const VARIABLES: Variables = &[("HOST", "0123"), ("ODD", "[a]"), ("PORT", "80")];
    let cases = [
        ("${HOST}:${env:PORT}", "0123:80"),
        ("a ${ODD} b", "a [a] b"),
        ("a${UNSET}b", "ab"),
        ("${UNSET:-x}y", "xy"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$0123"),
        ("$$$${HOST}", "$${HOST}"),
        ("a$$b$c$", "a$b$c$"),
        ("${HOST", "${HOST"),
        ("${a ${PORT}", "${a 80"),
        ("}${PORT}{", "}80{"),
        ("^(.*)$", "^(.*)$"),
        ("${yaml:1}2", "12"),
        ("ä${PORT}ö", "ä80ö"),
    ];
    for (text, expected) in cases {
        let node = x(&[&format!("yaml:x: '{text}'")], &[], VARIABLES);
        assert_eq!(node.as_text(), Some(expected), "{text}");
    }
}

#[test]
fn substitutions_that_cannot_be_are_errors() {
    const VARIABLES: Variables = &[("LOOP", "${LOOP}"), ("TWO", "[${TWO}, ${TWO}]"), ("D", "$")];
    let message = |text: &str| first_error(&[&format!("yaml:x: {{y: ['{text}']}}")], VARIABLES);
    assert_eq!(
        message("${1}"),
        "error: x.y[0]: `1` is not a name of an environment variable\n  --> yaml:1:9\n\
         hint: use letters, digits and `_`; for a `$` that is meant as such write `$$`"
    );
    assert!(message("a${}b").contains("`` is not a name"));
    assert!(message("${vault:x}").contains("the scheme `vault:` is not known"));
    assert!(message("${http://x}").contains("x.y[0]: `http://x` cannot be fetched: it answered HTTP 404"));
    assert!(message("${file:/nowhere}").contains("x.y[0]: there is no file `/nowhere`"));
    assert!(message("a ${yaml:[1]}").contains("is a list or a mapping"));
    assert!(message("${env:A$B}").contains("has a `$` in it"));
    assert!(message("${LOOP}").contains("leads to too many substitutions"));
    assert!(message("a${LOOP}").contains("leads to too many substitutions"));
    assert!(message("${TWO}").contains("leads to too many substitutions"));
    let unclosed = "${".repeat(100_000);
    assert_eq!(x(&[&format!("yaml:x: '{unclosed}'")], &[], &[]).as_text(), Some(unclosed.as_str()));
    let nested = format!("{}{}", "${".repeat(5000), "}".repeat(5000));
    assert!(message(&nested).contains("leads to too many substitutions"));
}

#[test]
fn an_unset_variable_is_worth_a_warning() {
    let (config, _) = read_with(&["yaml:x: '${env:UNSET}'"], &[], &[]);
    assert_eq!(
        config.unwrap().warnings[0].as_warning().to_string(),
        "warning: x: `${env:UNSET}` is not set, and nothing is put in its place\n  \
         --> yaml:1:4\n\
         hint: set the variable, or give a default: `${env:UNSET:-value}`"
    );
}

#[test]
fn what_an_override_hides_is_not_looked_up() {
    let (config, problems) = read_with(&["yaml:x: '${1}'", "yaml:x: 5"], &[], &[]);
    assert!(config.is_some());
    assert!(!problems.finish().unwrap_err().to_string().contains("`1`"));
}

#[test]
fn files_are_put_in_and_know_their_places() {
    let folder = Folder::new("fragments");
    let token = folder.file("token", "s3cret\n");
    let part = folder.file("part.yaml", "a: 1\nb: ['${env:PORT}']\n");
    let broken = folder.file("broken.yaml", "a: 1\nb: c: d\n");
    let main = folder.file(
        "main.yaml",
        &format!("x:\n  t: ${{file:{token}}}\n  h: Bearer ${{file:{token}}}\n  p: ${{file:{part}}}\n  q: ${{file:{broken}}}\n"),
    );
    let (config, _) = read_with(&[&main], &[], &[("PORT", "80")]);
    let config = config.unwrap();
    let Value::Map(map) = &config.merged.value else {
        panic!("no mapping");
    };
    let x = map.get("x").unwrap().1;
    assert_eq!(
        json(x),
        serde_json::json!({
            "t": "s3cret", "h": "Bearer s3cret", "p": {"a": 1, "b": [80]},
            "q": "a: 1\nb: c: d",
        })
    );
    let warning = config.warnings[0].as_warning().to_string();
    assert!(warning.contains("broken.yaml:2:5: not valid YAML"), "{warning}");
    assert!(warning.contains("main.yaml:5:6"), "{warning}");
    let Value::Map(x) = &x.value else {
        panic!("no mapping");
    };
    let p = x.get("p").unwrap().1;
    assert_eq!(p.at.line, 4);
    let Value::Map(p) = &p.value else {
        panic!("no mapping");
    };
    assert_eq!(p.get("a").unwrap().1.at, Position::new(part, 1, 4));
}

#[test]
fn a_file_that_puts_itself_in_ends_in_one_error() {
    let folder = Folder::new("cycle");
    let path = folder.0.join("self.yaml");
    let text = format!("x: {{a: '${{file:{0}}}', b: '${{file:{0}}}'}}\n", path.display());
    let path = folder.file("self.yaml", &text);
    let (_, problems) = read_with(&[&path], &[], &[]);
    let errors = problems.finish().unwrap_err();
    let cyclic = errors.problems().iter().filter(|problem| problem.message.contains("too many substitutions"));
    assert_eq!(cyclic.count(), 1);
}

#[test]
fn the_printed_config_is_the_merged_one() {
    let (config, _) = read_with(&["yaml:x: {a: '${N}'}", "yaml:x: {b: yes}"], &[], &[("N", "1")]);
    let printed = serde_yaml::to_string(&serde_yaml::Value::from(&config.unwrap().merged(Secrets::Hidden)));
    assert_eq!(printed.unwrap(), "x:\n  a: 1\n  b: yes\n");
}

#[test]
fn a_section_that_could_not_be_filled_in_is_one_error_and_not_one_for_each_reference() {
    let text = "yaml:receivers: {a: }\nexporters: ${file:/nowhere}\nservice: {pipelines: {traces: {receivers: [a], exporters: [b, c]}}}";
    let (_, problems) = read_with(&[text], &[], &[]);
    let errors = problems.finish().unwrap_err();
    assert_eq!(errors.problems().len(), 1, "{errors}");
    assert!(errors.to_string().starts_with("error: exporters: there is no file `/nowhere`"));
}
