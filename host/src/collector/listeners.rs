//! What a config listens on: no two may want the same port or socket. A start would
//! find out only at the second one, and `validate` not at all.

use std::net::IpAddr;
use std::path::Path;

use super::telemetry::{Reader, TelemetrySettings};
use super::used;
use crate::config::{Component, Config, Node, Position, Problem, Problems, Value};
use crate::receiver::otlp::Endpoint;
use crate::registry::{Blueprint, ExtensionSettings, ReceiverSettings};

/// Someone's wish to listen.
pub(super) struct Claim {
    path: String,
    at: Option<Position>,
    pub endpoint: Endpoint,
}

impl Claim {
    /// What is wrong with it, where it stands.
    pub fn problem(&self, message: String, hint: &str) -> Problem {
        let problem = Problem::new(&self.path, message).hint(hint);
        Problem { at: self.at.clone(), ..problem }
    }
}

/// Reports what cannot be listened on together, and sockets without a folder.
pub(super) fn check(config: &Config, blueprint: &Blueprint, telemetry: &TelemetrySettings, problems: &Problems) {
    let claims = claims(config, blueprint, telemetry);
    for (index, claim) in claims.iter().enumerate() {
        if let Endpoint::Unix(path) = &claim.endpoint {
            check_folder(claim, path, problems);
        }
        let Some(first) = claims.iter().take(index).find(|other| clash(&other.endpoint, &claim.endpoint)) else {
            continue;
        };
        let place = first.at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
        let message = format!("`{}` is what `{}` listens on too{place}", claim.endpoint, first.path);
        problems.error(claim.problem(message, "choose another port, or remove one of the two"));
    }
}

/// All that a config listens on.
pub(super) fn claims(config: &Config, blueprint: &Blueprint, telemetry: &TelemetrySettings) -> Vec<Claim> {
    let mut claims = vec![];
    for component in used(&config.receivers, config, |pipeline| &pipeline.receivers) {
        let Some(ReceiverSettings::Otlp(settings)) = blueprint.receivers.get(&component.id) else { continue };
        for (name, protocol) in [("grpc", &settings.grpc), ("http", &settings.http)] {
            let Some(protocol) = protocol else { continue };
            claims.push(claim(component, &["protocols", name, "endpoint"], protocol.endpoint.clone()));
        }
    }
    for component in &config.extensions {
        let listed = config.service.extensions.iter().any(|reference| reference.id == component.id);
        let endpoints: Vec<&String> = match blueprint.extensions.get(&component.id).filter(|_| listed) {
            Some(ExtensionSettings::Health(settings)) => {
                settings.0.iter().map(|server| &server.port.endpoint).collect()
            }
            Some(ExtensionSettings::Zpages(settings)) => vec![&settings.port.endpoint],
            _ => continue,
        };
        claims.extend(endpoints.into_iter().map(|it| claim(component, &["endpoint"], Endpoint::Tcp(it.clone()))));
    }
    for reader in &telemetry.readers {
        let Reader::Pull(settings) = reader else { continue };
        let at = config.service.telemetry.as_ref().and_then(|node| place(node, &["metrics", "readers"]));
        let endpoint = Endpoint::Tcp(settings.endpoint.clone());
        claims.push(Claim { path: "service.telemetry.metrics".into(), at: at.cloned(), endpoint });
    }
    claims
}

fn claim(component: &Component, keys: &[&str], endpoint: Endpoint) -> Claim {
    let at = place(&component.settings, keys).unwrap_or(&component.at).clone();
    Claim { path: format!("{}.{}", component.path, keys.join(".")), at: Some(at), endpoint }
}

/// What stands under these keys.
pub(super) fn node<'a>(node: &'a Node, keys: &[&str]) -> Option<&'a Node> {
    keys.iter().try_fold(node, |node, key| match &node.value {
        Value::Map(map) => map.get(key).map(|(_, node)| node),
        _ => None,
    })
}

/// The place of the innermost of the keys that is written.
fn place<'a>(node: &'a Node, keys: &[&str]) -> Option<&'a Position> {
    let mut found = None;
    let mut here = node;
    for key in keys {
        let Value::Map(map) = &here.value else { break };
        let Some((name, value)) = map.get(key) else { break };
        found = Some(if matches!(value.value, Value::Map(_) | Value::Null) { &name.at } else { &value.at });
        here = value;
    }
    found
}

fn check_folder(claim: &Claim, path: &Path, problems: &Problems) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Some(folder) = folder.filter(|folder| !folder.is_dir()) else { return };
    let message = format!("there is no folder `{}` for the socket", folder.display());
    problems.error(claim.problem(message, "create it, or choose another path"));
}

fn clash(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Unix(one), Endpoint::Unix(other)) => one == other,
        (Endpoint::Tcp(one), Endpoint::Tcp(other)) => {
            let (Some(one), Some(other)) = (address(one), address(other)) else { return false };
            // Port 0 is any port that is free. All addresses are also the other's.
            one.1 == other.1 && one.1 != 0 && (one.0 == other.0 || one.0 == ALL || other.0 == ALL)
        }
        _ => false,
    }
}

/// All addresses of the machine.
const ALL: &str = "*";

/// Host and port, names of the same host alike.
fn address(endpoint: &str) -> Option<(String, u16)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let host = match host.parse::<IpAddr>() {
        _ if host.is_empty() => ALL.into(),
        Ok(ip) if ip.is_unspecified() => ALL.into(),
        Ok(ip) => ip.to_string(),
        Err(_) if host == "localhost" => "127.0.0.1".into(),
        Err(_) => host,
    };
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_to_write_one_address_clash() {
        let tcp = |text: &str| Endpoint::Tcp(text.into());
        for (one, other, expected) in [
            ("localhost:4317", "127.0.0.1:4317", true),
            ("0.0.0.0:4317", "localhost:4317", true),
            ("[::]:4317", "10.0.0.1:4317", true),
            (":4317", "host:4317", true),
            ("Host:1", "host:1", true),
            ("[::1]:1", "[0:0::1]:1", true),
            ("127.0.0.1:4317", "127.0.0.2:4317", false),
            ("localhost:4317", "localhost:4318", false),
            ("localhost:0", "localhost:0", false),
        ] {
            assert_eq!(clash(&tcp(one), &tcp(other)), expected, "{one} {other}");
        }
        assert!(clash(&Endpoint::Unix("/a".into()), &Endpoint::Unix("/a".into())));
        assert!(!clash(&Endpoint::Unix("/a".into()), &tcp("/a")));
    }
}
