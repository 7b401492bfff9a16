//! URLs as routes: a `*` in the place of each segment that looks like an identifier.

use super::letters::is_word;

/// Segments beyond this are cut off.
const MOST_SEGMENTS: usize = 10;

/// The URL without query and fragment, each segment that is no word replaced.
pub fn sanitize(url: &str) -> String {
    let bytes = url.as_bytes();
    let mut route = Vec::with_capacity(bytes.len());
    let mut segment = Segment::at(0);
    let mut slashes = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'?' | b'&' | b'#' => {
                // What stands before a query is not looked up as a word.
                match segment.odd {
                    true => route.push(b'*'),
                    false => route.extend_from_slice(segment.text(bytes, at)),
                }
                return text(route);
            }
            b'/' => {
                slashes += 1;
                let left = segment.finish(&mut route, segment.text(bytes, at));
                if slashes >= MOST_SEGMENTS {
                    // The Collector closes the segment in which it stops twice, the
                    // second time without the letter that the first `*` stands for.
                    segment.finish(&mut route, left);
                    return text(route);
                }
                route.push(b'/');
                segment = Segment::at(at + 1);
            }
            byte => segment.take(at, byte),
        }
    }
    segment.finish(&mut route, segment.text(bytes, bytes.len()));
    text(route)
}

/// True where nothing but `*` is left: no name for a span.
pub fn is_mere_stars(route: &str) -> bool {
    route.contains('*') && route.split('/').all(|segment| matches!(segment, "" | "*"))
}

struct Segment {
    start: usize,
    /// Holds a byte that words do not have.
    odd: bool,
    /// One such byte is overlooked in the second place: `v1`, `j4elk`.
    overlooked: bool,
}

impl Segment {
    fn at(start: usize) -> Self {
        Self { start, odd: false, overlooked: false }
    }

    fn take(&mut self, at: usize, byte: u8) {
        if self.odd || byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_' | b'.' | b' ') {
            return;
        }
        if at == self.start + 1 && !self.overlooked {
            self.overlooked = true;
        } else {
            self.odd = true;
        }
    }

    fn text<'u>(&self, url: &'u [u8], end: usize) -> &'u [u8] {
        url.get(self.start..end).unwrap_or_default()
    }

    /// Writes the word or a `*`; what a second call would look at.
    fn finish<'u>(&self, route: &mut Vec<u8>, word: &'u [u8]) -> &'u [u8] {
        if self.odd {
            route.push(b'*');
            return word;
        }
        match word.split_first() {
            None => word,
            Some(_) if is_word(word) => {
                route.extend_from_slice(word);
                &[]
            }
            Some((_, rest)) => {
                route.push(b'*');
                rest
            }
        }
    }
}

fn text(route: Vec<u8>) -> String {
    // Whole characters: one beyond ASCII makes its segment a `*`.
    String::from_utf8(route).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
