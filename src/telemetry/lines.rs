//! Owns that a log line stays one line: what a caller, a server or a library has put into it cannot
//! begin a second one that looks like ours, nor hide anything on a terminal.

use std::borrow::Cow;
use std::io::{self, Write};
use tracing_subscriber::fmt::MakeWriter;

/// Writes events with their control characters escaped, save the line end of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneLine<M> {
    inner: M,
    /// Whether the formatter colours; it escapes ESC in values by itself.
    colours: bool,
}

impl<M> OneLine<M> {
    pub(super) fn new(inner: M, colours: bool) -> Self {
        Self { inner, colours }
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = OneLineWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLineWriter { inner: self.inner.make_writer(), colours: self.colours }
    }
}

/// The formatter hands over a whole event at a time.
pub(super) struct OneLineWriter<W> {
    inner: W,
    colours: bool,
}

impl<W: Write> Write for OneLineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        self.inner.write_all(escaped(&text, self.colours).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Control characters, line and paragraph separators, and what turns the direction of writing.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

fn escaped(event: &str, colours: bool) -> Cow<'_, str> {
    let (line, end) = event.strip_suffix('\n').map_or((event, ""), |line| (line, "\n"));
    let escapes = |c: char| misleads(c) && !(colours && c == '\u{1b}');
    if !line.contains(escapes) {
        return Cow::Borrowed(event);
    }
    let mut text = String::with_capacity(event.len() + 16);
    for c in line.chars() {
        if escapes(c) { text.extend(c.escape_default()) } else { text.push(c) }
    }
    Cow::Owned(text + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_and_says_what_was_in_it() {
        let cases = [
            ("plain, \"quoted\", ümläut\n", "plain, \"quoted\", ümläut\n"),
            ("a\n2026-01-01 INFO forged\n", "a\\n2026-01-01 INFO forged\n"),
            ("a\r\u{85}\u{2028}b\n", "a\\r\\u{85}\\u{2028}b\n"),
            ("a\u{1b}[2Kb\0\n", "a\\u{1b}[2Kb\\u{0}\n"),
            ("\u{202e}gnp.exe\n", "\\u{202e}gnp.exe\n"),
            ("no end\tat all", "no end\\tat all"),
        ];
        for (event, want) in cases {
            assert_eq!(escaped(event, false), want);
        }
        assert_eq!(escaped("\u{1b}[32mINFO\u{1b}[0m a\nb\n", true), "\u{1b}[32mINFO\u{1b}[0m a\\nb\n");
    }

    #[test]
    fn the_whole_event_counts_as_written() {
        let mut out = Vec::new();
        let mut writer = OneLineWriter { inner: &mut out, colours: false };
        writer.write_all(b"a\nb\n").expect("a vector takes everything");
        assert_eq!(out, b"a\\nb\n");
    }
}
