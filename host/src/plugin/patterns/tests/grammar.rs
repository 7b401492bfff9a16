//! Patterns and texts made by chance.

use fastrand::Rng;

const CHARS: [&str; 22] = [
    "a", "a", "b", "b", "c", "A", "B", "k", "K", "\u{212a}", "s", "\u{17f}", "0", "7", "_", " ", "\n", "-", "é", "É",
    "β", "🐝",
];
const ATOMS: [&str; 24] = [
    ".",
    r"\d",
    r"\D",
    r"\w",
    r"\W",
    r"\s",
    r"\S",
    r"\b",
    r"\B",
    "^",
    "$",
    r"\A",
    r"\z",
    r"\pL",
    r"\PL",
    r"\p{^Lu}",
    r"\p{Greek}",
    r"\x{e9}",
    r"\101",
    r"\n",
    r"\Qa.b\E",
    r"\.",
    "{",
    "a{,2}",
];
const CLASS_PARTS: [&str; 22] = [
    "a",
    "b",
    "a-c",
    "0-9",
    "A-Z",
    "-",
    "[",
    "&&",
    "--",
    "~~",
    r"\d",
    r"\D",
    r"\w",
    r"\W",
    r"\s",
    "[:alpha:]",
    "[:^digit:]",
    r"\pL",
    r"\PN",
    "é",
    "k",
    r"\]",
];
const REPEATS: [&str; 14] =
    ["*", "+", "?", "*?", "+?", "??", "{2}", "{0}", "{1,2}", "{0,2}?", "{1,}", "{0,}?", "{,2}", "{2"];
const OPENINGS: [&str; 12] = ["(", "(", "(", "(?:", "(?:", "(?i:", "(?s:", "(?m:", "(?U:", "(?P<n>", "(?<m>", "(?i-s:"];
const FLAGS: [&str; 6] = ["(?i)", "(?s)", "(?m)", "(?U)", "(?-i)", "(?ims-U)"];
const SIGNS: [&str; 40] = [
    "a", "b", "0", "9", "\\", "\\", "[", "]", "[^", "(", ")", "(?", ":", "P<", ">", "<", "{", "}", "{2", ",", "*", "+",
    "?", "|", "^", "$", ".", "-", "p", "Q", "\\E", "x", "d", "é", "=", "!", "i", "[:", ":]", "alpha",
];

fn one<'a>(random: &mut Rng, list: &[&'a str]) -> &'a str {
    list[random.usize(..list.len())]
}

pub fn pattern(random: &mut Rng) -> String {
    let mut out = String::new();
    if random.usize(..4) == 0 {
        out.push_str(one(random, &FLAGS));
    }
    alternation(random, 3, &mut out);
    out
}

fn alternation(random: &mut Rng, depth: usize, out: &mut String) {
    for at in 0..[1, 1, 1, 2, 2, 3][random.usize(..6)] {
        if at > 0 {
            out.push('|');
        }
        for _ in 0..random.usize(..4) {
            repeated(random, depth, out);
        }
    }
}

fn repeated(random: &mut Rng, depth: usize, out: &mut String) {
    match random.usize(..12) {
        0..=4 => out.push_str(&regex_syntax::escape(one(random, &CHARS)).replace(r"\-", "-")),
        5 | 6 => out.push_str(one(random, &ATOMS)),
        7 | 8 => class(random, out),
        9 => out.push_str(one(random, &FLAGS)),
        _ if depth > 0 => {
            out.push_str(one(random, &OPENINGS));
            alternation(random, depth - 1, out);
            out.push(')');
        }
        _ => out.push('a'),
    }
    if random.usize(..3) == 0 {
        out.push_str(one(random, &REPEATS));
    }
}

fn class(random: &mut Rng, out: &mut String) {
    out.push_str(if random.bool() { "[" } else { "[^" });
    for _ in 0..=random.usize(..3) {
        out.push_str(one(random, &CLASS_PARTS));
    }
    out.push(']');
}

/// Whatever means something in a pattern, without any order.
pub fn signs(random: &mut Rng) -> String {
    (0..random.usize(1..8)).map(|_| one(random, &SIGNS)).collect()
}

pub fn text(random: &mut Rng) -> String {
    (0..random.usize(..10)).map(|_| one(random, &CHARS)).collect()
}
