//! A config that may be shown: values that are secrets, by the names of their keys,
//! are hidden.

use super::node::{Map, Node, Value};

/// Whether a printed config shows its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    Hidden,
    Shown,
}

const HIDDEN: &str = "[REDACTED]";

/// A key with one of these in its name holds a secret. Names are compared in lower
/// case, and without what is no letter.
const PARTS: [&str; 15] = [
    "accesskey",
    "apikey",
    "authorization",
    "connectionstring",
    "cookie",
    "credential",
    "hmackey",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "sharedkey",
    "signingkey",
    "token",
];
/// PEM text in place of a file: `key_pem`, `cert_pem`, `ca_pem`.
const PEM: &str = "pem";
/// Names that end so tell where a secret is, or what it is like, and not the secret.
const HARMLESS_ENDS: [&str; 12] =
    ["file", "filename", "url", "path", "endpoint", "type", "header", "scheme", "name", "expiry", "buffer", "interval"];
/// All values below these are secrets: any header may carry one.
const HEADERS: [&str; 4] = ["headers", "responseheaders", "additionalheaders", "metadata"];
/// Within an item of a list of headers only these are.
const HEADER_VALUES: [&str; 2] = ["value", "defaultvalue"];
/// `htpasswd: {inline: …}`.
const HTPASSWD: (&str, &str) = ("htpasswd", "inline");

pub(super) fn redacted(node: &Node) -> Node {
    within(node, "")
}

/// A node below a key, whose name is plain.
fn within(node: &Node, key: &str) -> Node {
    match &node.value {
        Value::Map(map) if HEADERS.contains(&key) => with_values(node, map, |_, value| all_hidden(value)),
        Value::Map(map) => with_values(node, map, |name, value| {
            let name = plain(name);
            let is_part = name == HTPASSWD.0 && matches!(value.value, Value::Map(_));
            let hidden = (is_secret(&name) && !is_part) || (key, name.as_str()) == HTPASSWD;
            if hidden { all_hidden(value) } else { within(value, &name) }
        }),
        Value::List(items) if HEADERS.contains(&key) => with_items(node, items, header),
        Value::List(items) => with_items(node, items, |item| within(item, key)),
        Value::Text(text) if text.contains("PRIVATE KEY-----") => all_hidden(node),
        Value::Text(text) => Node::new(Value::Text(without_user(text)), node.at.clone()),
        _ => node.clone(),
    }
}

/// `{name: …, value: …}`.
fn header(item: &Node) -> Node {
    match &item.value {
        Value::Map(map) => with_values(item, map, |name, value| {
            if HEADER_VALUES.contains(&plain(name).as_str()) { all_hidden(value) } else { value.clone() }
        }),
        _ => all_hidden(item),
    }
}

/// Scalars are hidden; what is not set, and what is only on or off, tells nothing.
fn all_hidden(node: &Node) -> Node {
    match &node.value {
        Value::Null | Value::Bool(_) => node.clone(),
        Value::List(items) => with_items(node, items, all_hidden),
        Value::Map(map) => with_values(node, map, |_, value| all_hidden(value)),
        _ => Node::new(Value::Text(HIDDEN.to_owned()), node.at.clone()),
    }
}

fn with_values(node: &Node, map: &Map, change: impl Fn(&str, &Node) -> Node) -> Node {
    let entries = map.entries.iter().map(|(key, value)| (key.clone(), change(&key.name, value))).collect();
    Node::new(Value::Map(Map { entries }), node.at.clone())
}

fn with_items(node: &Node, items: &[Node], change: impl Fn(&Node) -> Node) -> Node {
    Node::new(Value::List(items.iter().map(change).collect()), node.at.clone())
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_secret(name: &str) -> bool {
    if HARMLESS_ENDS.iter().any(|end| name.ends_with(end)) {
        return false;
    }
    name.ends_with(PEM) || PARTS.iter().any(|part| name.contains(part))
}

/// A URL's user and password are hidden: `https://[REDACTED]@host/`.
fn without_user(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(|c: char| "/?# \t\n\"'".contains(c)).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        shown.push_str(before);
        shown.push_str("://");
        if let Some((_, host)) = authority.rsplit_once('@') {
            shown.push_str(HIDDEN);
            shown.push('@');
            shown.push_str(host);
        } else {
            shown.push_str(authority);
        }
        rest = tail;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse_for_tests as parse;
    use super::*;

    fn shown(text: &str) -> serde_json::Value {
        redacted(&parse(text)).to_json("", &super::super::Problems::new())
    }

    #[test]
    fn secrets_are_hidden_by_the_names_of_their_keys() {
        let text = "\
client_auth: {username: ann, password: s, password_file: /p}
tls: {key_pem: s, cert_file: /c, insecure: true}
tokens: [s, 1]
token: ~
api-key: 0x1
clientSecret: {a: s, b: [s]}
token_url: https://host/t
htpasswd: {inline: 'a:s', file: /h}
inline: kept
";
        assert_eq!(
            shown(text),
            serde_json::json!({
                "client_auth": {"username": "ann", "password": HIDDEN, "password_file": "/p"},
                "tls": {"key_pem": HIDDEN, "cert_file": "/c", "insecure": true},
                "tokens": [HIDDEN, HIDDEN],
                "token": null,
                "api-key": HIDDEN,
                "clientSecret": {"a": HIDDEN, "b": [HIDDEN]},
                "token_url": "https://host/t",
                "htpasswd": {"inline": HIDDEN, "file": "/h"},
                "inline": "kept",
            })
        );
    }

    #[test]
    fn every_header_is_hidden_in_both_forms() {
        assert_eq!(
            shown(
                "a: {headers: {X-Scope-OrgID: s, n: 1}}\nb: {headers: [{name: x, value: s}, {key: k, from_context: c}]}"
            ),
            serde_json::json!({
                "a": {"headers": {"X-Scope-OrgID": HIDDEN, "n": HIDDEN}},
                "b": {"headers": [{"name": "x", "value": HIDDEN}, {"key": "k", "from_context": "c"}]},
            })
        );
    }

    #[test]
    fn a_urls_user_is_hidden_wherever_it_stands() {
        assert_eq!(
            shown("['https://u:p@h:1/a@b', 'x http://u@h y', 'http://h', '//u@h']"),
            serde_json::json!(["https://[REDACTED]@h:1/a@b", "x http://[REDACTED]@h y", "http://h", "//u@h"])
        );
    }
}
