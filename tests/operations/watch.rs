//! `--watch`: files that change, in each of the ways in which people and Kubernetes
//! change files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::support::collector::Process;
use crate::support::spans::{attribute, spans};
use crate::support::{Collector, Setup, Sink, module, request, script, wait_for};

fn watched(sink: &Sink) -> Setup {
    Setup::line(sink).argument("--watch")
}

/// Where a span goes now.
#[track_caller]
fn goes_to(collector: &Collector, sink: &Sink) {
    let before = sink.received().len();
    collector.send(&request(spans(1))).expect_ok();
    assert_eq!(sink.received().len(), before + 1);
}

#[test]
fn a_config_that_is_written_in_place_or_replaced_is_reloaded_and_the_same_content_is_not() {
    let (one, other) = (Sink::start(), Sink::start());
    let collector = watched(&one).start();
    collector.expect_reload("success", || collector.rewrite(Setup::line(&other)));
    goes_to(&collector, &other);
    let replace = |setup: Setup| {
        let draft = collector.process.config().with_extension("draft");
        fs::write(&draft, setup.text()).unwrap();
        fs::rename(draft, collector.process.config()).unwrap();
    };
    // The same once more is no reload; the one after it is the next.
    replace(Setup::line(&other));
    collector.expect_reload("success", || replace(Setup::line(&one)));
    goes_to(&collector, &one);
    assert_eq!(collector.reloads("success"), 2);
    collector.finish();
}

#[test]
fn half_a_config_is_told_and_the_rest_of_it_is_waited_for() {
    let (one, other) = (Sink::start(), Sink::start());
    let collector = watched(&one).start();
    let whole = Setup::line(&other).text();
    collector.expect_reload("failure", || fs::write(collector.process.config(), &whole[..whole.len() / 2]).unwrap());
    goes_to(&collector, &one);
    collector.expect_reload("success", || fs::write(collector.process.config(), &whole).unwrap());
    goes_to(&collector, &other);
    let metrics = collector.metrics();
    assert_eq!(metrics.sum("vespid_config_last_reload_successful", &[]), 1);
    collector.finish();
}

/// A folder as Kubernetes mounts a ConfigMap: `collector.yaml` is a link through
/// `..data`, which leads to a folder of the content's version.
fn mount(folder: &Path, version: &str, text: &str) {
    let data = folder.join(version);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("collector.yaml"), text).unwrap();
    symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn a_config_map_that_changes_is_reloaded_and_so_is_a_file_that_the_config_names() {
    let (one, other) = (Sink::start(), Sink::start());
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("part.yaml");
    fs::write(&part, "5s").unwrap();
    let text = |sink: &Sink| {
        let timeout = json!(format!("${{file:{}}}", part.display()));
        Setup::line(sink).set("exporters.otlp.timeout", timeout).text()
    };
    mount(folder.path(), "..v1", &text(&one));
    symlink("..data/collector.yaml", folder.path().join("collector.yaml")).unwrap();
    // The harness writes a config of its own, which this one comes over.
    let over = format!("--config={}", folder.path().join("collector.yaml").display());
    let collector = watched(&one).argument(over).start();
    collector.expect_reload("success", || {
        mount(folder.path(), "..v2", &text(&other));
        fs::remove_dir_all(folder.path().join("..v1")).unwrap();
    });
    goes_to(&collector, &other);
    collector.expect_reload("success", || fs::write(&part, "6s").unwrap());
    collector.expect_reload("failure", || fs::write(&part, "six seconds").unwrap());
    goes_to(&collector, &other);
    collector.finish();
}

#[test]
fn a_plugin_that_is_replaced_is_loaded_anew() {
    let sink = Sink::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    fs::copy(module("script"), &path).unwrap();
    let set = json!({"op": "set", "owner": "span", "rows": "all", "key": "mark", "value": {"text": "by the plugin"}});
    let mut settings = script(json!([set]));
    settings["module"] = json!(path);
    let mut collector = watched(&sink).processor("wasm/mark", settings).start();
    // While it is copied it may be no plugin at all; the running one goes on.
    collector.expect_reload("failure", || fs::write(&path, "no plugin").unwrap());
    collector.wait_for_log("is no WebAssembly at all");
    collector.send(&request(spans(1))).expect_ok();
    // Another file with the same code: a custom section without content stands at its end.
    let mut other = fs::read(module("script")).unwrap();
    other.extend_from_slice(b"\x00\x02\x01x");
    collector.expect_reload("success", || fs::write(&path, other).unwrap());
    collector.send(&request(spans(1))).expect_ok();
    for received in sink.wait(2) {
        let request = received.request();
        assert_eq!(attribute(crate::support::spans::all(&request)[0], "mark"), Some("by the plugin"));
    }
    collector.finish();
}

#[test]
fn without_the_flag_a_changed_file_waits_for_sighup() {
    let (one, other) = (Sink::start(), Sink::start());
    let collector = Setup::line(&one).start();
    collector.rewrite(Setup::line(&other));
    goes_to(&collector, &one);
    collector.expect_reload("success", || collector.process.signal(libc::SIGHUP));
    goes_to(&collector, &other);
    collector.finish();
}

#[test]
fn a_sighup_before_everything_is_ready_does_not_kill() {
    let never_ready = crate::support::plugin("hostile", json!({"mode": "configure-loop"}));
    let process: Process =
        Collector::spawn(Setup::new().exporter("debug", json!({})).processor("wasm/hostile", never_ready));
    wait_for("its signal handlers", || super::shutdown::listens_for_signals(process.id()));
    process.signal(libc::SIGHUP);
    process.signal(libc::SIGTERM);
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.how, ended.log);
}
