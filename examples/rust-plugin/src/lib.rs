//! A plugin that most teams want first: it drops health checks, sets one
//! attribute on every span that stays and masks e-mail addresses.

use serde::Deserialize;
use vespid_plugin::{Batch, Edits, Owner, Pattern, Processor, Rejection, export};

/// The attributes in which instrumentations put a request's path.
const PATH_KEYS: [&str; 3] = ["url.path", "http.target", "http.route"];

/// An e-mail address, in any script.
const ADDRESS: &str = r"[-\w.%+\x{80}-\x{10ffff}]+@[-\w\x{80}-\x{10ffff}]+(\.[-\w\x{80}-\x{10ffff}]+)+";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Paths and methods that only probes call. A span goes when its path or
    /// the last word of its name is one of them.
    #[serde(default = "usual_health_checks")]
    health_checks: Vec<String>,
    set: Option<Attribute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    key: String,
    value: String,
}

fn usual_health_checks() -> Vec<String> {
    ["/healthz", "/livez", "/readyz", "grpc.health.v1.Health/Check"].map(str::to_owned).to_vec()
}

pub struct Tidy {
    config: Config,
    address: Pattern,
}

impl Processor for Tidy {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Rejection> {
        match &config.set {
            Some(set) if set.key.is_empty() => Err(Rejection::new("set.key: is empty")),
            _ => Ok(Self { config, address: Pattern::new(ADDRESS)? }),
        }
    }

    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
        edits.drop_spans(&self.health_checks(batch), "health check");
        if let Some(set) = &self.config.set {
            let rows: Vec<u32> = batch.rows().collect();
            edits.set(Owner::Span, &rows, &set.key, &set.value);
        }
        for owner in Owner::ALL {
            edits.replace_matches(owner, &[self.address], "****");
        }
        Ok(())
    }
}

impl Tidy {
    fn health_checks(&self, batch: &Batch) -> Vec<u32> {
        // A server names a span `GET /healthz` or after the method alone.
        let mut rows = batch.rows_named(|name| self.is_check(name.rsplit(' ').next()));
        for key in PATH_KEYS {
            let paths = batch.text_attribute(Owner::Span, key);
            rows.extend(paths.rows_where(|path| self.is_check(path.split('?').next())));
        }
        rows
    }

    fn is_check(&self, path: Option<&str>) -> bool {
        self.config.health_checks.iter().any(|check| Some(check.as_str()) == path)
    }
}

export!(Tidy);
