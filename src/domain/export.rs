//! Owns the lines of an export of the audit: how a record is written and read. The lines that are
//! signed are `checkpoint`'s. Never opens a file.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{self, Write};

use super::audit::{AuditRecord, Hash, Stream};
use super::chains::{ChainId, Judged, judge};
use super::checkpoint::bytes_from_hex;
use super::ids::TenantId;

/// What a line begins with that holds a record; the other kinds are [`SIGNED`] and [`MANIFEST`].
pub const RECORD: &[u8] = b"{\"tenant_id\":";
/// What a line begins with that holds a checkpoint or an anchor.
pub const SIGNED: &[u8] = b"{\"text\":";
/// What the last line begins with.
pub const MANIFEST: &[u8] = b"{\"manifest\":";

/// A record as a line of an export. Field order is the order in the line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine<'a> {
    tenant_id: &'a str,
    stream: &'a str,
    seq: i64,
    prev_hash: Cow<'a, str>,
    hash: Cow<'a, str>,
    #[serde(borrow)]
    body: Cow<'a, str>,
}

/// Writes a record as one line, with its end.
///
/// # Errors
/// The writer's own.
pub fn write_record(record: &AuditRecord, out: &mut impl Write) -> io::Result<()> {
    let line = RecordLine {
        tenant_id: record.tenant.as_str(),
        stream: record.stream.as_str(),
        seq: record.seq,
        prev_hash: hex::encode(record.prev_hash).into(),
        hash: hex::encode(record.hash).into(),
        body: record.body.as_str().into(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Reads a line that holds a record, without its end, and judges the record by itself. `known` is
/// the chain of the line before: most often it is this one's too.
///
/// # Errors
/// When it is no such line; says why.
pub fn read_record(line: &[u8], known: Option<&ChainId>) -> Result<(Option<ChainId>, Judged), String> {
    let line: RecordLine<'_> = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let hash = |digits: &str| bytes_from_hex::<32>(digits).ok_or("a hash is 64 lower-case hex digits");
    let (prev, hash): (Hash, Hash) = (hash(&line.prev_hash)?, hash(&line.hash)?);
    let same = known.is_some_and(|(t, s)| (t.as_str(), s.as_str()) == (line.tenant_id, line.stream));
    let chain = if same {
        None
    } else {
        let tenant = TenantId::parse(line.tenant_id).map_err(|e| e.to_string())?;
        Some((tenant, Stream::parse(line.stream).ok_or("the stream is workflow or control")?))
    };
    let fault = judge((line.tenant_id, line.stream, line.seq), &prev, &hash, &line.body);
    Ok((chain, Judged { seq: line.seq, prev, hash, fault }))
}
