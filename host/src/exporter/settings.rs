//! What both OTLP exporters are told of their destination: the Collector's keys.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::SendingSettings;
use crate::config::{Reference, Section};
use crate::transport::compress::{Codec, Compression};
use crate::transport::proxy::{self, Proxies};
use crate::transport::tls::TlsSettings;

#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// What requests are addressed to: `http://…` or `https://…`.
    pub url: http::Uri,
    pub tls: TlsSettings,
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub compression: Option<Compression>,
    pub timeout: Duration,
    /// The extension that gives requests their credentials.
    pub auth: Option<Reference>,
    pub proxy_url: Option<String>,
    /// HTTP/2 pings: after so much silence, given up on after so much more, and
    /// whether without a request under way too.
    pub ping_after: Option<Duration>,
    pub ping_timeout: Option<Duration>,
    pub ping_while_idle: bool,
    pub sending: SendingSettings,
}

impl ClientSettings {
    /// Reads the keys that both exporters have; finishing the section is theirs.
    pub(super) fn read(
        section: &mut Section<'_>,
        url: Option<http::Uri>,
        tls: TlsSettings,
        compression: Option<Compression>,
        timeout: Duration,
    ) -> Option<Self> {
        let mut headers = read_headers(section);
        if let Some(agent) = section.text("user_agent").filter(|agent| !agent.is_empty()) {
            match http::HeaderValue::from_str(&agent) {
                Ok(value) => headers.insert(0, (http::header::USER_AGENT, value)),
                Err(_) => section.problem_at("user_agent", "cannot stand in a header", ""),
            }
        }
        let timeout = section.duration_or("timeout", timeout);
        let auth = read_auth(section);
        let proxy_url = proxy::read(section);
        // What the socket's buffers hold is the system's.
        section.ignore("read_buffer_size");
        section.ignore("write_buffer_size");
        section.refuse_middlewares();
        let sending = SendingSettings::read(section);
        Some(Self {
            url: url?,
            tls,
            headers,
            compression,
            timeout,
            auth,
            proxy_url,
            ping_after: None,
            ping_timeout: None,
            ping_while_idle: false,
            sending,
        })
    }

    pub fn is_https(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    pub(super) fn proxies(&self) -> Arc<Proxies> {
        Arc::new(self.proxy_url.as_deref().map_or_else(Proxies::of_environment, Proxies::fixed))
    }

    /// A client of hyper's with what both exporters want of it.
    pub(super) fn builder(&self) -> Builder {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(WINDOW)
            .http2_max_header_list_size(HEADER_LIST)
            .http2_keep_alive_interval(self.ping_after)
            .http2_keep_alive_while_idle(self.ping_while_idle);
        if let Some(timeout) = self.ping_timeout {
            builder.http2_keep_alive_timeout(timeout);
        }
        builder
    }
}

/// Answers are small.
const WINDOW: u32 = 1 << 20;
const HEADER_LIST: u32 = 64 << 10;

/// `compression` by the names that the protocol has for it, and `compression_params`.
pub(super) fn read_compression(
    section: &mut Section<'_>,
    names: &[&'static str],
    codec: impl Fn(&str) -> Option<Codec>,
) -> Option<Compression> {
    let names: Vec<&str> = names.iter().copied().chain(["none", ""]).collect();
    let codec = codec(section.choice_or("compression", &names, "gzip"));
    let level = section.section("compression_params").and_then(|mut section| {
        let level = section.i64("level").filter(|level| *level != 0);
        // Go's scale; its values below zero ask for a default or a variant of it.
        let range = match codec {
            Some(Codec::Gzip | Codec::Zlib | Codec::Deflate) => -2..=9,
            Some(Codec::Zstd) => 1..=22,
            _ => 0..=0,
        };
        if level.is_some_and(|level| !range.contains(&level)) {
            let shown = codec.map_or("no compression", Codec::http_name);
            let hint = match codec {
                Some(Codec::Gzip | Codec::Zlib | Codec::Deflate) => "choose from 1 (fast) to 9 (small)",
                Some(Codec::Zstd) => "choose from 1 (fast) to 22 (small)",
                _ => "remove it",
            };
            section.problem_at("level", format!("is no level of {shown}"), hint);
        }
        section.finish();
        level.filter(|level| *level > 0).and_then(|level| i32::try_from(level).ok())
    });
    codec.map(|codec| Compression { codec, level })
}

fn read_auth(section: &mut Section<'_>) -> Option<Reference> {
    let mut auth = section.optional("auth")?;
    let named = auth.reference("authenticator");
    if named.is_none() && !auth.has("authenticator") {
        auth.problem("has no authenticator", "write `authenticator: basicauth`, or remove `auth`");
    }
    auth.finish();
    named
}

fn read_headers(section: &mut Section<'_>) -> Vec<(http::HeaderName, http::HeaderValue)> {
    let mut headers = vec![];
    for (name, value) in section.headers("headers") {
        match (name.parse(), http::HeaderValue::from_str(&value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            (Err(_), _) => section.problem_at("headers", format!("`{name}` is not a header name"), ""),
            (_, Err(_)) => {
                let message = format!("the value of `{name}` cannot stand in a header");
                section.problem_at("headers", message, "is there a line break at its end?");
            }
        }
    }
    headers
}
