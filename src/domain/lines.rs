//! Owns how a text falls into lines (NDJSON), and which key a line without one gets.
//!
//! Never holds more than one line of at most the given length: what is longer is counted and
//! thrown away. Never reads a file: the bytes are passed in.

use super::audit::Hash;
use super::ids::IdempotencyKey;

/// One line, blank ones left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in the text, from 1, blank lines counted.
    pub number: u64,
    /// Where it ends in the text, in bytes, its line end included.
    pub end: u64,
    /// Whether a line end stands behind it; only the last line can be without.
    pub ended: bool,
    /// Its bytes without the line end; nothing when it is longer than is taken.
    pub text: Option<Vec<u8>>,
}

/// Cuts a text that comes in pieces into lines at `\n`; a `\r` before it belongs to the line end.
#[derive(Debug)]
pub struct LineCutter {
    max: usize,
    held: Vec<u8>,
    overlong: bool,
    number: u64,
    offset: u64,
}

impl LineCutter {
    /// A cutter that takes lines of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self::resumed(max, 0, 0)
    }

    /// A cutter that goes on behind line `number`, which ended at byte `offset`.
    pub fn resumed(max: usize, number: u64, offset: u64) -> Self {
        Self { max, held: Vec::new(), overlong: false, number, offset }
    }

    /// Takes the next piece of the text and adds the lines that end in it to `lines`.
    pub fn push(&mut self, mut piece: &[u8], lines: &mut Vec<Line>) {
        while let Some(at) = piece.iter().position(|b| *b == b'\n') {
            self.hold(&piece[..at]);
            self.offset += 1;
            lines.extend(self.cut(true));
            piece = &piece[at + 1..];
        }
        self.hold(piece);
    }

    /// The last line, when no line end stands behind it.
    pub fn finish(&mut self) -> Option<Line> {
        if self.held.is_empty() && !self.overlong {
            return None;
        }
        self.cut(false)
    }

    fn hold(&mut self, part: &[u8]) {
        self.offset += part.len() as u64;
        // One byte more than a line may have, for the `\r` that does not belong to it.
        if self.overlong || self.held.len() + part.len() > self.max + 1 {
            self.overlong = true;
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(part);
        }
    }

    fn cut(&mut self, ended: bool) -> Option<Line> {
        self.number += 1;
        let mut text = std::mem::take(&mut self.held);
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        let overlong = std::mem::take(&mut self.overlong) || text.len() > self.max;
        // RFC 8259, section 8.1: a reader may ignore a byte order mark; some editors write one.
        if self.number == 1 && text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        if !overlong && text.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        Some(Line { number: self.number, end: self.offset, ended, text: (!overlong).then_some(text) })
    }
}

/// The key of a line that has none: the SHA-256 of the whole text and the line's number. The same
/// text sent again, by whatever way, is then the same events.
pub fn line_key(text: &Hash, number: u64) -> IdempotencyKey {
    IdempotencyKey::parse(&format!("{}:{number}", hex::encode(text)))
        .expect("64 hex digits, a colon and at most 20 digits are a legal key")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, end, whether ended, and text of every line, the text fed in pieces of `size`.
    fn cut(text: &[u8], max: usize, size: usize) -> Vec<(u64, u64, bool, Option<String>)> {
        let (mut cutter, mut lines) = (LineCutter::new(max), Vec::new());
        text.chunks(size).for_each(|piece| cutter.push(piece, &mut lines));
        lines.extend(cutter.finish());
        let text = |l: &Line| l.text.as_ref().map(|t| String::from_utf8_lossy(t).into_owned());
        lines.iter().map(|l| (l.number, l.end, l.ended, text(l))).collect()
    }

    #[test]
    fn a_text_falls_into_the_same_lines_however_it_comes() {
        let text = b"\xef\xbb\xbfone\r\n\n  \r\ntwo\nmuch too long a line\nthree\r\nfo";
        for size in 1..=text.len() {
            let got = cut(text, 6, size);
            let want = [
                (1, 8, true, Some("one".to_owned())),
                (4, 17, true, Some("two".to_owned())),
                (5, 38, true, None),
                (6, 45, true, Some("three".to_owned())),
                (7, 47, false, Some("fo".to_owned())),
            ];
            assert_eq!(got, want, "pieces of {size}");
        }
    }

    #[test]
    fn the_longest_line_is_taken_with_either_line_end_and_one_byte_more_is_not() {
        assert_eq!(cut(b"123456\r\n", 6, 8)[0].3.as_deref(), Some("123456"));
        assert_eq!(cut(b"123456", 6, 2)[0].3.as_deref(), Some("123456"));
        assert_eq!(cut(b"1234567\n", 6, 3)[0].3, None);
        assert_eq!(cut(b"", 6, 1), []);
        assert_eq!(cut(b"\n\n", 6, 1), []);
    }

    #[test]
    fn a_line_key_names_text_and_line() {
        let key = line_key(&[0xab; 32], 7);
        assert_eq!(key.as_str(), format!("{}:7", "ab".repeat(32)));
    }
}
