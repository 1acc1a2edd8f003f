//! `audit verify`: every record of every chain against the one before it, what is stored against
//! the hashes in the records, and the chains against the checkpoints that were signed over them.
//!
//! # Decisions
//! A record is judged by itself on all cores, a page at a time while the next page is read; only the
//! comparison of numbers and hashes is done in order. Checkpoints are read before the records, so
//! that no chain can be shorter than they say.

use std::sync::Arc;

use super::audit_file::{each_checkpoint, public_key};
use super::audit_report::Report;
use super::{AuditSources, CliError, Exit, Screen};
use crate::cli::args::AuditVerify;
use crate::crypto::Trust;
use crate::crypto::checkpoint::{CheckpointCheck, Completeness, Signatures, Worth};
use crate::domain::chains::{ChainId, Chains, Claimant, Claims, Finding, Findings, Judged, judge};
use crate::domain::checkpoint::{Anchor, Checkpoint, NotedHead};
use crate::domain::retention::Expired;
use crate::domain::{AuditBody, Stream, TenantId};
use crate::ports::store::{AuditCursor, AuditLine};
use crate::ports::{Checkpoints, StoreError};

/// Records asked of the store at once: 5,000 of 2 to 4 KB with their event and decision.
const PAGE: u32 = 5_000;

/// Checkpoints asked of the store at once; one has up to 150 KB.
const CHECKPOINTS_PAGE: u32 = 100;

/// Anchors asked of the store at once.
const ANCHORS_PAGE: u32 = 1_000;

/// What checkpoints say of chains that is held at once, some 130 MB; the rest is told as not held.
const CLAIMS_MAX: usize = 2_000_000;

pub(super) async fn run(
    args: &AuditVerify,
    sources: &AuditSources<'_>,
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let key = args.public_key.as_deref().map(public_key).transpose()?.or(sources.public_key);
    let trust = key.as_ref().map(Trust::of).transpose().map_err(|e| CliError::Misuse(e.to_string()))?;
    let mut proof = match sources.checkpoints {
        Some(checkpoints) => Proof::read(checkpoints, trust.clone(), args).await?,
        None => Proof::default(),
    };
    let mut chains = Chains::new(std::mem::take(&mut proof.claims), std::mem::take(&mut proof.anchors));
    take_all(sources, &mut chains, screen).await?;
    let mut verdict = chains.finish(None);
    verdict.findings.append(proof.findings);
    verdict.findings.kept.sort();
    let report = Report::new(verdict, proof.signatures);
    if args.json {
        screen.json(&report)?;
    } else {
        report.print(screen)?;
        if proof.beyond > 0 {
            writeln!(screen.out, "heads in old checkpoints NOT held against the chains: {}", proof.beyond)?;
        }
    }
    Ok(Exit::when(report.ok))
}

/// What was signed over the chains.
#[derive(Default)]
struct Proof {
    claims: Claims,
    anchors: Vec<NotedHead>,
    signatures: Signatures,
    findings: Findings,
    /// Claims beyond [`CLAIMS_MAX`].
    beyond: u64,
}

impl Proof {
    async fn read(store: &dyn Checkpoints, trust: Option<Trust>, args: &AuditVerify) -> Result<Self, CliError> {
        let mut proof = Self::default();
        let mut check = CheckpointCheck::new(trust.clone(), Completeness::Whole);
        if let Some(outside) = &args.anchor {
            let mut kept = CheckpointCheck::new(trust, Completeness::Parts).keeping_texts();
            each_checkpoint(outside, |text| {
                if let Some(checkpoint) = kept.take(text) {
                    proof.claim(&checkpoint, Claimant::Outside(checkpoint.number));
                }
            })?;
            let checked = kept.finish();
            proof.count(checked.signatures);
            proof.findings.append(checked.findings);
            check = check.against(checked.texts);
        }
        let mut last = 0;
        loop {
            let page = store.checkpoints_page(last, CHECKPOINTS_PAGE).await?;
            for kept in &page {
                last = kept.number;
                if let Some(checkpoint) = check.take(&kept.signed) {
                    proof.claim(&checkpoint, Claimant::Checkpoint(checkpoint.number));
                }
            }
            if page.len() < CHECKPOINTS_PAGE as usize {
                break;
            }
        }
        let checked = check.finish();
        proof.count(checked.signatures);
        proof.findings.append(checked.findings);
        proof.read_anchors(store, checked.trust.as_ref()).await?;
        Ok(proof)
    }

    fn claim(&mut self, checkpoint: &Checkpoint, by: Claimant) {
        for head in &checkpoint.heads {
            if self.claims.len() < CLAIMS_MAX {
                self.claims.add(head, by);
            } else {
                self.beyond += 1;
            }
        }
    }

    fn count(&mut self, signatures: Signatures) {
        self.signatures.checked += signatures.checked;
        self.signatures.unchecked += signatures.unchecked;
    }

    /// Honours only anchors whose signature holds.
    async fn read_anchors(&mut self, store: &dyn Checkpoints, trust: Option<&Trust>) -> Result<(), CliError> {
        let mut after: Option<(TenantId, Stream)> = None;
        loop {
            let page = store.anchors_page(after.as_ref(), ANCHORS_PAGE).await?;
            for signed in &page {
                let anchor = Anchor::parse(&signed.text)
                    .map_err(|e| StoreError::Fault(format!("read what is stored: an anchor: {e}")))?;
                after = Some((anchor.tenant_id.clone(), anchor.stream));
                let worth = trust.map_or(Worth::Unknown, |t| t.worth(&anchor.key_id, &signed.text, &signed.signature));
                let Anchor { tenant_id, stream, seq, hash, .. } = anchor;
                if worth == Worth::Holds {
                    self.signatures.checked += 1;
                    self.anchors.push(NotedHead { tenant_id, stream, seq, hash });
                } else {
                    let why = "wrong signature: no known key has signed the anchor that this chain begins with";
                    self.findings.add(Finding::of(&(tenant_id, stream), seq, why));
                }
            }
            if page.len() < ANCHORS_PAGE as usize {
                return Ok(());
            }
        }
    }
}

async fn take_all(sources: &AuditSources<'_>, chains: &mut Chains, screen: &Screen<'_>) -> Result<(), CliError> {
    let store = sources.store;
    let bar = screen.bar(expected(sources, screen).await, "records");
    let mut page = store.audit_page(None, PAGE).await?;
    while let Some(last) = page.last() {
        let r = &last.record;
        let cursor = AuditCursor { tenant: r.tenant.clone(), stream: r.stream, seq: r.seq };
        let (whole, count) = (page.len() == PAGE as usize, page.len() as u64);
        let next = async { if whole { store.audit_page(Some(&cursor), PAGE).await } else { Ok(Vec::new()) } };
        // Behind the page: a day that went before it was read is among them.
        let expired = Arc::new(sources.store.expired_ranges().await?);
        let (judged, next) = tokio::join!(judge_page(page, &expired), next);
        for (id, judged, stored) in judged? {
            let seq = judged.seq;
            chains.take(&id, judged);
            if let Some(why) = stored {
                chains.note(Finding::of(&id, seq, why));
            }
        }
        bar.inc(count);
        page = next?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// About how many records there are, for a bar that knows its end; only where somebody sees it.
async fn expected(sources: &AuditSources<'_>, screen: &Screen<'_>) -> Option<u64> {
    if !screen.progress {
        return None;
    }
    let ledger = sources.store.ledger().await.ok()?;
    u64::try_from(ledger.decided + ledger.dead).ok()
}

/// A record's chain, the record, and what is wrong with what it speaks of.
type JudgedLine = (ChainId, Judged, Option<String>);

/// Judges a page on all cores, in its order.
async fn judge_page(page: Vec<AuditLine>, expired: &Arc<Expired>) -> Result<Vec<JudgedLine>, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let size = page.len().div_ceil(cores).max(1);
    let page = Arc::new(page);
    let mut parts = Vec::with_capacity(cores);
    for start in (0..page.len()).step_by(size) {
        let (page, expired, end) = (Arc::clone(&page), Arc::clone(expired), page.len().min(start + size));
        let judge = move || page[start..end].iter().map(|line| judge_line(line, &expired)).collect::<Vec<_>>();
        parts.push(tokio::task::spawn_blocking(judge));
    }
    let mut judged = Vec::with_capacity(page.len());
    for part in parts {
        judged.extend(part.await.map_err(|e| StoreError::Fault(format!("checking a page broke off: {e}")))?);
    }
    Ok(judged)
}

fn judge_line(line: &AuditLine, expired: &Expired) -> JudgedLine {
    let r = &line.record;
    let place = (r.tenant.as_str(), r.stream.as_str(), r.seq);
    let fault = judge(place, &r.prev_hash, &r.hash, &r.body);
    let stored = if fault.is_none() { stored(line, expired) } else { None };
    ((r.tenant.clone(), r.stream), Judged { seq: r.seq, prev: r.prev_hash, hash: r.hash, fault }, stored)
}

fn stored(line: &AuditLine, expired: &Expired) -> Option<String> {
    let checked = match serde_json::from_str::<AuditBody>(&line.record.body) {
        Ok(body) => expired.check_stored(&body, line.event.as_deref(), line.decision.as_deref()),
        Err(e) => return Some(format!("unreadable body: {e}")),
    };
    checked.err().map(|fault| fault.to_string())
}
