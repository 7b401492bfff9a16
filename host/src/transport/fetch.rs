//! Fetching a text from a web server once: what a config given as a URL needs.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HeaderValue, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioExecutor;

use super::body::Ready;
use super::connect::{self, Connector};
use super::proxy::Proxies;
use super::tls::{ClientTls, TlsError};

/// All of it: name, connection, redirects, body.
const TIMEOUT: Duration = Duration::from_secs(10);
const REDIRECTS: usize = 5;

/// Why there is no text. What is shown of a URL is its scheme, host and path: user,
/// password and query may be secrets.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("it is no URL of a web server")]
    Url,
    #[error("`{0}` leads to no URL of a web server")]
    Redirect(String),
    #[error("`{0}` leads from `https:` to `http:`")]
    Downgrade(String),
    #[error("more than {REDIRECTS} redirects")]
    TooManyRedirects,
    #[error("`{0}` answered HTTP {1}")]
    Status(String, StatusCode),
    #[error("there was no answer within {TIMEOUT:?}")]
    Timeout,
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Broken(String),
    #[error("{0}")]
    Tls(#[from] TlsError),
}

/// Gets a URL in a runtime of its own, so that code that is not async may wait for it.
/// It must not be called on a thread that runs one.
pub fn fetch(url: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| FetchError::Broken(error.to_string()))?;
    let fetched = runtime.block_on(async { tokio::time::timeout(TIMEOUT, get(url, limit)).await });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    fetched.unwrap_or(Err(FetchError::Timeout))
}

async fn get(url: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
    let mut target = Target::parse(url).ok_or(FetchError::Url)?;
    let proxies = Arc::new(Proxies::of_environment());
    let mut tls = None;
    for _ in 0..=REDIRECTS {
        // The system's certificates are read only once a URL asks for TLS.
        if target.is_https() && tls.is_none() {
            tls = Some(Arc::new(ClientTls::of_system()?));
        }
        let (tls, proxies) = (tls.clone(), Arc::clone(&proxies));
        let mut request = target.request();
        // Through a tunnel the connector says who we are, otherwise the request does.
        if let Some(proxy) = target.plain_proxy(&proxies)
            && let Some(credentials) = proxy.basic_auth()
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, credentials.clone());
        }
        let connector = Connector { target: connect::Target::OfRequest, tls, proxies, always_tunnel: false };
        let client: Client<_, Ready> = Client::builder(TokioExecutor::new()).build(connector);
        let response = client.request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return read(response.into_body(), limit).await;
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        match location {
            Some(location) if status.is_redirection() => target = target.follow(location)?,
            _ => return Err(FetchError::Status(target.shown(), status)),
        }
    }
    Err(FetchError::TooManyRedirects)
}

async fn read(mut body: Incoming, limit: usize) -> Result<Vec<u8>, FetchError> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        if text.len() + data.len() > limit {
            return Err(FetchError::TooLarge(limit));
        }
        text.extend_from_slice(&data);
    }
    Ok(text)
}

/// The innermost reason, which names no URL.
fn broken(error: &(dyn std::error::Error + 'static)) -> FetchError {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    FetchError::Broken(cause.to_string())
}

/// A URL of a web server, its user apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    uri: Uri,
    /// `user:password`, for this server alone.
    user: Option<String>,
}

impl Target {
    fn parse(url: &str) -> Option<Self> {
        let url = url.split('#').next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://")?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(unescaped(user)), host),
            None => (None, authority),
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let uri: Uri = format!("{scheme}://{host}{slash}{path}").parse().ok()?;
        uri.host().is_some_and(|host| !host.is_empty()).then_some(Self { uri, user })
    }

    fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    fn plain_proxy(&self, proxies: &Proxies) -> Option<Intercept> {
        let host = self.uri.host()?.trim_matches(['[', ']']);
        proxies.of(Some("http"), host, self.uri.port_u16().unwrap_or(80)).filter(|_| !self.is_https())
    }

    fn origin(&self) -> String {
        let authority = self.uri.authority().map_or("", http::uri::Authority::as_str);
        format!("{}://{authority}", self.uri.scheme_str().unwrap_or_default())
    }

    fn shown(&self) -> String {
        format!("{}{}", self.origin(), self.uri.path())
    }

    fn request(&self) -> Request<Ready> {
        let mut request = Request::new(Ready::default());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vespid/", env!("CARGO_PKG_VERSION"))));
        if let Some(user) = &self.user
            && let Ok(mut value) = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(user)))
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        request
    }

    /// Where a `Location` leads. The user goes along to the same server only.
    fn follow(&self, location: &str) -> Result<Self, FetchError> {
        let url = if location.contains("://") {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{}:{location}", self.uri.scheme_str().unwrap_or_default())
        } else if location.starts_with('/') {
            format!("{}{location}", self.origin())
        } else {
            let folder = self.uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{}{folder}/{location}", self.origin())
        };
        let mut next = Self::parse(&url).ok_or_else(|| FetchError::Redirect(self.shown()))?;
        if self.is_https() && !next.is_https() {
            return Err(FetchError::Downgrade(self.shown()));
        }
        if next.user.is_none() && next.origin() == self.origin() {
            next.user.clone_from(&self.user);
        }
        Ok(next)
    }
}

/// `%40` is `@`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|two| str::from_utf8(two).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn a_url_is_taken_apart() {
        let it = target("https://ann:p%40s@host:8443/a?b=c#d");
        assert_eq!(it.uri, "https://host:8443/a?b=c");
        assert_eq!(it.user.as_deref(), Some("ann:p@s"));
        assert_eq!(it.shown(), "https://host:8443/a");
        assert_eq!(target("http://host?x").uri, "http://host/?x");
        for url in ["ftp://host", "http:host", "http://", "http:///a", "http://a b/", "https://u@/"] {
            assert_eq!(Target::parse(url), None, "{url}");
        }
    }

    #[test]
    fn a_redirect_leads_on_and_takes_the_user_along_to_the_same_server_only() {
        let from = target("https://ann:p@host/a/b?c");
        for (location, url, keeps) in [
            ("/x", "https://host/x", true),
            ("y?z", "https://host/a/y?z", true),
            ("https://host/q", "https://host/q", true),
            ("//other/x", "https://other/x", false),
            ("https://other/x", "https://other/x", false),
        ] {
            let next = from.follow(location).unwrap();
            assert_eq!(next.uri, url);
            assert_eq!(next.user.is_some(), keeps, "{location}");
        }
        assert!(matches!(from.follow("http://host/x"), Err(FetchError::Downgrade(_))));
        assert!(matches!(from.follow("file:///etc/passwd"), Err(FetchError::Redirect(_))));
    }
}
