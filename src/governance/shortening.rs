//! Owns the hourly shortening of audit chains: records whose time is over go below a signed anchor, on
//! which the rest of the chain hangs. Never touches a chain of a tenant under legal hold, nor the
//! record of an event that is still stored.
//!
//! # Decisions
//! A chain goes from its beginning, record by record, up to the first one that stays: what is left is
//! one piece. Its last record always stays, since the next one hangs on it.

use chrono::{DateTime, Utc};
use metrics::counter;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::crypto::AuditKey;
use crate::domain::checkpoint::{Anchor, NotedHead};
use crate::domain::retention::Expired;
use crate::domain::{AuditBody, AuditRecord, EventId, Stream, time};
use crate::ports::checkpoints::{PRUNE_MAX, Pruned};
use crate::ports::store::AuditCursor;
use crate::ports::{Clock, EventStore, Registry, StoreError};
use crate::telemetry::names;

/// How often chains are looked at.
const EVERY: Duration = Duration::from_secs(3_600);

/// Chains asked of the store at once.
const HEADS_PAGE: u32 = 1_000;

/// What of a record's text tells its age.
#[derive(Deserialize)]
struct Dated {
    at: DateTime<Utc>,
    #[serde(default)]
    event_id: Option<EventId>,
}

/// What lets a record go.
struct Over {
    before: DateTime<Utc>,
    days: Expired,
}

impl Over {
    fn has(&self, record: &AuditRecord) -> Result<bool, StoreError> {
        let dated: Dated = serde_json::from_str(&record.body)
            .map_err(|e| StoreError::Fault(format!("read what is stored: an audit record's time: {e}")))?;
        Ok(dated.at < self.before && dated.event_id.is_none_or(|event| self.days.of(event).is_some()))
    }
}

/// What the shortening stands on.
pub struct Shortener {
    /// Says which days are gone.
    pub store: Arc<dyn EventStore>,
    /// Where the chains are.
    pub registry: Arc<dyn Registry>,
    /// For the age of records.
    pub clock: Arc<dyn Clock>,
    /// Signs the anchors.
    pub key: AuditKey,
    /// How long records are kept at least, in days; 1 or more.
    pub audit_days: u32,
}

impl Shortener {
    /// Looks now and every hour, until stopped; an act that was begun is finished.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            match self.look(&stop).await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(records = gone, "audit chains were shortened: their time is over"),
                Err(e) => {
                    counter!(names::AUDIT_SHORTENING_FAILURES).increment(1);
                    tracing::warn!(error = %e, "failed to shorten audit chains; the next try is in an hour");
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Shortens every chain that may be; gives how many records went.
    ///
    /// # Errors
    /// When the store fails; what went until then is gone.
    pub async fn look(&self, stop: &CancellationToken) -> Result<u64, StoreError> {
        let before = self.clock.now() - chrono::TimeDelta::days(i64::from(self.audit_days));
        let over = Over { before, days: self.store.expired_ranges().await? };
        let (mut after, mut gone) = (None, 0);
        loop {
            let page = self.registry.chain_heads(after.as_ref(), HEADS_PAGE).await?;
            for head in &page {
                if stop.is_cancelled() {
                    return Ok(gone);
                }
                gone += self.shorten(head, &over).await?;
            }
            match page.last() {
                Some(last) if page.len() == HEADS_PAGE as usize => after = Some((last.tenant_id.clone(), last.stream)),
                _ => return Ok(gone),
            }
        }
    }

    async fn shorten(&self, head: &NotedHead, over: &Over) -> Result<u64, StoreError> {
        // One record tells of most chains that nothing is old: only then a whole page is read.
        if self.old(head, over, 1).await?.is_none() || self.held(head).await? {
            return Ok(0);
        }
        let mut gone = 0;
        while let Some(last) = self.old(head, over, PRUNE_MAX as u32).await? {
            match self.prune(&last).await? {
                0 => break,
                pruned => gone += pruned,
            }
        }
        Ok(gone)
    }

    async fn held(&self, head: &NotedHead) -> Result<bool, StoreError> {
        Ok(self.registry.tenant(&head.tenant_id).await?.is_some_and(|tenant| tenant.hold.is_some()))
    }

    /// The last of the first `limit` records of a chain whose time is over for all of them, but never
    /// the chain's end.
    async fn old(&self, head: &NotedHead, over: &Over, limit: u32) -> Result<Option<AuditRecord>, StoreError> {
        let start = AuditCursor { tenant: head.tenant_id.clone(), stream: head.stream, seq: 0 };
        let page = self.registry.records_page(Some(&start), limit).await?;
        let same = |r: &AuditRecord| r.tenant == head.tenant_id && r.stream == head.stream && r.seq < head.seq;
        let mut last = None;
        for record in page.into_iter().take_while(same) {
            if !over.has(&record)? {
                break;
            }
            last = Some(record);
        }
        Ok(last)
    }

    async fn prune(&self, last: &AuditRecord) -> Result<u64, StoreError> {
        let at = time::whole_millis(self.clock.now());
        let reason = format!("kept at least {} days", self.audit_days);
        let anchor = Anchor {
            anchor: 1,
            tenant_id: last.tenant.clone(),
            stream: last.stream,
            seq: last.seq,
            hash: last.hash,
            at,
            reason: reason.clone(),
            key_id: self.key.id(),
        };
        let resource = ("audit", format!("{}/{}", last.stream, last.seq));
        let audit =
            AuditBody::new((last.tenant.clone(), Stream::Control), at, "governance", "audit_shortened", resource);
        let audit = AuditBody { reason: Some(reason), ..audit };
        match self.registry.prune_chain(&anchor, &self.key.sign(anchor.text()), &audit).await? {
            Pruned::Done(gone) => {
                counter!(names::AUDIT_SHORTENED).increment(gone);
                Ok(gone)
            }
            // Another console was first, or a hold has been set since.
            Pruned::NoSuchRecord | Pruned::Head | Pruned::TooMany | Pruned::Held => Ok(0),
        }
    }
}
