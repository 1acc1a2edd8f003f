//! Owns the reading of what a Postgres client sends, just far enough to see a commit pass. Never
//! changes a byte. (PostgreSQL manual, "Message Formats".)

/// Statement texts longer than this are cut: what is looked for stands at the beginning.
const KEPT: usize = 1024;

/// The code of SSLRequest.
const TLS_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// A client's bytes, in any portions.
#[derive(Default)]
pub(crate) struct Frontend {
    started: bool,
    header: Vec<u8>,
    kind: u8,
    left: usize,
    body: Vec<u8>,
    writing: Vec<Vec<u8>>,
    pending: bool,
}

impl Frontend {
    /// Takes the next portion. True when a transaction's COMMIT, or the end of a statement that
    /// accepts events (a transaction of its own), was in it.
    pub(crate) fn commits(&mut self, bytes: &[u8]) -> bool {
        let (mut rest, mut commits) = (bytes, false);
        while !rest.is_empty() {
            if self.left == 0 {
                rest = self.read_header(rest);
                if self.left > 0 || self.header.len() < self.header_len() {
                    continue;
                }
            }
            let n = self.left.min(rest.len());
            let room = KEPT.saturating_sub(self.body.len()).min(n);
            self.body.extend_from_slice(&rest[..room]);
            self.left -= n;
            rest = &rest[n..];
            if self.left == 0 {
                commits |= self.message();
            }
        }
        commits
    }

    /// The first message of a connection has no kind.
    fn header_len(&self) -> usize {
        if self.started { 5 } else { 4 }
    }

    /// Gives what is left of the bytes. Sets `left` once the header is whole; a message without a
    /// body is taken at once by the caller's loop.
    fn read_header<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let n = (self.header_len() - self.header.len()).min(bytes.len());
        self.header.extend_from_slice(&bytes[..n]);
        if let Some((kind, length)) = self.whole_header() {
            self.kind = kind;
            self.left = length.saturating_sub(4);
            self.body.clear();
        }
        &bytes[n..]
    }

    fn whole_header(&self) -> Option<(u8, usize)> {
        if self.header.len() < self.header_len() {
            return None;
        }
        let (kind, length) = if self.started { (self.header[0], &self.header[1..]) } else { (0, &self.header[..]) };
        let length = length.try_into().map_or(0, u32::from_be_bytes);
        Some((kind, usize::try_from(length).unwrap_or(usize::MAX)))
    }

    /// A message is complete.
    fn message(&mut self) -> bool {
        let body = std::mem::take(&mut self.body);
        // A question for TLS comes before the first message, and looks like it.
        self.started |= body != TLS_REQUEST;
        self.header.clear();
        match self.kind {
            b'Q' => is_commit(&body),
            b'P' => {
                let (name, text) = split(&body);
                let writes = is_commit(text) || contains(text, b"INTO keys");
                self.writing.retain(|known| known != name);
                if writes {
                    self.writing.push(name.to_vec());
                }
                false
            }
            b'B' => {
                let (_portal, rest) = split(&body);
                self.pending |= self.writing.iter().any(|known| known == split(rest).0);
                false
            }
            b'S' => std::mem::take(&mut self.pending),
            _ => false,
        }
    }
}

fn is_commit(text: &[u8]) -> bool {
    text.get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"COMMIT"))
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// A text that ends with a zero, and what comes after it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    fn startup() -> Vec<u8> {
        message(0, b"\0\x03\0\0user\0postgres\0\0").split_off(1)
    }

    /// Which of the messages is seen as a commit, in portions of `size` bytes.
    fn seen(messages: &[Vec<u8>], size: usize) -> Vec<usize> {
        let mut frontend = Frontend::default();
        assert!(!frontend.commits(&message(0, &TLS_REQUEST).split_off(1)));
        assert!(!frontend.commits(&startup()));
        let hits = messages.iter().enumerate().filter(|(_, message)| {
            let hits: Vec<bool> = message.chunks(size).map(|portion| frontend.commits(portion)).collect();
            hits.contains(&true)
        });
        hits.map(|(n, _)| n).collect()
    }

    #[test]
    fn a_commit_is_seen_in_both_protocols_and_in_any_portions() {
        let messages = [
            message(b'Q', b"BEGIN\0"),
            message(b'Q', b"COMMIT\0"),
            message(b'P', b"s1\0SELECT 1\0\0\0"),
            message(b'B', b"\0s1\0\0\0\0\0\0\0"),
            message(b'S', b""),
            message(b'P', b"s2\0WITH fresh AS (INSERT INTO keys ...)\0\0\0"),
            message(b'B', b"\0s2\0\0\0\0\0\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
            message(b'S', b""),
            message(b'Q', b"ROLLBACK\0"),
        ];
        for size in [1, 2, 3, 5, 7, 1000] {
            assert_eq!(seen(&messages, size), [1, 8], "portions of {size}");
        }
    }
}
