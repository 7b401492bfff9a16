//! Who the collector is, in its own telemetry (`service.telemetry.resource`).

use std::sync::OnceLock;

/// Attributes in the order in which they are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource(Vec<(String, String)>);

impl Resource {
    /// What stands in it where the config says nothing. Each process is an instance of
    /// its own, whatever config it has read last.
    pub fn standard() -> Self {
        static INSTANCE: OnceLock<String> = OnceLock::new();
        let pair = |name: &str, value: String| (name.to_owned(), value);
        Self(vec![
            pair("service.instance.id", INSTANCE.get_or_init(random_uuid).clone()),
            pair("service.name", "vespid".into()),
            pair("service.version", env!("CARGO_PKG_VERSION").into()),
        ])
    }

    pub fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub fn attributes(&self) -> &[(String, String)] {
        &self.0
    }
}

/// A UUID of version 4. It tells instances apart and guards nothing.
fn random_uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_a_uuid_of_version_4() {
        let (one, other) = (random_uuid(), random_uuid());
        assert_ne!(one, other);
        assert_eq!((one.len(), one.as_bytes()[14], one.matches('-').count()), (36, b'4', 4));
        assert!("89ab".contains(one.as_bytes()[19] as char), "{one}");
    }
}
