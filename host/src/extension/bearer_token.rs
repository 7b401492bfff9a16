//! The `bearertokenauth` extension: a token in a header, in either direction.

use std::path::PathBuf;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use subtle::ConstantTimeEq as _;

use super::watched::{FileError, Watched};
use crate::component::{Authenticator, Authorizer, BoxFuture, ConsumeError, Identity, Unauthenticated};
use crate::config::Section;
use crate::traces::Context;

#[derive(Debug, Clone)]
pub struct BearerTokenSettings {
    header: HeaderName,
    scheme: String,
    tokens: Vec<String>,
    file: Option<PathBuf>,
}

impl BearerTokenSettings {
    pub fn read(mut section: Section<'_>) -> Option<Self> {
        let written = section.text_or("header", "Authorization");
        let header = written.parse::<HeaderName>().ok();
        if header.is_none() {
            section.problem_at("header", format!("`{written}` is not a header name"), "");
        }
        let scheme = section.text_or("scheme", "Bearer");
        let token = section.text("token").filter(|token| !token.is_empty());
        let tokens = section.texts_or("tokens", &[]);
        let file = section.text("filename").filter(|path| !path.is_empty()).map(PathBuf::from);
        if token.is_some() && !tokens.is_empty() {
            section.problem_at("tokens", "either tokens or token should be set, not both", "keep one of the two");
        }
        if token.is_none() && tokens.is_empty() && file.is_none() {
            section.problem("no bearer token provided", "set `token`, `tokens` or `filename`");
        }
        if file.is_some() && (token.is_some() || !tokens.is_empty()) {
            section.warning_at("filename", "the tokens of the config are ignored beside it", "keep one of the two");
        }
        let tokens = token.into_iter().chain(tokens).collect();
        section.finish();
        Some(Self { header: header?, scheme, tokens, file })
    }
}

pub struct BearerToken {
    header: HeaderName,
    scheme: String,
    /// What is expected, and of which the first is shown to destinations.
    values: Watched<Vec<HeaderValue>>,
}

impl BearerToken {
    pub fn new(settings: BearerTokenSettings) -> Result<Self, FileError> {
        let BearerTokenSettings { header, scheme, tokens, file } = settings;
        let values = match file {
            Some(path) => {
                let scheme = scheme.clone();
                Watched::open(&path, move |text| values(&scheme, text.lines()))?
            }
            None => Watched::fixed(
                values(&scheme, tokens.iter().map(String::as_str))
                    .map_err(|message| FileError::Content("tokens".into(), message))?,
            ),
        };
        Ok(Self { header, scheme, values })
    }

    fn check(&self, headers: &HeaderMap) -> Result<Identity, Unauthenticated> {
        let shown = headers.get(&self.header).filter(|value| !value.is_empty());
        let shown = shown.ok_or(Unauthenticated("missing or empty authorization header"))?;
        // All are compared, so that the time does not tell which was nearly right.
        let fits = self.values.get().iter().fold(false, |found, expected| {
            let same: bool = expected.as_bytes().ct_eq(shown.as_bytes()).into();
            found | same
        });
        if fits { Ok(vec![]) } else { Err(Unauthenticated("scheme or token does not match")) }
    }
}

/// An empty line is no token: nobody comes in with an empty one.
fn values<'a>(scheme: &str, tokens: impl Iterator<Item = &'a str>) -> Result<Vec<HeaderValue>, String> {
    let mut values = vec![];
    for token in tokens.map(str::trim).filter(|token| !token.is_empty()) {
        let text = if scheme.is_empty() { token.to_owned() } else { format!("{scheme} {token}") };
        let mut value = HeaderValue::from_str(&text).map_err(|_| "a token cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        values.push(value);
    }
    if values.is_empty() { Err("there is no token".into()) } else { Ok(values) }
}

impl Authenticator for BearerToken {
    fn authenticate<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<Identity, Unauthenticated>> {
        Box::pin(std::future::ready(self.check(headers)))
    }

    fn challenge(&self) -> &str {
        if self.scheme.is_empty() { "Bearer" } else { &self.scheme }
    }
}

impl Authorizer for BearerToken {
    fn authorize(&self, headers: &mut HeaderMap, _: &Context) -> Result<(), ConsumeError> {
        if let Some(value) = self.values.get().first() {
            headers.insert(self.header.clone(), value.clone());
        }
        Ok(())
    }

    fn shows_secrets(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_token_fits_and_an_empty_line_is_none() {
        let token = BearerToken {
            header: http::header::AUTHORIZATION,
            scheme: "Bearer".into(),
            values: Watched::fixed(values("Bearer", "one\n\n two \n".lines()).unwrap()),
        };
        let check = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", text.parse().unwrap());
            token.check(&headers).is_ok()
        };
        assert!(check("Bearer one") && check("Bearer two"));
        for wrong in ["Bearer ", "Bearer", "bearer one", "Bearer on", "Bearer onee", "one", ""] {
            assert!(!check(wrong), "{wrong}");
        }
        assert!(token.check(&HeaderMap::new()).is_err());
        assert!(values("Bearer", "\n \n".lines()).is_err());
    }
}
