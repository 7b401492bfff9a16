//! What stands in the place of a secret: stars, or a digest.

use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use sha3::Sha3_256;
use vespid_plugin::Rejection;

use crate::config::{Config, HashFunction};

pub const STARS: &str = "****";

pub enum Mask {
    Stars,
    Md5,
    Sha1,
    Sha3,
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Hmac<Sha512>),
}

impl Mask {
    pub fn new(config: &Config, wrong: &mut Vec<Rejection>) -> Self {
        let key = config.hmac_key.as_bytes();
        let mask = match config.hash_function {
            HashFunction::None => Ok(Mask::Stars),
            HashFunction::Md5 => Ok(Mask::Md5),
            HashFunction::Sha1 => Ok(Mask::Sha1),
            HashFunction::Sha3 => Ok(Mask::Sha3),
            HashFunction::HmacSha256 => Hmac::new_from_slice(key).map(Mask::HmacSha256),
            HashFunction::HmacSha512 => Hmac::new_from_slice(key).map(Mask::HmacSha512),
        };
        mask.unwrap_or_else(|error| {
            wrong.push(Rejection::new(format!("hmac_key: {error}")));
            Mask::Stars
        })
    }

    pub fn is_stars(&self) -> bool {
        matches!(self, Mask::Stars)
    }

    pub fn write(&self, out: &mut String, secret: &str) {
        let secret = secret.as_bytes();
        match self {
            Mask::Stars => out.push_str(STARS),
            Mask::Md5 => hex(out, &Md5::digest(secret)),
            Mask::Sha1 => hex(out, &Sha1::digest(secret)),
            Mask::Sha3 => hex(out, &Sha3_256::digest(secret)),
            Mask::HmacSha256(keyed) => hex(out, &keyed.clone().chain_update(secret).finalize().into_bytes()),
            Mask::HmacSha512(keyed) => hex(out, &keyed.clone().chain_update(secret).finalize().into_bytes()),
        }
    }

    /// A value as a whole, line by line: the Collector's `.*` ends at a line's end.
    pub fn whole(&self, value: &str) -> String {
        let mut out = String::new();
        for (at, line) in value.split('\n').enumerate() {
            if at > 0 {
                out.push('\n');
            }
            self.write(&mut out, line);
        }
        out
    }
}

fn hex(out: &mut String, digest: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in digest {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
}
