//! TLS of both sides, from the Collector's `tls` keys.

mod client;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::config::Section;

pub use client::{ClientTls, TlsSettings};
pub use server::{ServerTls, ServerTlsSettings};

#[derive(Debug, Clone)]
enum Pem {
    File(PathBuf),
    Text(String),
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`{0}` cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("`{0}` holds no PEM that can be used: {1}")]
    Pem(&'static str, String),
    #[error("the system has no certificates to trust, and `ca_file` is not set")]
    NoRoots,
    #[error("`{0}` cannot be called")]
    Endpoint(String),
    #[error("TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
}

/// What may be spoken.
#[derive(Debug, Clone)]
struct Cryptography {
    versions: Vec<&'static SupportedProtocolVersion>,
    /// Of TLS 1.2; empty is all.
    suites: Vec<SupportedCipherSuite>,
    /// Empty is all.
    groups: Vec<&'static dyn SupportedKxGroup>,
}

impl Default for Cryptography {
    fn default() -> Self {
        Self { versions: rustls::DEFAULT_VERSIONS.to_vec(), suites: vec![], groups: vec![] }
    }
}

impl Cryptography {
    fn read(section: &mut Section<'_>) -> Self {
        section.ignore("include_insecure_cipher_suites");
        // Off unless it says otherwise, unlike other sections.
        if section.section("tpm").and_then(|mut tpm| tpm.boolean("enabled")) == Some(true) {
            section.refuse("tpm", "keys in a TPM cannot be used", "give the key as a file: `key_file`");
        }
        Self {
            versions: read_versions(section),
            suites: read_named(section, "cipher_suites", &SUITES, "is no cipher suite that is spoken here"),
            groups: read_named(section, "curve_preferences", &GROUPS, "is no curve that is spoken here"),
        }
    }

    /// ring's, narrowed.
    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider: CryptoProvider = ring::default_provider();
        if !self.suites.is_empty() {
            provider.cipher_suites.retain(|suite| suite.tls13().is_some() || self.suites.contains(suite));
        }
        if !self.groups.is_empty() {
            provider.kx_groups.clone_from(&self.groups);
        }
        Arc::new(provider)
    }
}

/// TLS 1.2's suites that can be chosen, with Go's names; those of 1.3 cannot be, there either.
const SUITES: [(&str, SupportedCipherSuite); 6] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", ring::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

const GROUPS: [(&str, &dyn SupportedKxGroup); 3] =
    [("X25519", ring::kx_group::X25519), ("P256", ring::kx_group::SECP256R1), ("P384", ring::kx_group::SECP384R1)];

fn read_versions(section: &mut Section<'_>) -> Vec<&'static SupportedProtocolVersion> {
    let mut bound = |key: &str, usual: u8| match section.text(key).as_deref() {
        None | Some("") => usual,
        Some("1.2") => 2,
        Some("1.3") => 3,
        Some("1.0" | "1.1") if key == "min_version" => {
            let hint = "write `1.2`: every client of the last ten years speaks it";
            section.warning_at(key, "TLS 1.0 and 1.1 are not spoken here: 1.2 is the least", hint);
            usual
        }
        Some(other) => {
            section.problem_at(key, format!("`{other}` is no TLS version"), "write `1.2` or `1.3`, in quotes");
            usual
        }
    };
    let (least, most) = (bound("min_version", 2), bound("max_version", 3));
    if least > most {
        section.problem_at("max_version", "is below `min_version`", "");
    }
    let all = [(2, &rustls::version::TLS12), (3, &rustls::version::TLS13)];
    all.into_iter().filter(|(version, _)| (least..=most).contains(version)).map(|(_, version)| version).collect()
}

/// What a list of names means; a name that means nothing is reported.
fn read_named<T: Copy>(section: &mut Section<'_>, key: &str, known: &[(&str, T)], unknown: &str) -> Vec<T> {
    let mut found = vec![];
    for name in section.texts_or(key, &[]) {
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => found.push(*value),
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                section.problem_at(key, format!("`{name}` {unknown}"), format!("choose from {}", names.join(", ")));
            }
        }
    }
    found
}

impl Pem {
    fn bytes(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => read(path),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

fn pem(section: &mut Section<'_>, file: &str, text: &str) -> Option<Pem> {
    let (path, inline) = (section.text(file), section.text(text));
    if path.is_some() && inline.is_some() {
        section.problem_at(text, format!("stands beside `{file}`"), "set one of the two");
    }
    path.map(|path| Pem::File(path.into())).or_else(|| inline.map(Pem::Text))
}

fn certificates(key: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes()?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::Pem(key, "there is no certificate in it".into())),
        Err(error) => Err(TlsError::Pem(key, error.to_string())),
    }
}

/// A private key in any of PEM's forms.
fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&pem.bytes()?).map_err(|error| TlsError::Pem("key_file", error.to_string()))
}
