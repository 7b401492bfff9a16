//! Configs from web servers.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::{ServerConnection, StreamOwned};

use crate::support::collector::{Ended, Process, vespid};
use crate::support::tls::identity;
use crate::support::wait_for;

/// What the server answers at a path: status line, headers and body, as they are.
type Pages = HashMap<&'static str, String>;

/// A small web server that keeps the heads of requests.
struct Web {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

fn answer(stream: &mut (impl Read + Write), pages: &Pages, heads: &Mutex<Vec<String>>) {
    let mut head = String::new();
    let mut reader = BufReader::new(&mut *stream);
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|length| length > 0) {}
    let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap().to_owned();
    heads.lock().unwrap().push(head);
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
    // A client that has heard enough hangs up.
    let _ = stream.write_all(pages.get(path.as_str()).unwrap_or(&missing).as_bytes());
}

impl Web {
    fn start(pages: impl FnOnce(SocketAddr) -> Pages) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (pages, heads) = (pages(address), Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&mut stream.unwrap(), &pages, &kept);
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

const SOUND: &str = "receivers: {nop: }\nexporters: {debug: }\nservice:\n  telemetry: {metrics: {level: none}}\n  \
                     pipelines:\n    traces: {receivers: [nop], exporters: [debug]}\n";

#[test]
fn a_reload_fetches_the_config_again() {
    let web = Web::start(|_| [("/config.yaml", ok(SOUND))].into());
    let uri = format!("http://{}/config.yaml", web.address);
    let mut process = Process::spawn(&mut vespid(&["--config", &uri]));
    process.wait_for_log("Everything is ready");
    assert_eq!(web.heads().len(), 1);
    process.signal(libc::SIGHUP);
    process.wait_for_log("The config was reloaded.");
    assert_eq!(web.heads().len(), 2);
    process.signal(libc::SIGTERM);
    assert_eq!(process.wait().code, Some(0));
}

fn validate(uri: &str) -> Ended {
    Process::spawn(&mut vespid(&["validate", "--config", uri])).wait()
}

#[test]
fn a_config_is_fetched_through_redirects_and_its_parts_too() {
    let web = Web::start(|address| {
        let whole = SOUND.replace("{debug: }", &format!("${{http://{address}/parts/exporters.yaml}}"));
        [
            ("/old", redirect("/there/older")),
            ("/there/older", redirect("../there/new")),
            ("/there/../there/new", redirect(&format!("http://{address}/config.yaml"))),
            ("/config.yaml", ok(&whole)),
            ("/parts/exporters.yaml", ok("debug:\n")),
        ]
        .into()
    });
    let ended = validate(&format!("http://ann:p%40ss@{}/old?key=1", web.address));
    assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""));
    assert!(ended.out.starts_with("traces: nop → debug"), "{}", ended.out);
    let heads = web.heads();
    assert_eq!(heads.len(), 5);
    assert!(heads[0].starts_with("GET /old?key=1 HTTP/1.1\r\n"), "{}", heads[0]);
    // The user goes along to the same server, and not to what the config names.
    let knows = |head: &String| head.to_lowercase().contains("authorization: basic yw5uonbac3m=");
    assert_eq!(heads.iter().map(knows).collect::<Vec<_>>(), [true, true, true, true, false]);
}

#[test]
fn what_cannot_be_fetched_names_the_url_and_the_reason_and_no_secret() {
    let web = Web::start(|address| {
        [
            ("/loop", redirect("/loop")),
            ("/to-file", redirect("file:///etc/passwd")),
            ("/to-404", redirect(&format!("http://{address}/nowhere?key=s3cret"))),
            ("/large", format!("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n{}", "#".repeat(9_000_000))),
            ("/broken", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nreceivers".to_owned()),
            ("/bad.yaml", ok("receivers: {nop: }\nnonsense: 1\n")),
        ]
        .into()
    });
    for (path, reason) in [
        ("loop", "more than 5 redirects"),
        ("to-file", "leads to no URL of a web server"),
        ("to-404", "/nowhere` answered HTTP 404 Not Found"),
        ("missing", "/missing` answered HTTP 404 Not Found"),
        ("large", "the answer is larger than 8388608 bytes"),
        ("broken", ""),
        ("bad.yaml", "unknown key `nonsense`"),
    ] {
        let ended = validate(&format!("http://ann:s3cret@{}/{path}?key=s3cret", web.address));
        assert_eq!(ended.code, Some(1), "{path}");
        let shown = format!("http://{}/{path}", web.address);
        assert!(ended.log.contains(&shown) && ended.log.contains(reason), "{path}: {}", ended.log);
        assert!(!ended.log.contains("s3cret"), "{}", ended.log);
    }
}

#[test]
fn a_config_is_fetched_over_tls_from_a_server_that_the_system_trusts() {
    let known = identity("localhost");
    let folder = tempfile::tempdir().unwrap();
    let roots = known.write_ca(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let pages: Pages = [("/c.yaml", ok(SOUND)), ("/down", redirect("http://localhost/"))].into();
        for stream in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(known.acceptor.config())).unwrap();
            answer(&mut StreamOwned::new(session, stream.unwrap()), &pages, &Mutex::default());
        }
    });
    let url = format!("https://localhost:{port}/c.yaml");
    let trusting = |url: &str| {
        let mut command = vespid(&["validate", "--config", url]);
        Process::spawn(command.env("SSL_CERT_FILE", &roots).env_remove("SSL_CERT_DIR")).wait()
    };
    let ended = trusting(&url);
    assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""));
    let ended = validate(&url);
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains(&format!("`{url}` cannot be fetched: ")), "{}", ended.log);
    let ended = trusting(&format!("https://localhost:{port}/down"));
    assert!(ended.log.contains("leads from `https:` to `http:`"), "{}", ended.log);
}

#[test]
fn a_start_that_waits_for_a_web_server_hears_a_signal() {
    // It accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/config.yaml", silent.local_addr().unwrap());
    let process = Process::spawn(&mut vespid(&["--config", &uri]));
    silent.set_nonblocking(true).unwrap();
    let _connection = wait_for("the request", || silent.accept().ok());
    process.signal(libc::SIGTERM);
    let ended = process.wait();
    assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""));
}
