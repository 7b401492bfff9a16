//! TLS of servers, from the Collector's `tls` keys: a certificate of our own, and
//! where clients have to show one, the authorities that may have signed it. Files
//! are read again when they may have changed; until that succeeds the old stay.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::super::listen::Versions;
use super::{Cryptography, Pem, TlsError, certificates, pem, private_key};
use crate::config::{Position, Problem, Section};

/// The `tls` section of a server.
#[derive(Debug, Clone)]
pub struct ServerTlsSettings {
    cert: Pem,
    key: Pem,
    client_ca: Option<Pem>,
    /// Whether a changed `client_ca_file` counts at once.
    reload_client_ca: bool,
    with_system_roots: bool,
    cryptography: Cryptography,
    /// The certificate's files are read again after so long; `None` is never.
    reload_interval: Option<Duration>,
    path: String,
    at: Option<Position>,
}

impl ServerTlsSettings {
    /// `None` where the section says `key:` and nothing more, or something wrong.
    pub fn read(mut section: Section<'_>) -> Option<Self> {
        let (path, at) = (section.path().to_owned(), section.at().cloned());
        let (cert, key) = (pem(&mut section, "cert_file", "cert_pem"), pem(&mut section, "key_file", "key_pem"));
        let client_ca = section.text("client_ca_file").map(|path| Pem::File(path.into()));
        // A server verifies nobody with these, but they are keys of its section.
        let _ = pem(&mut section, "ca_file", "ca_pem");
        let reload_client_ca = section.boolean_or("client_ca_file_reload", false);
        let with_system_roots = section.boolean_or("include_system_ca_certs_pool", false);
        let cryptography = Cryptography::read(&mut section);
        let reload_interval = section.duration("reload_interval").filter(|interval| !interval.is_zero());
        if cert.is_none() || key.is_none() {
            let hint = "set `cert_file` and `key_file`, or remove `tls` to speak without TLS";
            section.problem("has no certificate and key", hint);
        }
        section.finish();
        let (cert, key) = (cert?, key?);
        Some(Self {
            cert,
            key,
            client_ca,
            reload_client_ca,
            with_system_roots,
            cryptography,
            reload_interval,
            path,
            at,
        })
    }

    /// What is wrong with the files, at the setting.
    pub fn problem(&self, error: &TlsError) -> Problem {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let problem = Problem::new(self.path.as_str(), format!("{error}{cause}"));
        match &self.at {
            Some(at) => problem.at(at),
            None => problem,
        }
    }

    fn config(&self, versions: Versions) -> Result<ServerConfig, TlsError> {
        let provider = self.cryptography.provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.cryptography.versions)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client_ca_file", ca)? {
                    roots.add(certificate)?;
                }
                if self.with_system_roots {
                    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let verifier = verifier.map_err(|error| TlsError::Pem("client_ca_file", error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = private_key(&self.key)?;
        let mut config = builder.with_single_cert(certificates("cert_file", &self.cert)?, key)?;
        config.alpn_protocols = match versions {
            Versions::Http2 => vec![b"h2".to_vec()],
            Versions::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(config)
    }

    fn stamps(&self) -> Stamps {
        let stamp = |pem: &Pem| match pem {
            Pem::File(path) => Some((path.clone(), std::fs::metadata(path).and_then(|found| found.modified()).ok())),
            Pem::Text(_) => None,
        };
        self.client_ca.as_ref().filter(|_| self.reload_client_ca).and_then(stamp)
    }
}

/// What `client_ca_file` was when it was read last.
type Stamps = Option<(PathBuf, Option<SystemTime>)>;

/// TLS as a listener uses it.
pub struct ServerTls {
    settings: ServerTlsSettings,
    versions: Versions,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    read_at: Instant,
    looked_at: Instant,
    stamps: Stamps,
}

/// The file of the clients' authorities is looked at this often at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl ServerTls {
    /// Reads the files.
    pub fn new(settings: ServerTlsSettings, versions: Versions) -> Result<Self, TlsError> {
        let now = Instant::now();
        let stamps = settings.stamps();
        let config = Arc::new(settings.config(versions)?);
        let loaded = Mutex::new(Loaded { config, read_at: now, looked_at: now, stamps });
        Ok(Self { settings, versions, loaded })
    }

    /// What the next connection is greeted with.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_old = self.settings.reload_interval.is_some_and(|interval| now - loaded.read_at >= interval);
        let mut stamps = None;
        if self.settings.reload_client_ca && now - loaded.looked_at >= LOOK_EVERY {
            loaded.looked_at = now;
            stamps = Some(self.settings.stamps()).filter(|stamps| *stamps != loaded.stamps);
        }
        if is_old || stamps.is_some() {
            loaded.read_at = now;
            if let Some(stamps) = stamps {
                loaded.stamps = stamps;
            }
            match self.settings.config(self.versions) {
                Ok(config) => loaded.config = Arc::new(config),
                Err(error) => {
                    let problem = self.settings.problem(&error);
                    tracing::warn!(
                        "{}: {}; the certificates that were read before stay",
                        problem.path,
                        problem.message
                    );
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&loaded.config))
    }
}
