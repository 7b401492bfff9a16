//! TLS towards destinations, from the Collector's `tls` keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::Section;

/// The `tls` section of a client.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// No TLS at all.
    pub insecure: bool,
    pub insecure_skip_verify: bool,
    pub server_name: Option<String>,
    ca: Option<Pem>,
    cert: Option<Pem>,
    key: Option<Pem>,
}

#[derive(Debug, Clone)]
pub(super) enum Pem {
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
    #[error("`server_name_override` is no host name")]
    ServerName,
    #[error("`{0}` cannot be called")]
    Endpoint(String),
    #[error("TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
}

impl TlsSettings {
    pub fn read(section: Option<Section<'_>>) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let settings = Self {
            insecure: section.boolean_or("insecure", false),
            insecure_skip_verify: section.boolean_or("insecure_skip_verify", false),
            server_name: section.text("server_name_override").filter(|name| !name.is_empty()),
            ca: pem(&mut section, "ca_file", "ca_pem"),
            cert: pem(&mut section, "cert_file", "cert_pem"),
            key: pem(&mut section, "key_file", "key_pem"),
        };
        if settings.cert.is_some() != settings.key.is_some() {
            section.problem("has one of certificate and key", "set both `cert_file` and `key_file`, or neither");
        }
        section.finish();
        settings
    }

    /// For a connector that asks for TLS settings and will never use them.
    pub fn unused() -> Self {
        Self { insecure_skip_verify: true, ..Self::default() }
    }

    /// What rustls needs. The system's roots are read only here, because reading
    /// them takes longer than all the rest of a start.
    pub fn client(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = if self.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("cert_file", cert)?;
                let key = PrivateKeyDer::from_pem_slice(&key.bytes()?)
                    .map_err(|error| TlsError::Pem("key_file", error.to_string()))?;
                Ok(builder.with_client_auth_cert(chain, key)?)
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(ca) = &self.ca {
            for certificate in certificates("ca_file", ca)? {
                roots.add(certificate)?;
            }
        } else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(TlsError::NoRoots);
            }
        }
        Ok(roots)
    }
}

impl Pem {
    pub(super) fn bytes(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => read(path),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

pub(super) fn pem(section: &mut Section<'_>, file: &str, text: &str) -> Option<Pem> {
    let (path, inline) = (section.text(file), section.text(text));
    if path.is_some() && inline.is_some() {
        section.problem_at(text, format!("stands beside `{file}`"), "set one of the two");
    }
    path.map(|path| Pem::File(path.into())).or_else(|| inline.map(Pem::Text))
}

pub(super) fn certificates(key: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes()?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::Pem(key, "there is no certificate in it".into())),
        Err(error) => Err(TlsError::Pem(key, error.to_string())),
    }
}

/// Takes any certificate: what `insecure_skip_verify` asks for.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
