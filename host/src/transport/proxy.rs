//! Which requests go through which proxy: the environment's variables as Go reads
//! them, or a `proxy_url` for everything.

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::config::Section;

pub struct Proxies {
    matcher: Matcher,
    /// The environment's proxies are not for this machine itself (Go's rule).
    spares_loopback: bool,
}

impl Proxies {
    /// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in either case.
    pub fn of_environment() -> Self {
        Self { matcher: Matcher::from_env(), spares_loopback: true }
    }

    pub fn fixed(url: &str) -> Self {
        Self { matcher: Matcher::builder().all(url.to_owned()).build(), spares_loopback: false }
    }

    /// The proxy between here and there.
    pub fn of(&self, scheme: Option<&str>, host: &str, port: u16) -> Option<Intercept> {
        let is_loopback = host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if is_loopback && self.spares_loopback {
            return None;
        }
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let uri: Uri = format!("{}://{bracketed}:{port}", scheme.unwrap_or("http")).parse().ok()?;
        self.matcher.intercept(&uri)
    }
}

/// Reads `proxy_url`.
pub fn read(section: &mut Section<'_>) -> Option<String> {
    let url = section.text("proxy_url").filter(|url| !url.is_empty())?;
    let scheme = url.parse::<Uri>().ok().and_then(|uri| uri.scheme_str().map(str::to_owned));
    if !matches!(scheme.as_deref(), Some("http" | "https" | "socks5" | "socks5h")) {
        // It may hold a password, and is not shown.
        let hint = "write `http://proxy:3128`, or with https or socks5";
        section.problem_at("proxy_url", "is not the URL of a proxy", hint);
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_proxy_is_for_all_and_one_of_the_environment_not_for_this_machine() {
        let fixed = Proxies::fixed("http://user:word@proxy.test:3128");
        let found = fixed.of(Some("http"), "127.0.0.1", 4318).unwrap();
        assert_eq!(found.uri().host(), Some("proxy.test"));
        assert_eq!(found.basic_auth().unwrap(), "Basic dXNlcjp3b3Jk");
        let environment = Matcher::builder().all("http://proxy.test:3128").no("inside.test,10.0.0.0/8").build();
        let environment = Proxies { matcher: environment, spares_loopback: true };
        for spared in ["localhost", "127.0.0.1", "::1", "a.inside.test", "10.1.2.3"] {
            assert!(environment.of(Some("https"), spared, 443).is_none(), "{spared}");
        }
        assert!(environment.of(Some("https"), "outside.test", 443).is_some());
    }
}
