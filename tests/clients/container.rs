//! The container image that `VESPID_IMAGE` names, run as a careful operator
//! would. `VESPID_CONTAINERS` is the command for containers, by default `podman`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use prost::Message as _;
use serde_json::json;
use tempfile::TempDir;
use tonic::Code;

use super::server::{free_ports, output, skipped, tell};
use super::shop::{order, tidy};
use crate::support::collector::Process;
use crate::support::config::with;
use crate::support::guests::guest;
use crate::support::send::Call;
use crate::support::spans::{all, attribute};
use crate::support::{Reply, Setup, Sink, to, wait_for};

/// The largest image, in bytes.
const LARGEST: u64 = 40_000_000;

struct Image {
    name: String,
    containers: String,
}

fn image() -> Option<Image> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(name) = set("VESPID_IMAGE") else {
        skipped("no container image; set VESPID_IMAGE, or run .ci/container.sh");
        return None;
    };
    Some(Image { name, containers: set("VESPID_CONTAINERS").unwrap_or_else(|| "podman".into()) })
}

impl Image {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.containers.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(arguments);
        command
    }

    /// A container that is gone when it ends.
    fn run(&self, container: &str) -> Command {
        // Where the machine itself is a container, larger limits cannot be set.
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        let mut command = self.command(&["run", "--rm", "--name", container]);
        command.args(limits).args(["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]);
        command
    }
}

/// A container is removed also when its test fails.
struct Container<'a>(&'a Image, String);

impl<'a> Container<'a> {
    fn named(image: &'a Image, name: &str) -> Self {
        Self(image, format!("vespid-test-{name}-{}", std::process::id()))
    }

    fn inspect(&self, format: &str) -> String {
        let mut command = self.0.command(&["inspect", "--format", format, &self.1]);
        output(&mut command).expect("the container can be inspected")
    }

    /// Asks for its end by SIGTERM, and after a while by SIGKILL.
    fn stop(&self) -> Process {
        Process::spawn(&mut self.0.command(&["stop", "--time=20", &self.1]))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.0.command(&["rm", "--force", &self.1]).output();
    }
}

/// A folder that any user can read.
fn volume(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }
    folder
}

#[test]
fn a_locked_down_container_carries_spans_and_drains_as_process_1() {
    let Some(image) = image() else { return };
    let sink = Sink::start();
    let [grpc, http, health, metrics] = free_ports().map(|port| format!("127.0.0.1:{port}"));
    let port = |address: &str| address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let reader = json!({"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": port(&metrics)}}}});
    let config = Setup::new()
        .processor("wasm/tidy", with(tidy("contained"), [("module", json!("/etc/vespid/tidy.wasm"))]))
        .exporter("otlp", to(&sink))
        .set("receivers.otlp.protocols.grpc.endpoint", json!(grpc))
        .set("receivers.otlp.protocols.http.endpoint", json!(http))
        .set("extensions.health_check.endpoint", json!(health))
        .set("service.telemetry.metrics.readers", json!([reader]))
        .text();
    let files = volume(&[("config.yaml", config.as_bytes()), ("tidy.wasm", &fs::read(guest("tidy")).unwrap())]);

    let container = Container::named(&image, "locked");
    let mut command = image.run(&container.1);
    command.args(["--network=host", "--user=65532:65532", "--volume"]);
    command.arg(format!("{}:/etc/vespid:ro", files.path().display())).arg(&image.name);
    let mut process = Process::spawn(&mut command);
    process.wait_for_log("Everything is ready");
    assert_eq!(Call::get(health.parse().unwrap(), "/").status, 200);

    // As the system sees it: process 1 of its own, another user, no rights.
    let status = fs::read_to_string(format!("/proc/{}/status", container.inspect("{{.State.Pid}}"))).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("NSpid:").split_whitespace().last(), Some("1"));
    assert!(field("Uid:").starts_with("65532"), "{status}");
    assert_eq!(field("CapEff:"), "0000000000000000");

    let order = order().request;
    let call = || Call::grpc(grpc.parse().unwrap());
    let message = crate::support::proto::framed(&order.encode_to_vec());
    call().call(message.clone()).expect_ok();
    let received = sink.only();
    assert_eq!(all(&received).len(), 2, "the plugin dropped the health check");
    assert_eq!(attribute(all(&received)[0], "user.email"), Some("****"));

    // A request is under way when the container is told to end.
    sink.answer(Reply::Hold);
    let pending = call().start_call(message);
    sink.wait(2);
    let stop = container.stop();
    process.wait_for_log("shutting down");
    assert!(!pending.is_answered());
    sink.release();
    assert_eq!(pending.answer().code, Code::Ok, "what was accepted is delivered");
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("Shutdown complete"), "{}", ended.log);
    assert_eq!(stop.wait().code, Some(0));
}

#[test]
fn the_image_runs_without_a_flag_a_volume_or_a_network() {
    let Some(image) = image() else { return };
    let container = Container::named(&image, "plain");
    let mut command = image.run(&container.1);
    let mut process = Process::spawn(command.args(["--network=none", &image.name]));
    process.wait_for_log("Everything is ready");
    for port in [4317, 4318, 8888, 13133] {
        assert!(process.log().contains(&format!("0.0.0.0:{port}")), "{}", process.log());
    }
    let stop = container.stop();
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(stop.wait().code, Some(0));
}

#[test]
fn the_demo_client_in_a_container_ends_when_it_is_told_to() {
    let Some(image) = image() else { return };
    let sink = Sink::start();
    let container = Container::named(&image, "demo");
    let mut command = image.run(&container.1);
    command.args(["--network=host", &image.name, "send", "--count=0", "--interval=100ms"]);
    let process = Process::spawn(command.arg(format!("--endpoint=http://{sink}")));
    wait_for("the demo's spans", || (sink.received().len() > 1).then_some(()));
    let stop = container.stop();
    assert_eq!(process.wait().code, Some(0));
    assert_eq!(stop.wait().code, Some(0));
}

#[test]
fn the_image_takes_the_subcommands_and_flags_of_the_program() {
    let Some(image) = image() else { return };
    let container = Container::named(&image, "flags");
    let version = output(image.run(&container.1).args(["--network=none", &image.name, "--version"]));
    assert_eq!(version.as_deref(), Some(concat!("vespid ", env!("CARGO_PKG_VERSION"))));
    let mut validate = image.run(&container.1);
    validate.args(["--network=none", &image.name, "validate", "--config=/etc/vespid/config.yaml"]);
    wait_for("a name that is free again", || output(&mut validate));
}

#[test]
fn the_image_is_small_and_holds_the_program_alone() {
    let Some(image) = image() else { return };
    let about = |format: &str| {
        output(&mut image.command(&["image", "inspect", "--format", format, &image.name])).expect("the image is there")
    };
    let size: u64 = about("{{.Size}}").parse().unwrap();
    tell(&format!("the image is {:.1} MB", size as f64 / 1e6));
    assert!(size < LARGEST, "{size} bytes");
    assert_eq!(about("{{.Config.User}}"), "10001:10001");
    assert_eq!(about("{{json .Config.Entrypoint}}"), r#"["/vespid"]"#);
    for port in ["4317/tcp", "4318/tcp", "8888/tcp", "13133/tcp"] {
        assert!(about("{{json .Config.ExposedPorts}}").contains(port));
    }
    let container = Container::named(&image, "listed");
    assert!(output(&mut image.command(&["create", "--name", &container.1, &image.name])).is_some());
    let archive = image.command(&["export", &container.1]).output().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("image.tar");
    fs::write(&tar, archive.stdout).unwrap();
    let files = output(Command::new("tar").arg("-tf").arg(tar)).expect("the image can be exported");
    let ours =
        |file: &&str| !file.ends_with('/') && !["dev/", "proc/", "run/", "sys/"].iter().any(|it| file.starts_with(it));
    let mut found: Vec<&str> = files.lines().filter(ours).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        ["etc/ssl/certs/ca-certificates.crt", "etc/vespid/config.yaml", "vespid"],
        "no shell, nothing else"
    );
}
