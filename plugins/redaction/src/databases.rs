//! Which sanitizer a statement gets: a matter of the database that its span names.

use std::collections::HashSet;

use crate::config::{Database, DbSanitizer};
use crate::sanitize::{self, Dialect};

/// The attributes that name the database, the newer first.
pub const SYSTEM_KEYS: [&str; 2] = ["db.system.name", "db.system"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum System {
    Sql { my_sql: bool },
    Redis,
    Valkey,
    Memcached,
    Mongo,
    OpenSearch,
    Elasticsearch,
}

impl System {
    pub fn of(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "mysql" => System::Sql { my_sql: true },
            "other_sql" | "postgresql" | "mariadb" | "sqlite" => System::Sql { my_sql: false },
            "redis" => System::Redis,
            "valkey" => System::Valkey,
            "memcached" => System::Memcached,
            "mongodb" => System::Mongo,
            "opensearch" => System::OpenSearch,
            "elasticsearch" => System::Elasticsearch,
            _ => return None,
        })
    }
}

struct Sanitizer {
    enabled: bool,
    attributes: HashSet<String>,
}

impl From<Database> for Sanitizer {
    fn from(config: Database) -> Self {
        Self { enabled: config.enabled, attributes: config.attributes.0.into_iter().collect() }
    }
}

pub struct Databases {
    names: bool,
    sql: Sanitizer,
    redis: Sanitizer,
    valkey: Sanitizer,
    memcached: Sanitizer,
    mongo: Sanitizer,
    open_search: Sanitizer,
    elasticsearch: Sanitizer,
}

impl Databases {
    pub fn new(config: DbSanitizer) -> Self {
        let names_only = |config: Database| Sanitizer { enabled: config.enabled, attributes: HashSet::new() };
        Self {
            names: config.sanitize_span_name.unwrap_or(true),
            sql: config.sql.into(),
            redis: config.redis.into(),
            valkey: config.valkey.into(),
            memcached: config.memcached.into(),
            mongo: config.mongo.into(),
            open_search: names_only(config.opensearch),
            elasticsearch: names_only(config.es),
        }
    }

    fn all(&self) -> [&Sanitizer; 7] {
        [&self.sql, &self.redis, &self.valkey, &self.memcached, &self.mongo, &self.open_search, &self.elasticsearch]
    }

    /// True where span names are sanitized.
    pub fn takes_names(&self) -> bool {
        self.names && self.all().iter().any(|sanitizer| sanitizer.enabled)
    }

    pub fn takes(&self, key: &str) -> bool {
        self.all().iter().any(|sanitizer| sanitizer.enabled && sanitizer.attributes.contains(key))
    }

    pub fn takes_sql(&self) -> bool {
        self.sql.enabled
    }

    fn sanitizer(&self, system: System) -> &Sanitizer {
        match system {
            System::Sql { .. } => &self.sql,
            System::Redis => &self.redis,
            System::Valkey => &self.valkey,
            System::Memcached => &self.memcached,
            System::Mongo => &self.mongo,
            System::OpenSearch => &self.open_search,
            System::Elasticsearch => &self.elasticsearch,
        }
    }

    /// An attribute's statement, where this system has it sanitized.
    pub fn attribute(&self, key: &str, text: &str, system: System, dialect: Dialect) -> Option<String> {
        let sanitizer = self.sanitizer(system);
        (sanitizer.enabled && sanitizer.attributes.contains(key)).then(|| sanitize(text, system, dialect))
    }

    pub fn name(&self, name: &str, system: System) -> Option<String> {
        let dialect = match system {
            System::Sql { my_sql: true } => Dialect::MySql,
            _ => Dialect::Any,
        };
        self.sanitizer(system).enabled.then(|| sanitize(name, system, dialect))
    }
}

fn sanitize(text: &str, system: System, dialect: Dialect) -> String {
    match system {
        System::Sql { .. } => sanitize::sql(text, dialect),
        System::Redis | System::Valkey => sanitize::redis(text),
        System::Memcached => sanitize::memcached(text),
        System::Mongo | System::OpenSearch | System::Elasticsearch => {
            sanitize::json(text).unwrap_or_else(|| text.to_owned())
        }
    }
}
