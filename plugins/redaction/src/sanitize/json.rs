//! JSON statements (MongoDB, OpenSearch, Elasticsearch): keys and structure stay,
//! each value becomes `"?"`.

/// A deeper document counts as no JSON.
const DEEPEST: usize = 10_000;

/// The document without its values and its white space; `None` for what is no JSON.
pub fn sanitize(document: &str) -> Option<String> {
    let mut walk = Walk { rest: document.as_bytes(), out: Vec::with_capacity(document.len()), open: Vec::new() };
    walk.document()?;
    String::from_utf8(walk.out).ok()
}

struct Walk<'d> {
    rest: &'d [u8],
    out: Vec<u8>,
    /// What is open: `}` for an object, `]` for an array.
    open: Vec<u8>,
}

impl Walk<'_> {
    fn document(&mut self) -> Option<()> {
        self.space();
        self.value()?;
        while let Some(&close) = self.open.last() {
            self.space();
            match self.next()? {
                b',' => {
                    self.out.push(b',');
                    if close == b'}' {
                        self.key()?;
                    }
                    self.space();
                    self.value()?;
                }
                byte if byte == close => self.close(byte),
                _ => return None,
            }
        }
        // White space behind the document is kept, as the Collector does.
        let end = self.rest;
        self.space();
        self.out.extend_from_slice(end);
        self.rest.is_empty().then_some(())
    }

    /// A scalar, or the start of an array or object up to its first value.
    fn value(&mut self) -> Option<()> {
        loop {
            let open = match self.rest.first()? {
                b'{' => b'}',
                b'[' => b']',
                _ => return self.scalar(),
            };
            let byte = self.next()?;
            self.out.push(byte);
            self.open.push(open);
            if self.open.len() > DEEPEST {
                return None;
            }
            self.space();
            if *self.rest.first()? == open {
                let byte = self.next()?;
                self.close(byte);
                return Some(());
            }
            if open == b'}' {
                self.key()?;
                self.space();
            }
        }
    }

    fn close(&mut self, byte: u8) {
        self.out.push(byte);
        self.open.pop();
    }

    fn key(&mut self) -> Option<()> {
        self.space();
        let before = self.rest;
        self.string()?;
        self.out.extend_from_slice(before.get(..before.len() - self.rest.len())?);
        self.space();
        (self.next()? == b':').then(|| self.out.push(b':'))
    }

    fn scalar(&mut self) -> Option<()> {
        match self.rest.first()? {
            b'"' => self.string()?,
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            b'n' => self.word(b"null")?,
            _ => self.number()?,
        }
        self.out.extend_from_slice(b"\"?\"");
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        (self.next()? == b'"').then_some(())?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            self.next()?.is_ascii_hexdigit().then_some(())?;
                        }
                    }
                    _ => return None,
                },
                ..b' ' => return None,
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.optional(b"-");
        if !self.optional(b"0") {
            self.digits()?;
        }
        if self.optional(b".") {
            self.digits()?;
        }
        if self.optional(b"eE") {
            self.optional(b"+-");
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = self.rest.get(count..)?;
        (count > 0).then_some(())
    }

    fn optional(&mut self, any: &[u8]) -> bool {
        let found = self.rest.first().is_some_and(|byte| any.contains(byte));
        if found {
            self.next();
        }
        found
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn space(&mut self) {
        let count = self.rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }
}
