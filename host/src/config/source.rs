//! Where configs and substituted values come from: files, environment variables, web
//! servers, and YAML in the URI itself.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};

use super::parse::MAX_FILE;

/// A source as a URI names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Uri<'a> {
    File(&'a str),
    Variable {
        name: &'a str,
        default: Option<&'a str>,
    },
    Yaml(&'a str),
    /// The whole URL, scheme included.
    Web(&'a str),
}

/// Why a source cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub hint: String,
}

impl Fault {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Fault { message: message.into(), hint: hint.into() }
    }
}

const SCHEMES: &str = "use a path, `file:PATH`, `env:NAME`, `yaml:TEXT` or a URL (`http:`, `https:`)";

impl<'a> Uri<'a> {
    /// The argument of `--config`: a path unless it has a scheme.
    pub fn of_config(text: &'a str) -> Result<Self, Fault> {
        match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => Uri::with_scheme(text, scheme, rest),
            _ => Ok(Uri::File(text)),
        }
    }

    /// What stands in `${…}`: the name of a variable unless it has a scheme.
    pub fn of_substitution(text: &'a str) -> Result<Self, Fault> {
        match text.split_once(':') {
            // `${NAME:-default}`, with which the Collector wants `env:`.
            Some((_, rest)) if rest.starts_with('-') && !text.starts_with("yaml:") => {
                Uri::variable(text.strip_prefix("env:").unwrap_or(text))
            }
            Some((scheme, rest)) if is_scheme(scheme) => Uri::with_scheme(text, scheme, rest),
            _ => Uri::variable(text),
        }
    }

    fn with_scheme(text: &'a str, scheme: &str, rest: &'a str) -> Result<Self, Fault> {
        match scheme {
            "file" => Ok(Uri::File(rest)),
            "env" => Uri::variable(rest),
            "yaml" => Ok(Uri::Yaml(rest)),
            "http" | "https" => Ok(Uri::Web(text)),
            _ => Err(Fault::new(
                format!("the scheme `{scheme}:` is not known"),
                format!("{SCHEMES}; for a path with a colon in it, `./PATH`"),
            )),
        }
    }

    fn variable(text: &'a str) -> Result<Self, Fault> {
        let (name, default) = match text.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (text, None),
        };
        let mut letters = name.chars();
        let sound = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if sound {
            Ok(Uri::Variable { name, default })
        } else {
            Err(Fault::new(
                format!("`{name}` is not a name of an environment variable"),
                "use letters, digits and `_`; for a `$` that is meant as such write `$$`",
            ))
        }
    }

    /// The name that positions within the source begin with.
    pub fn source(&self) -> String {
        match self {
            Uri::File(path) => (*path).to_owned(),
            Uri::Variable { name, .. } => format!("env:{name}"),
            Uri::Yaml(_) => "yaml".to_owned(),
            Uri::Web(url) => shown_url(url),
        }
    }
}

/// A URL as it may be shown: without user, password and query, each of which may be a secret.
pub(super) fn shown_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// At least two letters, so that `C:\…` is a path.
fn is_scheme(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
}

/// Gets what a URL leads to, at most [`MAX_FILE`] bytes; the error says why not,
/// without naming the URL.
pub type Fetch<'a> = &'a dyn Fn(&str, usize) -> Result<Vec<u8>, String>;

/// The world that sources are read from; tests bring their own.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub file: &'a dyn Fn(&str) -> Result<Vec<u8>, Fault>,
    pub fetch: Fetch<'a>,
}

impl World<'_> {
    /// The bytes of a source; `None` for a variable that is not set.
    pub fn read(&self, uri: &Uri<'_>) -> Result<Option<Vec<u8>>, Fault> {
        match uri {
            Uri::File(path) => (self.file)(path).map(Some),
            Uri::Yaml(text) => Ok(Some(text.as_bytes().to_vec())),
            Uri::Variable { name, default } => Ok((self.variable)(name)
                .map(OsString::into_encoded_bytes)
                .or_else(|| default.map(|text| text.as_bytes().to_vec()))),
            Uri::Web(url) => (self.fetch)(url, MAX_FILE).map(Some).map_err(|reason| {
                let message = format!("`{}` cannot be fetched: {reason}", shown_url(url));
                Fault::new(message, "check that the URL answers with the text itself")
            }),
        }
    }
}

pub(super) fn read_file(path: &str) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX);
    File::open(path)
        // One byte more than allowed, which tells a file that is too large, and an end
        // for `/dev/zero`.
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => Fault::new(
                format!("there is no file `{path}`"),
                "check the path; it is relative to the working directory",
            ),
            ErrorKind::PermissionDenied => Fault::new(
                format!("the file `{path}` may not be read"),
                "check its permissions and the user that the collector runs as",
            ),
            ErrorKind::IsADirectory => Fault::new(format!("`{path}` is a directory"), "name a file in it"),
            _ => Fault::new(format!("the file `{path}` cannot be read: {error}"), "check that it is a readable file"),
        })?;
    if bytes.len() > MAX_FILE {
        return Err(Fault::new(
            format!("the file `{path}` is larger than {} MiB", MAX_FILE >> 20),
            "check that it is the config",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable<'a>(name: &'a str, default: Option<&'a str>) -> Result<Uri<'a>, Fault> {
        Ok(Uri::Variable { name, default })
    }

    #[test]
    fn an_argument_is_a_path_unless_it_has_a_scheme() {
        assert_eq!(Uri::of_config("a.yaml"), Ok(Uri::File("a.yaml")));
        assert_eq!(Uri::of_config("file:/a.yaml"), Ok(Uri::File("/a.yaml")));
        assert_eq!(Uri::of_config("./a:b.yaml"), Ok(Uri::File("./a:b.yaml")));
        assert_eq!(Uri::of_config("c:\\a.yaml"), Ok(Uri::File("c:\\a.yaml")));
        assert_eq!(Uri::of_config("env:CONFIG"), variable("CONFIG", None));
        assert_eq!(Uri::of_config("yaml:a::b: 1"), Ok(Uri::Yaml("a::b: 1")));
        assert_eq!(Uri::of_config("http://a/b"), Ok(Uri::Web("http://a/b")));
        assert_eq!(Uri::of_config("https://a/b?c"), Ok(Uri::Web("https://a/b?c")));
        for text in ["s3:a", "env:A B"] {
            assert!(Uri::of_config(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_substitution_is_a_variable_unless_it_has_a_scheme() {
        assert_eq!(Uri::of_substitution("NAME"), variable("NAME", None));
        assert_eq!(Uri::of_substitution("env:NAME"), variable("NAME", None));
        assert_eq!(Uri::of_substitution("env:NAME:-a:-b"), variable("NAME", Some("a:-b")));
        assert_eq!(Uri::of_substitution("NAME:-"), variable("NAME", Some("")));
        assert_eq!(Uri::of_substitution("file:a"), Ok(Uri::File("a")));
        assert_eq!(Uri::of_substitution("yaml:-1"), Ok(Uri::Yaml("-1")));
        assert_eq!(Uri::of_substitution("https://a/b:-c"), Ok(Uri::Web("https://a/b:-c")));
        for text in ["", "1", "a b", "env:", "env:1A", "vault:a"] {
            assert!(Uri::of_substitution(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let message = |path| read_file(path).unwrap_err().message;
        assert_eq!(message("/nowhere/a.yaml"), "there is no file `/nowhere/a.yaml`");
        assert_eq!(message("/"), "`/` is a directory");
        assert_eq!(message("/dev/zero"), "the file `/dev/zero` is larger than 8 MiB");
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("https://user:p@ss@host:8443/a/b.yaml?token=x#y", "https://host:8443/a/b.yaml"),
            ("http://host", "http://host"),
            ("http://host?x=@y", "http://host"),
            ("http://host/a@b", "http://host/a@b"),
            ("https:nonsense", "https:nonsense"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}
