//! Memcached commands: the first line holds the command and its keys, what follows
//! is the value.

pub fn sanitize(command: &str) -> String {
    command.split("\r\n").next().unwrap_or_default().trim().to_owned()
}
