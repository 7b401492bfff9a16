//! Exporters whose destination is this machine: `debug`, `file`, `nop`.

use std::path::Path;

use prost::Message as _;
use serde_json::{Value, json};
use vespid::traces::decode_request;

use crate::support::spans::{Request, int, spans};
use crate::support::{Setup, request, root};

/// Two spans, the second with this name: the same for the same name.
fn named(name: &str) -> Request {
    let mut request = request(spans(2));
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    for (span, number) in spans.iter_mut().zip(1..) {
        (span.trace_id, span.span_id) = (vec![number; 16], vec![number; 8]);
        span.attributes = vec![int("number", number.into())];
    }
    spans[1].name = name.into();
    request
}

#[test]
fn the_debug_exporter_counts_in_the_log() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    collector.send(&named("a name to miss")).expect_ok();
    let ended = collector.finish();
    let line = ended.log.lines().find(|line| line.contains("Traces")).unwrap();
    for part in ["\"otelcol.component.id\": \"debug\"", "\"resource spans\": 1", "\"spans\": 2"] {
        assert!(line.contains(part), "`{part}` is not in {line}");
    }
    assert!(!ended.log.contains("a name to miss"));
    assert_eq!(ended.out, "");
}

#[test]
fn the_debug_exporter_shows_all_that_a_span_holds() {
    let collector = Setup::new().exporter("debug", json!({"verbosity": "detailed"})).start();
    collector.send(&named("a name to find")).expect_ok();
    let ended = collector.finish();
    for part in [
        "ResourceSpans #0\nResource SchemaURL: ",
        "     -> service.name: Str(shop)\n",
        "ScopeSpans #0\n",
        "Span #1\n    Trace ID       : ",
        "    Name           : a name to find\n",
        "    Status code    : ",
        "Attributes:\n     -> number: Int(2)\n",
    ] {
        assert!(ended.log.contains(part), "`{part}` is not in\n{}", ended.log);
    }
}

#[test]
fn the_debug_exporter_prints_a_line_a_span_on_standard_output() {
    let settings =
        json!({"verbosity": "normal", "use_internal_logger": false, "sampling_initial": 1, "sampling_thereafter": 0});
    let collector = Setup::new().exporter("debug", settings).start();
    collector.send(&named("a name to find")).expect_ok();
    let ended = collector.finish();
    assert!(!ended.log.contains("a name to find"));
    let lines: Vec<&str> = ended.out.lines().collect();
    let head = "Traces\t{\"otelcol.component.id\": \"debug\", \"resource spans\": 1, \"spans\": 2}";
    assert_eq!(lines[0], head, "{}", ended.out);
    assert!(lines[1].starts_with("ResourceTraces #0 service.name=shop"), "{}", ended.out);
    assert!(lines[4].starts_with("a name to find ") && lines.len() == 5, "{}", ended.out);
}

#[test]
fn the_nop_exporter_takes_everything() {
    let collector = Setup::new().exporter("nop", json!({})).start();
    collector.send(&named("gone")).expect_ok();
    collector.wait_for_metric("otelcol_exporter_sent_spans", &[("exporter", "nop")], 2);
    collector.finish();
}

/// The requests of a file of lines.
fn lines(path: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
    let decode = |line: &str| Request::decode(decode_request(line.as_bytes(), usize::MAX).unwrap().bytes()).unwrap();
    text.lines().map(decode).collect()
}

/// The records of a file in which each stands behind its length.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let content = std::fs::read(path).unwrap();
    let mut rest = content.as_slice();
    let mut records = vec![];
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (record, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        records.push(record.to_vec());
        rest = behind;
    }
    assert!(rest.is_empty());
    records
}

/// A folder, a path in it, and an exporter's settings with that path.
fn file(settings: Value) -> (tempfile::TempDir, std::path::PathBuf, Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.out");
    let settings = crate::support::config::with(settings, [("path", json!(path))]);
    (folder, path, settings)
}

#[test]
fn the_file_exporter_writes_a_line_of_json_for_each_request() {
    let (_folder, path, settings) = file(json!({}));
    std::fs::write(&path, "from the run before\n").unwrap();
    let collector = Setup::new().exporter("file", settings).start();
    for name in ["first", "second"] {
        collector.send(&named(name)).expect_ok();
        // Who was told OK finds the spans in the file.
        assert_eq!(lines(&path).last(), Some(&named(name)));
    }
    collector.wait_for_metric("otelcol_exporter_sent_spans", &[("exporter", "file")], 4);
    collector.finish();
    assert_eq!(lines(&path), [named("first"), named("second")]);
    let first: Value = serde_json::from_str(std::fs::read_to_string(&path).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(first["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["name"], "first");
}

#[test]
fn the_file_exporter_writes_messages_behind_their_lengths() {
    let (_folder, path, settings) = file(json!({"format": "proto", "append": true}));
    for name in ["first", "second"] {
        let collector = Setup::new().exporter("file/proto", settings.clone()).start();
        collector.send(&named(name)).expect_ok();
        collector.finish();
    }
    assert_eq!(records(&path), [named("first").encode_to_vec(), named("second").encode_to_vec()]);
}

#[test]
fn the_file_exporter_compresses_each_record() {
    for format in ["json", "proto"] {
        let (_folder, path, settings) = file(json!({"format": format, "compression": "zstd"}));
        let collector = Setup::new().exporter("file", settings).start();
        collector.send(&named("first")).expect_ok();
        collector.send(&named("second")).expect_ok();
        collector.finish();
        for (record, name) in records(&path).into_iter().zip(["first", "second"]) {
            let plain = zstd::stream::decode_all(record.as_slice()).unwrap();
            let wire =
                if format == "json" { decode_request(&plain, usize::MAX).unwrap().bytes() } else { plain.into() };
            assert_eq!(Request::decode(wire).unwrap(), named(name));
        }
        assert_eq!(records(&path).len(), 2);
    }
}

#[test]
fn full_files_are_rotated() {
    let (folder, path, settings) = file(json!({"format": "proto", "rotation": {"max_megabytes": 1, "max_backups": 2}}));
    let collector = Setup::new().exporter("file", settings).start();
    let large = named(&"x".repeat(700_000));
    for _ in 0..5 {
        collector.send(&large).expect_ok();
    }
    collector.finish();
    let names =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("traces-2") && names[0].ends_with(".out") && names[2] == "traces.out", "{names:?}");
    assert_eq!(records(&path), [large.encode_to_vec()]);
}

#[test]
fn a_full_disk_is_told_to_the_sender_and_tears_no_line() {
    let (_folder, path, settings) = file(json!({}));
    let collector = Setup::new().exporter("file", settings).file_limit(64 << 10).start();
    collector.send(&named("fits")).expect_ok();
    let refused = collector.send(&named(&"x".repeat(70_000)));
    refused.expect(tonic::Code::Unavailable, &format!("{} cannot be written", path.display()));
    assert_eq!(lines(&path), [named("fits")]);
    collector.send(&named("fits as well")).expect_ok();
    collector.finish();
    assert_eq!(lines(&path), [named("fits"), named("fits as well")]);
}

#[test]
fn a_lost_folder_is_told_to_the_sender_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub/traces.json");
    let collector = Setup::new().exporter("file", json!({"path": path})).start();
    let refused = collector.send(&named("early"));
    refused.expect(tonic::Code::Unavailable, &format!("{} cannot be opened", path.display()));
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    collector.send(&named("in time")).expect_ok();
    std::fs::remove_dir_all(folder.path().join("sub")).unwrap();
    collector.send(&named("late")).expect(tonic::Code::Unavailable, "cannot be opened");
    collector.finish();
    let setup = Setup::new().exporter("file", json!({"path": path, "create_directory": true}));
    let collector = setup.start();
    collector.send(&named("made")).expect_ok();
    collector.finish();
    assert_eq!(lines(&path), [named("made")]);
}

#[test]
fn a_check_of_the_config_touches_no_file() {
    let (folder, path, settings) = file(json!({}));
    std::fs::write(&path, "kept").unwrap();
    let config = folder.path().join("collector.yaml");
    std::fs::write(&config, Setup::new().exporter("file", settings).text()).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vespid"));
    let ended = command.args(["validate", "--config"]).arg(&config).current_dir(root()).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
}

#[test]
fn settings_that_would_lose_something_are_refused() {
    let refused = |kind: &str, settings: Value| Setup::new().exporter(kind, settings).refused();
    for (kind, settings, parts) in [
        ("file", json!({}), ["exporters.file", "has no path"]),
        ("file", json!({"path": "x", "format": "xml"}), ["exporters.file.format", "xml"]),
        ("file", json!({"path": "x", "group_by": {"enabled": true}}), ["exporters.file.group_by", "one file"]),
        ("file", json!({"path": "x", "append": true, "rotation": {}}), ["exporters.file.append", "`rotation`"]),
        (
            "file",
            json!({"path": "x", "append": true, "compression": "zstd"}),
            ["exporters.file.append", "`compression`"],
        ),
        ("file", json!({"path": "x", "rotation": {"max_megabytes": 0}}), ["rotation.max_megabytes", "larger than 0"]),
        ("file", json!({"path": "x", "compression": "gzip"}), ["exporters.file.compression", "gzip"]),
        ("debug", json!({"loglevel": "debug"}), ["exporters.debug.loglevel", "verbosity"]),
        ("debug", json!({"output_paths": ["/tmp/x"]}), ["exporters.debug.output_paths", "`file` exporter"]),
        ("nop", json!({"endpoint": "x"}), ["exporters.nop", "endpoint"]),
    ] {
        let log = refused(kind, settings);
        for part in parts {
            assert!(log.contains(part), "`{part}` is not in\n{log}");
        }
    }
}
