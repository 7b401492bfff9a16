//! Users and the hashes of their passwords, as `htpasswd` writes them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

/// So many verified pairs of name and password are remembered, because a bcrypt
/// hash takes a CPU for tens of milliseconds.
const REMEMBERED: usize = 1024;

pub struct Users {
    by_name: HashMap<String, Hash>,
    salt: [u8; 16],
    verified: Mutex<HashSet<[u8; 32]>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hash {
    Bcrypt(String),
    /// `$apr1$` and `$1$`: a thousand rounds of MD5.
    Md5 {
        magic: &'static str,
        salt: String,
        sum: String,
    },
    Sha1 {
        sum: Vec<u8>,
        salt: Vec<u8>,
    },
    Plain(String),
}

impl Users {
    /// Reads lines of `name:hash`. Of two lines for one name the later counts.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut by_name = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // No message shows a hash.
            let Some((name, hash)) = line.split_once(':') else {
                return Err(format!("line {} is not `name:hash`", number + 1));
            };
            let hash = Hash::parse(hash).map_err(|why| format!("line {}: the hash of `{name}` {why}", number + 1))?;
            by_name.insert(name.to_owned(), hash);
        }
        let mut salt = [0; 16];
        salt.iter_mut().for_each(|byte| *byte = fastrand::u8(..));
        Ok(Self { by_name, salt, verified: Mutex::default() })
    }

    /// Whether this pair was found right before.
    pub fn knows(&self, name: &str, password: &str) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.contains(&self.mark(name, password))
    }

    /// Whether this pair is right. It may take long.
    pub fn verify(&self, name: &str, password: &str) -> bool {
        let right = self.by_name.get(name).is_some_and(|hash| hash.fits(password));
        if right {
            let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if verified.len() >= REMEMBERED {
                verified.clear();
            }
            verified.insert(self.mark(name, password));
        }
        right
    }

    fn mark(&self, name: &str, password: &str) -> [u8; 32] {
        let length = (name.len() as u64).to_be_bytes();
        Sha256::new()
            .chain_update(self.salt)
            .chain_update(length)
            .chain_update(name)
            .chain_update(password)
            .finalize()
            .into()
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = text.strip_prefix("{SHA}") {
            let sum = STANDARD.decode(rest).ok().filter(|sum| sum.len() == 20).ok_or("is no {SHA} hash")?;
            return Ok(Self::Sha1 { sum, salt: vec![] });
        }
        if let Some(rest) = text.strip_prefix("{SSHA}") {
            let both = STANDARD.decode(rest).map_err(|_| "is no {SSHA} hash")?;
            let (sum, salt) = both.split_at_checked(20).ok_or("is no {SSHA} hash")?;
            return Ok(Self::Sha1 { sum: sum.to_vec(), salt: salt.to_vec() });
        }
        for magic in ["$apr1$", "$1$"] {
            if let Some(rest) = text.strip_prefix(magic) {
                let (salt, sum) = rest.split_once('$').ok_or("has no salt")?;
                // The algorithm uses eight bytes at most.
                let salt = salt.get(..8).unwrap_or(salt).to_owned();
                return Ok(Self::Md5 { magic, salt, sum: sum.to_owned() });
            }
        }
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let _: bcrypt::HashParts = text.parse().map_err(|_| "is no bcrypt hash")?;
            return Ok(Self::Bcrypt(text.to_owned()));
        }
        if text.starts_with('$') || text.starts_with('{') {
            return Err("is of a kind that is not known here; make one with `htpasswd -B`");
        }
        Ok(Self::Plain(text.to_owned()))
    }

    fn fits(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Md5 { magic, salt, sum } => equal(md5_crypt(password.as_bytes(), salt, magic).as_bytes(), sum),
            Self::Sha1 { sum, salt } => equal(&Sha1::new().chain_update(password).chain_update(salt).finalize(), sum),
            Self::Plain(plain) => equal(password.as_bytes(), plain),
        }
    }
}

fn equal(one: &[u8], other: impl AsRef<[u8]>) -> bool {
    one.ct_eq(other.as_ref()).into()
}

/// Poul-Henning Kamp's scheme, which Apache took over with another magic.
fn md5_crypt(password: &[u8], salt: &str, magic: &str) -> String {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        outer.update(inner.get(..left.min(16)).unwrap_or_default());
        left = left.saturating_sub(16);
    }
    let mut bits = password.len();
    while bits > 0 {
        outer.update(if bits & 1 == 1 { &[0][..] } else { password.get(..1).unwrap_or_default() });
        bits >>= 1;
    }
    let mut sum: [u8; 16] = outer.finalize().into();
    for round in 0..1000 {
        let mut next = Md5::new();
        next.update(if round & 1 == 1 { password } else { &sum[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round & 1 == 1 { &sum[..] } else { password });
        sum = next.finalize().into();
    }
    let mut out = String::with_capacity(22);
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        letters(u32::from_be_bytes([0, sum[a], sum[b], sum[c]]), 4, &mut out);
    }
    letters(sum[11].into(), 2, &mut out);
    out
}

fn letters(mut bits: u32, count: usize, out: &mut String) {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..count {
        out.push(char::from(ALPHABET[(bits & 63) as usize]));
        bits >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_hash_lets_its_password_in_and_no_other() {
        // By `openssl passwd`.
        let users = Users::parse(
            "apr:$apr1$5GtWz5Yc$fRxOpG4J9VHroLJo2HPKP.\nmd5:$1$abcdefgh$G//4keteveJp0qb8z2DxG/\n\
             # a remark\n\nsha:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n\
             ssha:{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0\n\
             plain:password\n",
        );
        let users = users.unwrap();
        for name in ["apr", "md5", "sha", "ssha", "plain"] {
            assert!(!users.knows(name, "password"));
            assert!(users.verify(name, "password"), "{name}");
            assert!(users.knows(name, "password"));
            assert!(!users.verify(name, "Password"), "{name}");
            assert!(!users.knows(name, "Password"));
        }
        assert!(!users.verify("nobody", "password"));
        assert_eq!(md5_crypt(b"a much longer password than sixteen bytes", "ab", "$apr1$"), "ZgbyBttfAvWjwKDroS41O1");
        let hash = bcrypt::hash("password", 4).unwrap();
        let users = Users::parse(&format!("a:{hash}\nb:x\nb:y")).unwrap();
        assert!(users.verify("a", "password") && !users.verify("a", "passwor"));
        assert!(users.verify("b", "y") && !users.verify("b", "x"), "the later line counts");
    }

    #[test]
    fn a_line_that_is_none_is_told_without_its_secret() {
        for (text, why) in [
            ("a:x\nsecret", "line 2 is not"),
            ("a:$6$salt$secret", "is of a kind"),
            ("a:{SHA}secret", "is no {SHA}"),
            ("a:$2y$secret", "is no bcrypt"),
        ] {
            let error = Users::parse(text).err().unwrap();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
    }
}
