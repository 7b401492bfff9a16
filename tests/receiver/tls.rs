//! TLS at the receiver: certificates of ours, of clients, and their renewal.

use std::path::Path;

use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::proto::framed;
use crate::support::send::{Call, GrpcAnswer};
use crate::support::spans::spans;
use crate::support::tls::{Authority, Signed};
use crate::support::{Collector, Setup, request, wait_for};

const NAME: &str = "collector.test";

fn message() -> Vec<u8> {
    request(spans(1)).encode_to_vec()
}

/// Files of a certificate, and the settings that name them.
struct Files(TempDir);

impl Files {
    fn of(signed: &Signed) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(signed);
        files
    }

    fn write(&self, signed: &Signed) {
        put(&self.0.path().join("cert.pem"), &signed.cert_pem);
        put(&self.0.path().join("key.pem"), &signed.key_pem);
    }

    fn put(&self, name: &str, content: &str) -> Value {
        let path = self.0.path().join(name);
        put(&path, content);
        json!(path)
    }

    fn settings(&self) -> Value {
        json!({"cert_file": self.0.path().join("cert.pem"), "key_file": self.0.path().join("key.pem")})
    }
}

/// As a renewal does it: the file is there whole at every moment.
fn put(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Both protocols with these `tls` settings.
fn setup(tls: &Value) -> Setup {
    let setup = Setup::new().exporter("debug", json!({}));
    setup.set("receivers.otlp.protocols.grpc.tls", tls.clone()).set("receivers.otlp.protocols.http.tls", tls.clone())
}

fn send(collector: &Collector, authority: &Authority, own: Option<&Signed>) -> GrpcAnswer {
    collector.offer(1);
    Call::grpc(collector.grpc()).tls(authority.client(own, &["h2"]), NAME).call(framed(&message()))
}

#[test]
fn both_protocols_speak_tls_and_http_both_versions_of_itself() {
    let authority = Authority::new();
    let files = Files::of(&authority.sign(NAME));
    let collector = setup(&files.settings()).start();
    send(&collector, &authority, None).expect_ok();
    collector.offer(2);
    let http = || Call::http(collector.http());
    http().tls(authority.client(None, &["http/1.1"]), NAME).post(message()).expect_ok();
    http().tls(authority.client(None, &["h2"]), NAME).post_http2(message()).expect_ok();
    collector.finish();
}

#[test]
fn certificates_may_stand_in_the_config() {
    let authority = Authority::new();
    let signed = authority.sign(NAME);
    let tls = json!({"cert_pem": signed.cert_pem, "key_pem": signed.key_pem, "min_version": "1.3"});
    let collector = setup(&tls).start();
    send(&collector, &authority, None).expect_ok();
    collector.finish();
}

/// Whether a handshake with this client comes to a connection that answers.
fn is_let_in(collector: &Collector, client: rustls::ClientConfig) -> bool {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(collector.http()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
    let mut connection = rustls::ClientConnection::new(std::sync::Arc::new(client), name).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    let mut answer = [0; 12];
    tls.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").is_ok()
        && tls.read_exact(&mut answer).is_ok()
        && &answer == b"HTTP/1.1 404"
}

#[test]
fn a_client_has_to_show_a_certificate_where_that_is_asked_for() {
    let (authority, others) = (Authority::new(), Authority::new());
    let files = Files::of(&authority.sign(NAME));
    let mut tls = files.settings();
    tls["client_ca_file"] = files.put("clients.pem", &authority.pem);
    let collector = setup(&tls).start();
    let client = |own: Option<&Signed>| authority.client(own, &["http/1.1"]);
    assert!(is_let_in(&collector, client(Some(&authority.sign("client")))));
    assert!(!is_let_in(&collector, client(Some(&others.sign("client")))));
    assert!(!is_let_in(&collector, client(None)));
    send(&collector, &authority, Some(&authority.sign("client"))).expect_ok();
    collector.finish();
}

#[test]
fn old_versions_of_tls_can_be_shut_out() {
    let authority = Authority::new();
    let files = Files::of(&authority.sign(NAME));
    let mut tls = files.settings();
    tls["max_version"] = json!("1.2");
    tls["cipher_suites"] = json!(["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]);
    tls["curve_preferences"] = json!(["P256"]);
    let collector = setup(&tls).start();
    send(&collector, &authority, None).expect_ok();
    collector.finish();
    tls["max_version"] = json!("1.3");
    tls["min_version"] = json!("1.3");
    let collector = setup(&tls).start();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    assert!(!is_let_in(&collector, old));
    assert!(is_let_in(&collector, authority.client(None, &["http/1.1"])));
    collector.finish();
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart() {
    let (before, after) = (Authority::new(), Authority::new());
    let files = Files::of(&before.sign(NAME));
    let mut tls = files.settings();
    tls["reload_interval"] = json!("10ms");
    let mut collector = setup(&tls).start();
    assert!(is_let_in(&collector, before.client(None, &["http/1.1"])));
    files.put("key.pem", "half-written");
    wait_for("a complaint", || {
        assert!(is_let_in(&collector, before.client(None, &["http/1.1"])), "the old certificate stays");
        collector.log().contains("stay").then_some(())
    });
    collector.wait_for_log("`key_file` holds no PEM that can be used");
    files.write(&after.sign(NAME));
    wait_for("the new certificate", || is_let_in(&collector, after.client(None, &["http/1.1"])).then_some(()));
    collector.finish();
}

#[test]
fn a_reload_reads_the_certificates_again() {
    let (before, after) = (Authority::new(), Authority::new());
    let files = Files::of(&before.sign(NAME));
    let collector = setup(&files.settings()).start();
    assert!(is_let_in(&collector, before.client(None, &["http/1.1"])));
    files.write(&after.sign(NAME));
    collector.expect_reload("success", || collector.process.signal(libc::SIGHUP));
    assert!(is_let_in(&collector, after.client(None, &["http/1.1"])));
    files.put("key.pem", "half-written");
    collector.expect_reload("failure", || collector.process.signal(libc::SIGHUP));
    assert!(is_let_in(&collector, after.client(None, &["http/1.1"])), "what was read before stays");
    collector.finish();
}

#[test]
fn a_changed_list_of_client_authorities_counts_at_once() {
    let (authority, others) = (Authority::new(), Authority::new());
    let files = Files::of(&authority.sign(NAME));
    let mut tls = files.settings();
    tls["client_ca_file"] = files.put("clients.pem", &authority.pem);
    tls["client_ca_file_reload"] = json!(true);
    let collector = setup(&tls).start();
    let stranger = others.sign("client");
    assert!(!is_let_in(&collector, authority.client(Some(&stranger), &["http/1.1"])));
    files.put("clients.pem", &format!("{}{}", authority.pem, others.pem));
    wait_for("the new authority to count", || {
        is_let_in(&collector, authority.client(Some(&stranger), &["http/1.1"])).then_some(())
    });
    collector.finish();
}

#[test]
fn plain_text_on_a_tls_port_and_broken_handshakes_cost_nobody_else_anything() {
    use std::io::{Read as _, Write as _};
    let authority = Authority::new();
    let files = Files::of(&authority.sign(NAME));
    let collector = setup(&files.settings()).start();
    let mut idle = vec![];
    for _ in 0..20 {
        let mut plain = crate::support::send::idle_connection(collector.http());
        plain.write_all(b"POST /v1/traces HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = vec![];
        let _ = plain.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"));
        idle.push(crate::support::send::idle_connection(collector.grpc()));
    }
    send(&collector, &authority, None).expect_ok();
    collector.finish();
}

#[test]
fn files_that_cannot_be_used_refuse_the_start() {
    let signed = Authority::new().sign(NAME);
    let files = Files::of(&signed);
    let with = |key: &str, value: Value| {
        let mut tls = files.settings();
        tls[key] = value;
        setup(&tls).refused()
    };
    let log = with("cert_file", json!("/nowhere/cert.pem"));
    assert!(
        log.contains("receivers.otlp.protocols.grpc.tls: `/nowhere/cert.pem` cannot be read: No such file"),
        "{log}"
    );
    let log = with("key_file", files.put("empty.pem", ""));
    assert!(log.contains("`key_file` holds no PEM that can be used"), "{log}");
    let log = with("client_ca_file", files.put("empty.pem", ""));
    assert!(log.contains("`client_ca_file` holds no PEM that can be used"), "{log}");
    let other_key = files.put("other.pem", &Authority::new().sign(NAME).key_pem);
    let log = with("key_file", other_key);
    assert!(log.contains("receivers.otlp.protocols.grpc.tls: TLS cannot be set up"), "{log}");
    let log = setup(&json!({"cert_pem": signed.cert_pem})).refused();
    assert!(log.contains("has no certificate and key"), "{log}");
}
