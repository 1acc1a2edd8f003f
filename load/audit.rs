//! `riskfleet-load audit`: an export of a given size, verified by the clock, and then once more for
//! each manner of tampering, each of which must be found and named.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use riskfleet::cli::{FileCheck, Report, verify_file};
use riskfleet::crypto::AuditKey;
use riskfleet::domain::audit::sha256;
use riskfleet::domain::checkpoint::{Checkpoint, EXPORT_FORMAT, HEADS_MAX, Manifest, ManifestLine, NotedHead, Signed};
use riskfleet::domain::export::write_record;
use riskfleet::domain::{AuditBody, ChainHead, CorrelationId, Event, EventId, Snapshot, Stream, TenantId, parse, time};
use riskfleet::pipeline::{self, Policy};

/// Makes an export of the audit, verifies it by the clock, and tampers with copies of it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Audit {
    /// Records in the export.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..=20_000_000))]
    records: u64,
    /// Tenants that they are spread over; each has both of its chains.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    tenants: u64,
    /// Where the files go; the system's folder for temporary files when it is not given.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// 2026-11-21T10:00:00Z.
const T0: u64 = 1_795_255_200_000;

/// Lets the folder go with what is in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// True when every manner of tampering was found.
pub(crate) fn run(options: &Audit) -> anyhow::Result<bool> {
    let parent = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = Folder(parent.join(format!("riskfleet-load-audit-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).context("failed to make a folder")?;
    let (whole, copy) = (folder.0.join("audit.jsonl"), folder.0.join("tampered.jsonl"));
    let key = AuditKey::from_seed(&[1; 32]);
    let (made, outside) = timed(|| make(&whole, options, &key))?;
    let outside_file = folder.0.join("checkpoints.jsonl");
    std::fs::write(&outside_file, outside).context("failed to write the checkpoints")?;
    let bytes = std::fs::metadata(&whole)?.len();
    let mut out = std::io::stdout().lock();
    writeln!(out, "made      {} records, {bytes} bytes, in {:.2} s", options.records, made.as_secs_f64())?;
    let check = FileCheck { public_key: Some(key.public()), anchor: None };
    let (took, report) = timed(|| Ok(verify_file(&whole, &check, &|_| {})?))?;
    let rate = options.records as f64 / took.as_secs_f64();
    writeln!(out, "verified  {} records in {:.2} s: {rate:.0} records/s", report.records, took.as_secs_f64())?;
    if !report.ok || report.records != options.records {
        bail!("the untouched export does not verify: {:?}", report.bad.first());
    }
    let mut all = true;
    for tampering in TAMPERINGS {
        tamper(&whole, &copy, options.records / options.tenants / 4, tampering.deed)?;
        let anchor = tampering.outside.then(|| outside_file.clone());
        let report = verify_file(&copy, &FileCheck { anchor, ..check.clone() }, &|_| {})?;
        all &= told(&mut out, &tampering, &report)?;
    }
    Ok(all)
}

fn told(out: &mut impl Write, tampering: &Tampering, report: &Report) -> anyhow::Result<bool> {
    let found = report.bad.iter().find(|f| f.why.starts_with(tampering.named));
    let verdict = if found.is_some() { "found" } else { "MISSED" };
    let first = found.or(report.bad.first());
    let said = first.map_or("nothing".into(), |f| format!("{}/{}/{} {}", f.tenant, f.stream, f.seq, f.why));
    writeln!(out, "{verdict:<9} {:<42} {said} ({} in all)", tampering.what, report.bad_total)?;
    Ok(found.is_some())
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Duration, T)> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed(), done))
}

/// The audit record of a real decision, as a worker writes it.
fn template(tenant: &str, stream: Stream) -> anyhow::Result<AuditBody> {
    let text = format!(
        r#"{{"kind":"risk","version":"1.0","tenant_id":"{tenant}","event_type":"high_risk","subject":"acct-42","amount":1250,"currency":"EUR"}}"#
    );
    let body = parse::event(text.as_bytes(), parse::Given::default())
        .map_err(|e| anyhow::anyhow!("failed to read the event: {e:?}"))?
        .body;
    let correlation_id = CorrelationId::parse("0f8fad5b-d9cb-469f-a165-70867728950e")?;
    let event = Event { id: EventId::mint(T0, [7; 10]), correlation_id, body };
    let policy = Policy::baseline();
    let ran = pipeline::run(&event, &Snapshot::default(), &policy, time::from_millis(T0), &|| Duration::ZERO);
    let decision = ran.decision;
    let chain = (event.body.tenant_id.clone(), stream);
    let worker = format!("worker:{}", event.id);
    Ok(AuditBody {
        event_id: Some(event.id),
        outcome: Some(decision.outcome.as_str().into()),
        reason_codes: decision.reasons.iter().map(|r| r.code.to_string()).collect(),
        correlation_id: Some(event.correlation_id.clone()),
        event_sha256: Some(hex::encode(sha256(&event.body.canonical()))),
        decision_sha256: Some(hex::encode(sha256(&decision.canonical()))),
        ..AuditBody::new(chain, time::from_millis(T0), worker, "decision_made", ("event", event.id.to_string()))
    })
}

/// Writes the export; gives the lines of the file outside.
fn make(path: &Path, options: &Audit, key: &AuditKey) -> anyhow::Result<String> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let chains = options.tenants * 2;
    let (mut heads, mut halves, mut records) = (Vec::new(), Vec::new(), 0);
    for nth in 0..chains {
        let tenant = format!("tenant-{:04}", nth / 2);
        let stream = if nth % 2 == 0 { Stream::Workflow } else { Stream::Control };
        let template = template(&tenant, stream)?;
        let (mut head, tenant_id) = (ChainHead::EMPTY, TenantId::parse(&tenant)?);
        let length = (nth + 1) * options.records / chains - nth * options.records / chains;
        for n in 0..length {
            write_record(&head.append(template.clone()), &mut out)?;
            if n == length / 2 {
                halves.push(NotedHead { tenant_id: tenant_id.clone(), stream, seq: head.seq, hash: head.hash });
            }
        }
        records += length;
        heads.push(NotedHead { tenant_id, stream, seq: head.seq, hash: head.hash });
    }
    let mut signed: Vec<Signed> = Vec::new();
    for noted in halves.chunks(HEADS_MAX).chain(heads.chunks(HEADS_MAX)) {
        let number = signed.len() as i64 + 1;
        let prev = signed.last().map_or([0; 32], |before| sha256(before.text.as_bytes()));
        let (at, key_id, heads) = (time::from_millis(T0), key.id(), noted.to_vec());
        let checkpoint = Checkpoint { number, at, prev, key_id, heads, key: None, next_key: None };
        signed.push(key.sign(checkpoint.text()));
    }
    let lines: String = signed.iter().map(|s| s.line() + "\n").collect();
    out.write_all(lines.as_bytes())?;
    let (at, checkpoints) = (time::from_millis(T0 + 1_000), signed.len() as u64);
    let manifest = Manifest { manifest: EXPORT_FORMAT, at, tenant_id: None, records, checkpoints, chains: heads };
    let signed = key.sign(manifest.text());
    let (signature, public_key) = (Some(signed.signature), Some(key.public()));
    writeln!(out, "{}", ManifestLine { manifest: signed.text, signature, public_key }.line())?;
    out.flush()?;
    Ok(lines)
}

/// One manner of tampering with the lines around one place in the first chain.
struct Tampering {
    what: &'static str,
    /// What the finding must begin with.
    named: &'static str,
    /// Whether the file outside is needed.
    outside: bool,
    deed: Deed,
}

/// What becomes of a line: by its distance from the place.
type Deed = fn(i64, &str) -> Option<String>;

const TAMPERINGS: [Tampering; 8] = [
    Tampering {
        what: "a byte of a body",
        named: "changed",
        outside: false,
        deed: |at, line| Some(if at == 0 { line.replacen("decision_made", "decision_mad3", 1) } else { line.into() }),
    },
    Tampering {
        what: "a record removed",
        named: "removed",
        outside: false,
        deed: |at, line| (at != 0).then(|| line.into()),
    },
    Tampering {
        what: "a record inserted",
        named: "inserted",
        outside: false,
        deed: |at, line| Some(if at == 0 { format!("{line}\n{line}") } else { line.into() }),
    },
    Tampering {
        what: "a record moved to the end of the records",
        named: "reordered",
        outside: false,
        // `tamper` puts what was marked behind the last record.
        deed: |at, line| Some(if at == 0 { format!("\u{0}{line}") } else { line.into() }),
    },
    Tampering {
        what: "a record given to another tenant",
        named: "relabelled",
        outside: false,
        deed: |at, line| Some(if at == 0 { line.replacen("tenant-0000", "tenant-0001", 1) } else { line.into() }),
    },
    Tampering {
        what: "a tail cut off",
        named: "truncated tail",
        outside: true,
        deed: |at, line| (at < 0 || !line.starts_with(FIRST_CHAIN)).then(|| line.into()),
    },
    Tampering {
        what: "a signature",
        named: "wrong signature",
        outside: false,
        deed: |_, line| {
            // The last byte of the signature, in the last two digits before the end.
            let signed = line.starts_with("{\"text\":");
            let cut = line.len().saturating_sub(4);
            Some(if signed {
                format!("{}{}\"}}", &line[..cut], if line.ends_with("00\"}") { "01" } else { "00" })
            } else {
                line.into()
            })
        },
    },
    Tampering {
        what: "a checkpoint's text",
        named: "wrong signature",
        outside: false,
        deed: |_, line| Some(line.replacen("{\\\"checkpoint\\\":1,", "{\\\"checkpoint\\\":1 ,", 1)),
    },
];

const FIRST_CHAIN: &str = "{\"tenant_id\":\"tenant-0000\",\"stream\":\"workflow\"";

/// Copies the export with the deed done at record `place` of the first chain.
fn tamper(from: &Path, to: &Path, place: u64, deed: Deed) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(to)?);
    let mut moved: Option<String> = None;
    for (nth, line) in BufReader::with_capacity(1 << 20, File::open(from)?).lines().enumerate() {
        let line = line?;
        if !line.starts_with("{\"tenant_id\":")
            && let Some(moved) = moved.take()
        {
            writeln!(out, "{moved}")?;
        }
        let Some(line) = deed(nth as i64 - place as i64, &line) else { continue };
        match line.strip_prefix('\u{0}') {
            Some(marked) => moved = Some(marked.to_owned()),
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(out.flush()?)
}
