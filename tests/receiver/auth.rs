//! Who may send: `auth.authenticator` at the receiver.

use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::proto::framed;
use crate::support::send::{Call, pieces};
use crate::support::spans::spans;
use crate::support::{Collector, Setup, Sink, request, to, wait_for};

/// `secret` in the forms that `htpasswd` and `openssl passwd` write, and `U*U` by bcrypt.
const USERS: &str = "plain:secret\n\
    apr1:$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0\n\
    sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n\
    bcrypt:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";

fn message() -> Vec<u8> {
    request(spans(1)).encode_to_vec()
}

/// Both protocols of `otlp` with this extension before them.
fn guarded(setup: Setup, id: &str, settings: Value) -> Setup {
    setup
        .set(&format!("extensions.{id}"), settings)
        .set("service.extensions", json!(["health_check", id]))
        .set("receivers.otlp.protocols.grpc.auth", json!({"authenticator": id}))
        .set("receivers.otlp.protocols.http.auth", json!({"authenticator": id}))
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
}

/// Whether both protocols let in who shows this; they have to agree.
fn is_let_in(collector: &Collector, header: &str, value: &str) -> bool {
    let grpc = Call::grpc(collector.grpc()).header(header, value).call(framed(&message()));
    let http = Call::http(collector.http()).header(header, value).post(message());
    if grpc.code == Code::Ok {
        collector.offer(2);
        http.expect_ok();
        return true;
    }
    grpc.expect(Code::Unauthenticated, "");
    http.expect(401, "");
    assert!(http.header("www-authenticate").is_some());
    false
}

#[test]
fn names_and_passwords_of_every_form_are_known() {
    let setup = Setup::new().exporter("debug", json!({}));
    let collector = guarded(setup, "basicauth/server", json!({"htpasswd": {"inline": USERS}})).start();
    for (name, password) in [("plain", "secret"), ("apr1", "secret"), ("sha", "secret"), ("bcrypt", "U*U")] {
        assert!(is_let_in(&collector, "authorization", &basic(name, password)), "{name}");
        // Known by now, and a wrong password still is one.
        assert!(is_let_in(&collector, "authorization", &basic(name, password)), "{name} again");
        assert!(!is_let_in(&collector, "authorization", &basic(name, "secre")), "{name}");
    }
    for wrong in ["", "Basic", "Basic !", "Bearer secret", &basic("nobody", "secret"), &basic("plain", "")] {
        assert!(!is_let_in(&collector, "authorization", wrong), "{wrong}");
    }
    collector.finish();
}

#[test]
fn tokens_are_known_and_a_changed_file_of_them_counts() {
    let setup = || Setup::new().exporter("debug", json!({}));
    let collector = guarded(setup(), "bearertokenauth", json!({"tokens": ["one", "two"]})).start();
    assert!(is_let_in(&collector, "authorization", "Bearer one"));
    assert!(is_let_in(&collector, "authorization", "Bearer two"));
    for wrong in ["Bearer three", "Bearer on", "Bearer onee", "bearer", "one", ""] {
        assert!(!is_let_in(&collector, "authorization", wrong), "{wrong}");
    }
    collector.finish();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "first\n").unwrap();
    let settings = json!({"filename": file, "header": "X-Key", "scheme": ""});
    let collector = guarded(setup(), "bearertokenauth", settings).start();
    assert!(is_let_in(&collector, "x-key", "first"));
    std::fs::write(folder.path().join("new"), "second\nthird\n").unwrap();
    std::fs::rename(folder.path().join("new"), &file).unwrap();
    // One protocol only: the file may be read again between the two.
    wait_for("the new token", || {
        let answer = Call::grpc(collector.grpc()).header("x-key", "second").call(framed(&message()));
        (answer.code == Code::Ok).then(|| collector.offer(1))
    });
    assert!(is_let_in(&collector, "x-key", "third") && !is_let_in(&collector, "x-key", "first"));
    collector.finish();
}

#[test]
fn who_may_not_send_is_told_so_before_the_body_comes() {
    let setup = Setup::new().exporter("debug", json!({}));
    let collector = guarded(setup, "bearertokenauth", json!({"token": "secret"})).start();
    let (_pieces, body) = pieces();
    Call::grpc(collector.grpc()).start_call_of(body).answer().expect(Code::Unauthenticated, "");
    let (_pieces, body) = pieces();
    Call::http(collector.http()).start_post_of(body).answer().expect(401, "");
    // In the encoding that was asked in.
    let answer = Call::http(collector.http()).header("content-type", "application/json").post("{}");
    assert_eq!(answer.json(401)["code"], 16);
    assert!(!collector.log().contains("secret"));
    collector.finish();
}

#[test]
fn what_is_known_of_a_sender_can_go_to_the_destination() {
    let sink = Sink::start();
    let headers = json!({"headers": [
        {"key": "X-Scope-OrgID", "action": "upsert", "from_attribute": "username"},
        {"key": "X-Team", "action": "upsert", "from_context": "x-team", "default_value": "none"},
    ]});
    let mut exporter = to(&sink);
    exporter["auth"] = json!({"authenticator": "headers_setter"});
    let setup = Setup::new().exporter("otlp", exporter);
    let setup = guarded(setup, "basicauth", json!({"htpasswd": {"inline": USERS}}))
        .set("extensions.headers_setter", headers)
        .set("service.extensions", json!(["health_check", "basicauth", "headers_setter"]))
        .set("receivers.otlp.protocols.grpc.include_metadata", json!(true));
    let collector = setup.start();
    collector.offer(2);
    let call = || Call::grpc(collector.grpc()).header("authorization", &basic("plain", "secret"));
    call().header("x-team", "shop").call(framed(&message())).expect_ok();
    call().call(framed(&message())).expect_ok();
    let received = sink.wait(2);
    assert_eq!(received[0].header("x-scope-orgid"), Some("plain"));
    assert_eq!(received[0].header("x-team"), Some("shop"));
    assert_eq!(received[1].header("x-team"), Some("none"));
    assert_eq!(received[1].header("authorization"), None, "a sender's password stays here");
    collector.finish();
}
