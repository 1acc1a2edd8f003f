//! `audit export`: the chains as a file that anybody can verify, with the checkpoints, the anchors
//! and a manifest. Streams; holds the ends of the chains only.
//!
//! # Decisions
//! The number of the last checkpoint is read first, then the heads, then the records up to them:
//! no checkpoint in the file can speak of a record that is not. The export of one tenant has no
//! checkpoints in it, since they name the chains of all tenants; its manifest is signed all the same.

use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::args::AuditExport;
use super::{CliError, Exit, Screen};
use crate::crypto::AuditKey;
use crate::domain::checkpoint::{Anchor, EXPORT_FORMAT, Manifest, ManifestLine, NotedHead};
use crate::domain::export::write_record;
use crate::domain::{Stream, TenantId};
use crate::ports::store::AuditCursor;
use crate::ports::{Checkpoints, StoreError};

/// Asked of the store at once: records, heads, anchors.
const PAGE: u32 = 5_000;

/// Checkpoints asked of the store at once; one has up to 150 KB.
const CHECKPOINTS_PAGE: u32 = 100;

/// What an export stands on.
pub struct ExportSources<'a> {
    /// The chains and what is signed over them.
    pub checkpoints: &'a dyn Checkpoints,
    /// Signs the manifest.
    pub key: Option<&'a AuditKey>,
    /// The moment that the manifest names.
    pub now: DateTime<Utc>,
}

/// `audit export`. Says on the screen what failed and what to do next.
pub async fn audit_export(args: &AuditExport, sources: &ExportSources<'_>, screen: &mut Screen<'_>) -> Exit {
    let done = run(args, sources, screen).await;
    screen.conclude(done)
}

async fn run(args: &AuditExport, sources: &ExportSources<'_>, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let only = args.tenant.as_ref();
    let written = if args.out == Path::new("-") {
        let bar = screen.bar(None, "records");
        let mut out = BufWriter::new(&mut *screen.out);
        let written = write(&mut out, only, sources, &bar).await?;
        out.flush()?;
        bar.finish_and_clear();
        written
    } else {
        let part = Part::create(&args.out)?;
        let bar = screen.bar(None, "records");
        let mut out = BufWriter::with_capacity(1 << 18, &part.file);
        let written = write(&mut out, only, sources, &bar).await?;
        out.flush().map_err(|e| part.failed(&e))?;
        drop(out);
        bar.finish_and_clear();
        part.finish()?;
        written
    };
    let Manifest { records, checkpoints, chains, .. } = &written;
    if args.json {
        let (signed, chains) = (sources.key.is_some(), chains.len());
        let said = json!({"records": records, "chains": chains, "checkpoints": checkpoints, "signed": signed});
        writeln!(screen.err, "{said}")?;
        return Ok(Exit::Done);
    }
    let signed = if sources.key.is_some() { "signed" } else { "NOT signed: RISKFLEET_AUDIT_KEY is not set" };
    let said = format!("{records} records in {} chains, {checkpoints} checkpoints; {signed}", chains.len());
    // Standard output may be the export itself.
    writeln!(screen.err, "exported {said}")?;
    Ok(Exit::Done)
}

async fn write(
    out: &mut (impl Write + Send),
    only: Option<&TenantId>,
    sources: &ExportSources<'_>,
    bar: &indicatif::ProgressBar,
) -> Result<Manifest, CliError> {
    let store = sources.checkpoints;
    let last = match only {
        None => store.last_checkpoint().await?.map_or(0, |kept| kept.number),
        Some(_) => 0,
    };
    let chains = heads(store, only).await?;
    let records = write_records(out, store, only, &chains, bar).await?;
    let checkpoints = write_checkpoints(out, store, last).await?;
    write_anchors(out, store, only).await?;
    let tenant_id = only.cloned();
    let manifest = Manifest { manifest: EXPORT_FORMAT, at: sources.now, tenant_id, records, checkpoints, chains };
    let line = match sources.key {
        Some(key) => {
            let signed = key.sign(manifest.text());
            ManifestLine { manifest: signed.text, signature: Some(signed.signature), public_key: Some(key.public()) }
        }
        None => ManifestLine { manifest: manifest.text(), signature: None, public_key: None },
    };
    writeln!(out, "{}", line.line())?;
    Ok(manifest)
}

/// The chain before all others of a tenant, or of all tenants.
fn before(only: Option<&TenantId>) -> Option<(TenantId, Stream)> {
    // Behind no record: the first stream is `workflow`, and its first seq is 1.
    only.map(|tenant| (tenant.clone(), Stream::Workflow))
}

async fn heads(store: &dyn Checkpoints, only: Option<&TenantId>) -> Result<Vec<NotedHead>, CliError> {
    let mut heads: Vec<NotedHead> = Vec::new();
    let mut after = None;
    loop {
        let page = store.chain_heads(after.as_ref(), PAGE).await?;
        let whole = page.len() == PAGE as usize;
        after = page.last().map(|h| (h.tenant_id.clone(), h.stream));
        heads.extend(page.into_iter().filter(|h| only.is_none_or(|only| *only == h.tenant_id)));
        if !whole {
            return Ok(heads);
        }
    }
}

async fn write_records(
    out: &mut (impl Write + Send),
    store: &dyn Checkpoints,
    only: Option<&TenantId>,
    heads: &[NotedHead],
    bar: &indicatif::ProgressBar,
) -> Result<u64, CliError> {
    let ends: HashMap<(&TenantId, Stream), i64> = heads.iter().map(|h| ((&h.tenant_id, h.stream), h.seq)).collect();
    let mut cursor = before(only).map(|(tenant, stream)| AuditCursor { tenant, stream, seq: 0 });
    let mut written = 0;
    loop {
        let page = store.records_page(cursor.as_ref(), PAGE).await?;
        for r in &page {
            if only.is_some_and(|only| *only != r.tenant) {
                return Ok(written);
            }
            if ends.get(&(&r.tenant, r.stream)).is_some_and(|end| r.seq <= *end) {
                write_record(r, out)?;
                written += 1;
            }
        }
        bar.inc(page.len() as u64);
        let last = page.last().filter(|_| page.len() == PAGE as usize);
        let Some(last) = last else { return Ok(written) };
        cursor = Some(AuditCursor { tenant: last.tenant.clone(), stream: last.stream, seq: last.seq });
    }
}

async fn write_checkpoints(out: &mut (impl Write + Send), store: &dyn Checkpoints, last: i64) -> Result<u64, CliError> {
    let (mut at, mut written) = (0, 0);
    while at < last {
        let page = store.checkpoints_page(at, CHECKPOINTS_PAGE).await?;
        let Some(end) = page.last().map(|kept| kept.number) else { break };
        for kept in page.iter().filter(|kept| kept.number <= last) {
            writeln!(out, "{}", kept.signed.line())?;
            written += 1;
        }
        at = end;
    }
    Ok(written)
}

async fn write_anchors(
    out: &mut (impl Write + Send),
    store: &dyn Checkpoints,
    only: Option<&TenantId>,
) -> Result<(), CliError> {
    let mut after: Option<(TenantId, Stream)> = None;
    loop {
        let page = store.anchors_page(after.as_ref(), PAGE).await?;
        for signed in &page {
            let anchor = Anchor::parse(&signed.text)
                .map_err(|e| StoreError::Fault(format!("read what is stored: an anchor: {e}")))?;
            if only.is_none_or(|only| *only == anchor.tenant_id) {
                writeln!(out, "{}", signed.line())?;
            }
            after = Some((anchor.tenant_id, anchor.stream));
        }
        if page.len() < PAGE as usize {
            return Ok(());
        }
    }
}

/// The file under a name of its own until it is whole; one that is not goes away.
struct Part {
    file: File,
    part: PathBuf,
    out: PathBuf,
    whole: bool,
}

impl Part {
    fn create(out: &Path) -> Result<Self, CliError> {
        let mut part = out.as_os_str().to_owned();
        part.push(".part");
        let (part, out) = (PathBuf::from(part), out.to_owned());
        match super::audit_key::private_file().truncate(true).create(true).open(&part) {
            Ok(file) => Ok(Self { file, part, out, whole: false }),
            Err(e) => Err(unwritable(&out, &e)),
        }
    }

    fn failed(&self, why: &std::io::Error) -> CliError {
        unwritable(&self.out, why)
    }

    fn finish(mut self) -> Result<(), CliError> {
        self.file.sync_all().and_then(|()| fs::rename(&self.part, &self.out)).map_err(|e| self.failed(&e))?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.whole {
            // What failed was told; a part that stays is overwritten by the next export.
            _ = fs::remove_file(&self.part);
        }
    }
}

fn unwritable(out: &Path, why: &std::io::Error) -> CliError {
    CliError::Output(std::io::Error::new(why.kind(), format!("{}: {why}", out.display())))
}
