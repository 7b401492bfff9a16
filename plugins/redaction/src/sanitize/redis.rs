//! Redis commands, one a line: keys stay, values become `?`. Which argument is a
//! value is a matter of the command.

/// Where a command has its values, counted in arguments from 0.
enum Values {
    /// All from this one on become a single `?`.
    From(usize),
    At(usize),
    /// The last of every group of so many, after some that are passed over.
    Every { skip: usize, size: usize },
}

pub fn sanitize(commands: &str) -> String {
    let mut tokens = Tokens::of(commands.trim());
    let mut out = String::with_capacity(commands.len());
    let (mut command, mut arguments) = ("", Vec::new());
    loop {
        let token = tokens.next();
        if token.is_command {
            if !command.is_empty() {
                write(&mut out, command, &mut arguments);
                out.push('\n');
            }
            command = token.text;
            arguments.clear();
        } else {
            arguments.push(token.text);
        }
        if token.is_last {
            write(&mut out, command, &mut arguments);
            return out;
        }
    }
}

fn write(out: &mut String, command: &str, arguments: &mut Vec<&str>) {
    out.push_str(command);
    if arguments.is_empty() {
        return;
    }
    hide(&command.to_uppercase(), arguments);
    for argument in arguments {
        out.push(' ');
        out.push_str(argument);
    }
}

fn hide(command: &str, arguments: &mut Vec<&str>) {
    let values = match command {
        "AUTH" => Values::From(0),
        "APPEND" | "GETSET" | "LPUSHX" | "GEORADIUSBYMEMBER" | "RPUSHX" | "SET" | "SETNX" | "SISMEMBER" | "ZRANK"
        | "ZREVRANK" | "ZSCORE" => Values::At(1),
        "HSETNX" | "LREM" | "LSET" | "SETBIT" | "SETEX" | "PSETEX" | "SETRANGE" | "ZINCRBY" | "SMOVE" | "RESTORE" => {
            Values::At(2)
        }
        "LINSERT" => Values::At(3),
        "GEOHASH" | "GEOPOS" | "GEODIST" | "LPUSH" | "RPUSH" | "SREM" | "ZREM" | "SADD" => Values::From(1),
        "GEOADD" => Values::Every { skip: 1, size: 3 },
        "HSET" | "HMSET" => Values::Every { skip: 1, size: 2 },
        "MSET" | "MSETNX" => Values::Every { skip: 0, size: 2 },
        "CONFIG" if arguments.first().is_some_and(|first| first.to_uppercase() == "SET") => Values::At(2),
        "BITFIELD" => match last_set(arguments) {
            Some(at) => Values::At(at),
            None => return,
        },
        "ZADD" => {
            let is_option = |argument: &&&str| matches!(**argument, "NX" | "XX" | "CH" | "INCR");
            let options = arguments.iter().skip(1).take_while(is_option).count();
            // Without a score the count stops at the last argument.
            Values::Every { skip: (options + 1).min(arguments.len() - 1), size: 2 }
        }
        _ => return,
    };
    match values {
        Values::From(at) if at < arguments.len() => {
            arguments.truncate(at);
            arguments.push("?");
        }
        Values::From(_) => {}
        Values::At(at) => {
            if let Some(argument) = arguments.get_mut(at) {
                *argument = "?";
            }
        }
        Values::Every { skip, size } => {
            arguments.iter_mut().skip(skip + size - 1).step_by(size).for_each(|argument| *argument = "?");
        }
    }
}

/// The value of BITFIELD's `SET type offset value`: three behind the last `SET`
/// that stands before it. One that is the first argument is the key.
fn last_set(arguments: &[&str]) -> Option<usize> {
    let mut set = 0;
    for (at, argument) in arguments.iter().enumerate() {
        if argument.to_uppercase() == "SET" {
            set = at;
        }
        if set > 0 && at - set == 3 {
            return Some(at);
        }
    }
    None
}

struct Token<'t> {
    text: &'t str,
    is_command: bool,
    is_last: bool,
}

struct Tokens<'t> {
    text: &'t str,
    at: usize,
    in_command: bool,
}

impl<'t> Tokens<'t> {
    fn of(text: &'t str) -> Self {
        Self { text, at: 0, in_command: true }
    }

    fn next(&mut self) -> Token<'t> {
        if self.in_command { self.command() } else { self.argument() }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn token(&self, start: usize, end: usize, is_command: bool, is_last: bool) -> Token<'t> {
        Token { text: self.text.get(start..end).unwrap_or_default(), is_command, is_last }
    }

    fn command(&mut self) -> Token<'t> {
        if self.peek() == Some(b' ') {
            self.skip_space();
        }
        let start = self.at;
        while let Some(byte) = self.peek() {
            let end = self.at;
            match byte {
                b' ' => {
                    self.in_command = false;
                    self.skip_space();
                    return self.token(start, end, true, false);
                }
                b'\n' => {
                    self.at += 1;
                    return self.token(start, end, true, false);
                }
                _ => self.at += 1,
            }
        }
        self.token(start, self.at, true, true)
    }

    fn argument(&mut self) -> Token<'t> {
        let start = self.at;
        let (mut quoted, mut escaped) = (false, false);
        while let Some(byte) = self.peek() {
            let end = self.at;
            match byte {
                b'\\' if !escaped => {
                    escaped = true;
                    self.at += 1;
                    continue;
                }
                b'\n' if !quoted => {
                    self.in_command = true;
                    self.at += 1;
                    return self.token(start, end, false, false);
                }
                b' ' if !quoted => {
                    self.skip_space();
                    return self.token(start, end, false, false);
                }
                b'"' if !escaped => quoted = !quoted,
                _ => {}
            }
            escaped = false;
            self.at += 1;
        }
        self.token(start, self.at, false, true)
    }

    /// White space between arguments; a line's end behind it begins a new command.
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
        if self.peek() == Some(b'\n') {
            self.at += 1;
            self.in_command = true;
        }
    }
}
