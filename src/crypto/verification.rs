//! Owns the verification of a store's audit: every record of every chain against the one before it,
//! what is stored against the hashes in the records, and the chains against what was signed over them.
//! Never says what to do about it.
//!
//! # Decisions
//! A record is judged by itself on all cores, a page at a time while the next page is read; only the
//! comparison of numbers and hashes is done in order. Checkpoints are read before the records, so
//! that no chain can be shorter than they say.

use futures::future::BoxFuture;
use std::sync::Arc;

use super::Trust;
use super::checkpoint::{CheckpointCheck, Completeness, Signatures, Worth};
use crate::domain::chains::{ChainId, Chains, Claimant, Claims, Finding, Findings, Judged, Verdict, judge};
use crate::domain::checkpoint::{Anchor, Checkpoint, NotedHead, Signed};
use crate::domain::retention::Expired;
use crate::domain::{AuditBody, Stream, TenantId};
use crate::ports::store::{AuditCursor, AuditLine};
use crate::ports::{Checkpoints, EventStore, StoreError};

/// Records asked of the store at once: 5,000 of 2 to 4 KB with their event and decision.
const PAGE: u32 = 5_000;

/// Checkpoints asked of the store at once; one has up to 150 KB.
const CHECKPOINTS_PAGE: u32 = 100;

/// Anchors asked of the store at once.
const ANCHORS_PAGE: u32 = 1_000;

/// What checkpoints say of chains that is held at once, some 130 MB; the rest is told as not held.
const CLAIMS_MAX: usize = 2_000_000;

/// A part of a page to be judged.
pub type Job = Box<dyn FnOnce() -> Vec<JudgedLine> + Send>;

/// Does jobs beside each other, on threads that may be busy for a while, and gives what they give, in
/// their order; else why one broke off. Given, because nothing here knows a runtime.
pub type Spread = fn(Vec<Job>) -> BoxFuture<'static, Result<Vec<Vec<JudgedLine>>, String>>;

/// What a verification has found.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Of the records, and of what was signed over them.
    pub verdict: Verdict,
    /// Signatures that were looked at.
    pub signatures: Signatures,
    /// Heads in old checkpoints that were not held against the chains.
    pub beyond: u64,
}

/// A verification, up to the records: what was signed over the chains.
pub struct Verification {
    trust: Option<Trust>,
    kept: Option<CheckpointCheck>,
    check: CheckpointCheck,
    claims: Claims,
    anchors: Vec<NotedHead>,
    signatures: Signatures,
    findings: Findings,
    /// Claims beyond [`CLAIMS_MAX`].
    beyond: u64,
}

impl Verification {
    /// One that has seen nothing. Without `trust` signatures are not checked.
    pub fn new(trust: Option<Trust>) -> Self {
        Self {
            check: CheckpointCheck::new(trust.clone(), Completeness::Whole),
            trust,
            kept: None,
            claims: Claims::default(),
            anchors: Vec::new(),
            signatures: Signatures::default(),
            findings: Findings::default(),
            beyond: 0,
        }
    }

    /// Takes a checkpoint that was kept outside the store: what it names must be there. Before anything
    /// is read.
    pub fn outside(&mut self, signed: &Signed) {
        let trust = &self.trust;
        let kept = || CheckpointCheck::new(trust.clone(), Completeness::Parts).keeping_texts();
        if let Some(checkpoint) = self.kept.get_or_insert_with(kept).take(signed) {
            self.claim(&checkpoint, Claimant::Outside(checkpoint.number));
        }
    }

    /// Reads everything and judges it; tells `progress` how many records were taken.
    ///
    /// # Errors
    /// When the store is away, or what it keeps can't be read.
    pub async fn run(
        mut self,
        store: &dyn EventStore,
        checkpoints: Option<&dyn Checkpoints>,
        (spread, progress): (Spread, &(dyn Fn(u64) + Sync)),
    ) -> Result<Verified, StoreError> {
        if let Some(checkpoints) = checkpoints {
            self.read(checkpoints).await?;
        }
        let mut chains = Chains::new(std::mem::take(&mut self.claims), std::mem::take(&mut self.anchors));
        take_all(store, &mut chains, (spread, progress)).await?;
        let mut verdict = chains.finish(None);
        verdict.findings.append(self.findings);
        verdict.findings.kept.sort();
        Ok(Verified { verdict, signatures: self.signatures, beyond: self.beyond })
    }

    /// Checkpoints, then the anchors, by the keys that the checkpoints hand over to.
    async fn read(&mut self, store: &dyn Checkpoints) -> Result<(), StoreError> {
        if let Some(kept) = self.kept.take() {
            let checked = kept.finish();
            self.count(checked.signatures);
            self.findings.append(checked.findings);
            let check = std::mem::replace(&mut self.check, CheckpointCheck::new(None, Completeness::Whole));
            self.check = check.against(checked.texts);
        }
        let mut last = 0;
        loop {
            let page = store.checkpoints_page(last, CHECKPOINTS_PAGE).await?;
            for kept in &page {
                last = kept.number;
                if let Some(checkpoint) = self.check.take(&kept.signed) {
                    self.claim(&checkpoint, Claimant::Checkpoint(checkpoint.number));
                }
            }
            if page.len() < CHECKPOINTS_PAGE as usize {
                break;
            }
        }
        let check = std::mem::replace(&mut self.check, CheckpointCheck::new(None, Completeness::Whole));
        let checked = check.finish();
        self.count(checked.signatures);
        self.findings.append(checked.findings);
        self.read_anchors(store, checked.trust.as_ref()).await
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
    async fn read_anchors(&mut self, store: &dyn Checkpoints, trust: Option<&Trust>) -> Result<(), StoreError> {
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

async fn take_all(
    store: &dyn EventStore,
    chains: &mut Chains,
    (spread, progress): (Spread, &(dyn Fn(u64) + Sync)),
) -> Result<(), StoreError> {
    let mut page = store.audit_page(None, PAGE).await?;
    while let Some(last) = page.last() {
        let r = &last.record;
        let cursor = AuditCursor { tenant: r.tenant.clone(), stream: r.stream, seq: r.seq };
        let (whole, count) = (page.len() == PAGE as usize, page.len() as u64);
        let next = async { if whole { store.audit_page(Some(&cursor), PAGE).await } else { Ok(Vec::new()) } };
        // Behind the page: a day that went before it was read is among them.
        let expired = Arc::new(store.expired_ranges().await?);
        let (judged, next) = futures::join!(judge_page(page, &expired, spread), next);
        for (id, judged, stored) in judged? {
            let seq = judged.seq;
            chains.take(&id, judged);
            if let Some(why) = stored {
                chains.note(Finding::of(&id, seq, why));
            }
        }
        progress(count);
        page = next?;
    }
    Ok(())
}

/// A record's chain, the record, and what is wrong with what it speaks of.
pub type JudgedLine = (ChainId, Judged, Option<String>);

/// Judges a page on all cores, in its order.
async fn judge_page(
    page: Vec<AuditLine>,
    expired: &Arc<Expired>,
    spread: Spread,
) -> Result<Vec<JudgedLine>, StoreError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let size = page.len().div_ceil(cores).max(1);
    let page = Arc::new(page);
    let job = |start: usize| -> Job {
        let (page, expired, end) = (Arc::clone(&page), Arc::clone(expired), page.len().min(start + size));
        Box::new(move || page[start..end].iter().map(|line| judge_line(line, &expired)).collect())
    };
    let jobs = (0..page.len()).step_by(size).map(job).collect();
    let judged = spread(jobs).await.map_err(|e| StoreError::Fault(format!("checking a page broke off: {e}")))?;
    Ok(judged.into_iter().flatten().collect())
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
