//! The `basicauth` extension: names and passwords, in either direction.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::sync::Semaphore;

use super::htpasswd::Users;
use super::watched::{FileError, Watched};
use crate::component::{Authenticator, Authorizer, BoxFuture, ConsumeError, Identity, Unauthenticated};
use crate::config::Section;
use crate::traces::Context;

#[derive(Debug, Clone)]
pub enum BasicAuthSettings {
    Server { file: Option<PathBuf>, inline: String },
    Client { username: Secret, password: Secret },
}

/// A text of the config, or a file that holds it.
#[derive(Debug, Clone)]
pub enum Secret {
    Text(String),
    File(PathBuf),
}

impl Secret {
    /// The file counts where both are set.
    fn read(section: &mut Section<'_>, text: &str, file: &str) -> Self {
        let (text, file) = (section.text(text), section.text(file).filter(|path| !path.is_empty()));
        file.map(|path| Self::File(path.into())).unwrap_or_else(|| Self::Text(text.unwrap_or_default()))
    }

    pub fn watch(&self) -> Result<Watched<String>, FileError> {
        match self {
            Self::Text(text) => Ok(Watched::fixed(text.clone())),
            Self::File(path) => Watched::open(path, |text| Ok(text.trim().to_owned())),
        }
    }
}

impl BasicAuthSettings {
    pub fn read(mut section: Section<'_>) -> Option<Self> {
        let server = section.section("htpasswd").map(|mut section| {
            let file = section.text("file").filter(|path| !path.is_empty()).map(PathBuf::from);
            let inline = section.text_or("inline", "");
            if file.is_none() && inline.is_empty() {
                section.problem("no credential source provided", "set `file` or `inline`");
            }
            section.finish();
            Self::Server { file, inline }
        });
        let client = section.section("client_auth").map(|mut section| {
            section.refuse("aws_secrets_manager", "secrets are not fetched from AWS", "use `password_file`");
            let username = Secret::read(&mut section, "username", "username_file");
            let password = Secret::read(&mut section, "password", "password_file");
            if matches!(&username, Secret::Text(name) if name.contains(':')) {
                section.problem_at("username", "invalid authorization format: there is a `:` in the name", "");
            }
            section.finish();
            Self::Client { username, password }
        });
        match (&server, &client) {
            (None, None) => section.problem("no credential source provided", "set `htpasswd` or `client_auth`"),
            (Some(_), Some(_)) => section.problem(
                "only one of `htpasswd` or `client_auth` can be specified",
                "make it two extensions: `basicauth/server` and `basicauth/client`",
            ),
            _ => {}
        }
        section.finish();
        server.or(client)
    }
}

/// Lets in who knows a password of the list.
pub struct BasicAuthServer {
    users: Watched<Users>,
    /// Hashing may not take all CPUs, whatever comes in.
    hashing: Semaphore,
}

const HASHING: usize = 4;

impl BasicAuthServer {
    pub fn new(file: Option<PathBuf>, inline: String) -> Result<Self, FileError> {
        let users = match file {
            // What the config itself says counts before the file.
            Some(path) => Watched::open(&path, move |text| Users::parse(&format!("{text}\n{inline}")))?,
            None => Watched::fixed(
                Users::parse(&inline).map_err(|message| FileError::Content("htpasswd.inline".into(), message))?,
            ),
        };
        Ok(Self { users, hashing: Semaphore::new(HASHING) })
    }

    async fn check(&self, headers: &HeaderMap) -> Result<Identity, Unauthenticated> {
        let header = headers.get(AUTHORIZATION).ok_or(Unauthenticated("no basic auth provided"))?;
        let (scheme, raw) = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or(Unauthenticated("invalid authorization format"))?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(Unauthenticated("invalid authorization scheme prefix"));
        }
        let decoded = STANDARD.decode(raw.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (name, password) = decoded
            .as_ref()
            .and_then(|text| text.split_once(':'))
            .ok_or(Unauthenticated("invalid authorization format"))?;
        let users = self.users.get();
        if !users.knows(name, password) {
            let _permit = self.hashing.acquire().await;
            let (owned, checked) = ((name.to_owned(), password.to_owned()), Arc::clone(&users));
            let right = tokio::task::spawn_blocking(move || checked.verify(&owned.0, &owned.1)).await;
            if !right.unwrap_or(false) {
                return Err(Unauthenticated("invalid credentials"));
            }
        }
        Ok(vec![("username".into(), name.to_owned()), ("raw".into(), raw.trim().to_owned())])
    }
}

impl Authenticator for BasicAuthServer {
    fn authenticate<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<Identity, Unauthenticated>> {
        Box::pin(self.check(headers))
    }

    fn challenge(&self) -> &str {
        "Basic"
    }
}

/// Shows a name and a password to a destination.
pub struct BasicAuthClient {
    username: Watched<String>,
    password: Watched<String>,
}

impl BasicAuthClient {
    pub fn new(username: &Secret, password: &Secret) -> Result<Self, FileError> {
        Ok(Self { username: username.watch()?, password: password.watch()? })
    }
}

impl Authorizer for BasicAuthClient {
    fn authorize(&self, headers: &mut HeaderMap, _: &Context) -> Result<(), ConsumeError> {
        let pair = STANDARD.encode(format!("{}:{}", self.username.get(), self.password.get()));
        // Base64 can always stand in a header.
        if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {pair}")) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    fn shows_secrets(&self) -> bool {
        true
    }
}
