//! Owns the reading of what is sent: one event, an array, or NDJSON, cut into batches.
//!
//! Holds a bounded part of it at a time; only a whole JSON document is held whole, up to
//! [`DOCUMENT_MAX`]. Judges no event: that is the API's.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::answer::Answer;
use crate::cli::CliError;
use crate::domain::audit::{Hash, sha256};
use crate::domain::lines::{Line, LineCutter, line_key};

/// The largest array, single event or piped text, in bytes; an NDJSON file may have any size.
const DOCUMENT_MAX: u64 = 32 << 20;

/// The longest line that is sent, in bytes.
const LINE_MAX: usize = 1 << 20;

/// Lines and bytes of one request.
const BATCH_LINES: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// One request's worth of lines.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// NDJSON, each line with its key.
    pub(super) body: Vec<u8>,
    /// The lines' numbers, in their order in `body`.
    pub(super) numbers: Vec<u64>,
    /// Lines that can't be sent.
    pub(super) refused: Vec<Answer>,
}

/// What is sent, being read.
pub(super) struct Input {
    file: String,
    hash: Hash,
    source: Box<dyn AsyncRead + Send + Unpin>,
    cutter: LineCutter,
    ended: bool,
    waiting: Vec<Line>,
}

impl Input {
    /// Opens a file, or standard input for `-`, and finds out what it holds.
    pub(super) async fn open(path: &Path) -> Result<Self, CliError> {
        let file = path.display().to_string();
        if file == "-" {
            let text = read_whole(&mut tokio::io::stdin(), "standard input").await?;
            return Self::of_text(file, text);
        }
        let fail = |e: std::io::Error| unreadable(&file, e.to_string(), "check its name and that you may read it");
        let mut opened = tokio::fs::File::open(path).await.map_err(fail)?;
        if opened.metadata().await.map_err(fail)?.len() <= DOCUMENT_MAX {
            let text = read_whole(&mut opened, &file).await?;
            return Self::of_text(file, text);
        }
        let (hash, first) = hash_file(&mut opened).await.map_err(fail)?;
        if first == Some(b'[') {
            let advice = "write the array as NDJSON, one event a line: `jq -c '.[]'` does it";
            return Err(unreadable(&file, format!("an array may have {DOCUMENT_MAX} bytes"), advice));
        }
        let again = tokio::fs::File::open(path).await.map_err(fail)?;
        Ok(Self::of_lines(file, hash, Box::new(again)))
    }

    fn of_lines(file: String, hash: Hash, source: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { file, hash, source, cutter: LineCutter::new(LINE_MAX), ended: false, waiting: Vec::new() }
    }

    fn of_text(file: String, text: Vec<u8>) -> Result<Self, CliError> {
        let hash = sha256(&text);
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(unreadable(&file, "it is empty".into(), "give one event, an array of events, or NDJSON"));
        }
        let text = match documents(&text) {
            Ok(Some(lines)) => lines,
            Ok(None) => text,
            Err(e) => return Err(unreadable(&file, format!("broken JSON: {e}"), "mend it, or write it as NDJSON")),
        };
        Ok(Self::of_lines(file, hash, Box::new(Cursor::new(text))))
    }

    /// The next lines; nothing at the end.
    pub(super) async fn next_batch(&mut self) -> Result<Option<Batch>, CliError> {
        let mut batch = Batch::default();
        let mut lines = VecDeque::from(std::mem::take(&mut self.waiting));
        loop {
            while let Some(line) = lines.pop_front() {
                let full = batch.numbers.len() + batch.refused.len() >= BATCH_LINES;
                let long = line.text.as_ref().map_or(0, Vec::len);
                if full || (!batch.body.is_empty() && batch.body.len() + long > BATCH_BYTES) {
                    lines.push_front(line);
                    self.waiting = lines.into();
                    return Ok(Some(batch));
                }
                batch.add(&line, &self.hash);
            }
            if self.ended {
                return Ok((!batch.numbers.is_empty() || !batch.refused.is_empty()).then_some(batch));
            }
            let mut more = Vec::new();
            self.read_more(&mut more).await?;
            lines.extend(more);
        }
    }

    async fn read_more(&mut self, lines: &mut Vec<Line>) -> Result<(), CliError> {
        let mut piece = vec![0; PIECE];
        let read = self.source.read(&mut piece).await;
        let read = read.map_err(|e| unreadable(&self.file, e.to_string(), "check the disk, then send it again"))?;
        if read == 0 {
            self.ended = true;
            lines.extend(self.cutter.finish());
        }
        self.cutter.push(&piece[..read], lines);
        Ok(())
    }
}

impl Batch {
    fn add(&mut self, line: &Line, file: &Hash) {
        let Some(text) = &line.text else {
            self.refused.push(Answer::refused(line.number, format!("the line is longer than {LINE_MAX} bytes")));
            return;
        };
        self.body.extend(with_key(text, line_key(file, line.number).as_str()));
        self.body.push(b'\n');
        self.numbers.push(line.number);
    }
}

fn unreadable(file: &str, why: String, advice: &'static str) -> CliError {
    CliError::Input { file: file.to_owned(), why, advice }
}

async fn read_whole(source: &mut (impl AsyncRead + Unpin), file: &str) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    let read = source.take(DOCUMENT_MAX + 1).read_to_end(&mut text).await;
    read.map_err(|e| unreadable(file, e.to_string(), "check the disk or pipe, then send it again"))?;
    if text.len() as u64 > DOCUMENT_MAX {
        let why = format!("more than {DOCUMENT_MAX} bytes were piped in");
        return Err(unreadable(file, why, "save it as an NDJSON file and send that: a file may have any size"));
    }
    Ok(text)
}

/// The hash of a file, and its first byte that is no blank.
async fn hash_file(file: &mut tokio::fs::File) -> std::io::Result<(Hash, Option<u8>)> {
    let (mut hash, mut first, mut piece) = (Sha256::new(), None, vec![0; PIECE]);
    loop {
        let read = file.read(&mut piece).await?;
        if read == 0 {
            return Ok((hash.finalize().into(), first));
        }
        hash.update(&piece[..read]);
        first = first.or_else(|| piece[..read].iter().copied().find(|b| !b.is_ascii_whitespace()));
    }
}

/// An array or a single event, as one line an event; nothing when the text is neither, and so NDJSON.
fn documents(text: &[u8]) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let first = text.iter().find(|b| !b.is_ascii_whitespace());
    let items: Vec<&RawValue> = match (first, serde_json::from_slice::<&RawValue>(text)) {
        (Some(b'['), _) => serde_json::from_slice(text)?,
        (_, Ok(single)) => vec![single],
        (_, Err(_)) => return Ok(None),
    };
    let mut lines = Vec::with_capacity(text.len());
    for item in items {
        // A line end in JSON text is a blank between tokens: inside a string it is escaped.
        lines.extend(item.get().bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
        lines.push(b'\n');
    }
    Ok(Some(lines))
}

/// The line with `key` in it, unless it has one of its own, or is no object (the API says so).
fn with_key(text: &[u8], key: &str) -> Vec<u8> {
    let Ok(mut fields) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(text) else { return text.to_vec() };
    let quoted = serde_json::value::to_raw_value(key).expect("a text is JSON");
    match fields.get("idempotency_key").map(|value| value.get()) {
        Some("null") => {
            fields.insert("idempotency_key".into(), &quoted);
            serde_json::to_vec(&fields).expect("JSON that was read can be written")
        }
        Some(_) => text.to_vec(),
        // Spliced in, so that everything else (a field that is there twice, too) comes as it is.
        None => {
            let body = &text[text.iter().position(|b| *b == b'{').map_or(0, |at| at + 1)..];
            let comma = if fields.is_empty() { "" } else { "," };
            [br#"{"idempotency_key":"#, quoted.get().as_bytes(), comma.as_bytes(), body].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(text: &str) -> String {
        String::from_utf8(with_key(text.as_bytes(), "k")).expect("text")
    }

    #[test]
    fn a_line_without_a_key_gets_one_and_is_otherwise_untouched() {
        assert_eq!(keyed(r#" {"a": 1.10, "a":2}"#), r#"{"idempotency_key":"k","a": 1.10, "a":2}"#);
        assert_eq!(keyed("{ }"), r#"{"idempotency_key":"k" }"#);
        assert_eq!(keyed(r#"{"idempotency_key":null,"b":1}"#), r#"{"b":1,"idempotency_key":"k"}"#);
        for own in [r#"{"idempotency_key":"mine"}"#, "[1]", "{broken", "7"] {
            assert_eq!(keyed(own), own);
        }
    }

    async fn batches(text: &str) -> Result<Vec<Batch>, CliError> {
        let mut input = Input::of_text("f".into(), text.into())?;
        let mut batches = Vec::new();
        while let Some(batch) = input.next_batch().await? {
            batches.push(batch);
        }
        Ok(batches)
    }

    #[tokio::test]
    async fn one_event_an_array_and_lines_are_told_apart() {
        for (text, count) in [
            ("{\n \"kind\": \"risk\"\n}\n", 1),
            (r#"[{"a":1}, {"b":[2]}]"#, 2),
            ("{\"a\":1}\n{\"b\":2}\n\n{\"c\":3}", 3),
            ("{\"a\":1}\ngarbage\n", 2),
        ] {
            let got = batches(text).await.expect("readable");
            assert_eq!(got.iter().map(|b| b.numbers.len()).sum::<usize>(), count, "{text}");
            let body = String::from_utf8_lossy(&got[0].body).into_owned();
            assert_eq!(body.lines().count(), count, "{text}");
        }
        for (text, why) in [(" \n", "it is empty"), ("[{\"a\":1},", "broken JSON")] {
            let error = batches(text).await.expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn batches_are_bounded_in_lines_and_bytes_and_an_overlong_line_is_refused_here() {
        let many = "{\"a\":1}\n".repeat(BATCH_LINES + 1);
        let sizes: Vec<usize> = batches(&many).await.expect("readable").iter().map(|b| b.numbers.len()).collect();
        assert_eq!(sizes, [BATCH_LINES, 1]);
        let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(LINE_MAX / 2));
        let got = batches(&format!("{long}{long}{}\n{long}", "y".repeat(LINE_MAX + 1))).await.expect("readable");
        assert!(got.iter().all(|b| b.body.len() <= BATCH_BYTES + 200), "bounded in bytes");
        let refused: Vec<u64> = got.iter().flat_map(|b| b.refused.iter().map(|a| a.line)).collect();
        assert_eq!(refused, [3]);
        assert_eq!(got.iter().flat_map(|b| b.numbers.clone()).collect::<Vec<_>>(), [1, 2, 4]);
    }
}
