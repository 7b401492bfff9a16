//! Cross-origin requests: which web pages may send spans from a browser (Fetch
//! standard, "CORS protocol"). Credentials are allowed, as in the Collector.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::config::Section;
use crate::transport::body::Ready;

#[derive(Debug, Clone)]
pub struct Cors {
    /// Each with one `*` at most, which stands for any text.
    origins: Vec<String>,
    /// Lower case, beside those that are allowed always; `*` is any.
    headers: Vec<String>,
    exposed: Option<HeaderValue>,
    max_age: Option<Duration>,
}

/// Headers that need no mention: what OTLP's own requests carry.
const ALWAYS: [&str; 4] = ["accept", "content-type", "x-requested-with", "content-encoding"];

impl Cors {
    pub fn read(mut section: Section<'_>) -> Self {
        let origins = section.texts_or("allowed_origins", &[]);
        for origin in &origins {
            if origin.matches('*').count() > 1 {
                let message = format!("`{origin}` has more than one `*`");
                section.problem_at("allowed_origins", message, "write it like `https://*.example.com`");
            }
        }
        let headers = section.texts_or("allowed_headers", &[]);
        let headers = headers.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        let exposed = section.texts_or("exposed_headers", &[]).join(", ");
        let exposed = HeaderValue::from_str(&exposed).ok().filter(|value| !value.is_empty());
        // Seconds, as a bare number.
        let max_age = section.u64("max_age").filter(|&seconds| seconds > 0).map(Duration::from_secs);
        section.finish();
        Self { origins, headers, exposed, max_age }
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| match allowed.split_once('*') {
            None => allowed.eq_ignore_ascii_case(origin),
            Some((before, after)) => {
                let (origin, before, after) =
                    (origin.to_ascii_lowercase(), before.to_ascii_lowercase(), after.to_ascii_lowercase());
                origin.len() >= before.len() + after.len() && origin.starts_with(&before) && origin.ends_with(&after)
            }
        })
    }

    fn allows_headers(&self, asked: &str) -> bool {
        let mut names = asked.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        names.all(|name| ALWAYS.contains(&name.as_str()) || self.headers.iter().any(|it| *it == "*" || *it == name))
    }

    /// The answer to a browser's question whether it may send, if this is one.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Ready>> {
        let asked = request.headers();
        if request.method() != Method::OPTIONS || !asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let mut response = Response::new(Ready::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(
            header::VARY,
            HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        let method_fits = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| method == "POST");
        let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let headers_fit = wanted.is_none_or(|names| names.to_str().is_ok_and(|names| self.allows_headers(names)));
        // Without these headers in the answer the browser does not send.
        if method_fits && headers_fit && self.allow_origin(asked, headers) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
            if let Some(names) = wanted {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
            if let Some(age) = self.max_age {
                headers.insert(header::ACCESS_CONTROL_MAX_AGE, age.as_secs().into());
            }
        }
        Some(response)
    }

    /// Marks an answer as one that the asking page may read.
    pub(super) fn mark(&self, asked: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = asked else { return };
        let asked = HeaderMap::from_iter([(header::ORIGIN, origin.clone())]);
        if self.allow_origin(&asked, headers)
            && let Some(exposed) = &self.exposed
        {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }

    fn allow_origin(&self, asked: &HeaderMap, headers: &mut HeaderMap) -> bool {
        let Some(origin) = asked.get(header::ORIGIN) else { return false };
        if !origin.to_str().is_ok_and(|origin| self.allows(origin)) {
            return false;
        }
        // The origin itself and not `*`, which browsers do not take together with credentials.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let name: HeaderName = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
        headers.insert(name, HeaderValue::from_static("true"));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], headers: &[&str]) -> Cors {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Cors { origins: owned(origins), headers: owned(headers), exposed: None, max_age: None }
    }

    #[test]
    fn one_star_stands_for_any_text() {
        let some = cors(&["https://*.example.com", "http://localhost:3000"], &[]);
        for origin in ["https://a.example.com", "https://a.b.example.com", "HTTP://localhost:3000"] {
            assert!(some.allows(origin), "{origin}");
        }
        for origin in ["https://example.com", "http://a.example.com", "https://a.example.com.evil", "null", ""] {
            assert!(!some.allows(origin), "{origin}");
        }
        assert!(cors(&["*"], &[]).allows("https://any.where"));
        assert!(!cors(&["https://ab*ba"], &[]).allows("https://aba"), "the two ends do not overlap");
    }

    #[test]
    fn headers_are_named_or_belong_to_otlp() {
        let some = cors(&["*"], &["x-tenant"]);
        assert!(some.allows_headers("Content-Type, X-Tenant") && some.allows_headers(""));
        assert!(!some.allows_headers("content-type,authorization"));
        assert!(cors(&["*"], &["*"]).allows_headers("authorization"));
    }
}
