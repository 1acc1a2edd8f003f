//! The notary: signs the ends of the chains that have grown, in a chain of checkpoints of its own.
//!
//! Owns the rhythm of the checkpoints and the hand-over of its key. Never signs under another's
//! key, and never stops its process: what fails is tried again, and metered.
//!
//! # Decisions
//! Several processes may run one. Each append names the number that it expects, so one is first and
//! the others fold its checkpoint into what they know. What was noted of each chain is kept in
//! memory and found again from the newest checkpoints; a chain that is not found there is noted
//! once more, which costs a line and loses nothing. A process whose key was handed over signs no
//! more.

use metrics::{counter, gauge};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Outside;
use crate::crypto::AuditKey;
use crate::domain::audit::{Hash, sha256};
use crate::domain::chains::ChainId;
use crate::domain::checkpoint::{Checkpoint, HEADS_MAX, NotedHead, key_id};
use crate::domain::{Stream, TenantId, time};
use crate::ports::checkpoints::{Appended, KeptCheckpoint};
use crate::ports::{Clock, Registry, StoreError};
use crate::telemetry::names;

/// Chains that are remembered; one more and the memory begins anew, which notes each chain again.
const NOTED_MAX: usize = 500_000;

/// Checkpoints that are read at the start, to find out what they have noted.
const RECENT: i64 = 100;

/// Heads and checkpoints asked of the store at once.
const HEADS_PAGE: u32 = 1_000;
const CHECKPOINTS_PAGE: u32 = 100;

/// How often it looks at least, and at most.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The keys of the settings.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Signs.
    pub current: AuditKey,
    /// Signed until now; hands over to the current one.
    pub previous: Option<AuditKey>,
}

/// When a checkpoint is due.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// At the latest so long after the last one, if anything has grown.
    pub every: Duration,
    /// After about so many new records.
    pub records: u64,
}

/// Why the notary can't sign.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last checkpoint was signed by somebody else.
    #[error(
        "sign checkpoints: after checkpoint {number} key {expected} signs, but RISKFLEET_AUDIT_KEY is key {own}; set \
         RISKFLEET_AUDIT_KEY_PREVIOUS to the key {expected} to hand over, or RISKFLEET_AUDIT_KEY back to it"
    )]
    ForeignKey {
        /// The last checkpoint.
        number: i64,
        /// Whose turn it is.
        expected: String,
        /// Whose key this is.
        own: String,
    },
}

/// What is known of the newest checkpoint.
#[derive(Debug, Clone)]
struct Last {
    number: i64,
    hash: Hash,
    key_after: String,
    at_ms: u64,
}

/// Signs what has grown.
pub struct Notary {
    store: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    keys: Keys,
    rules: Rules,
    outside: Option<Outside>,
    noted: HashMap<ChainId, i64>,
    last: Option<Last>,
    /// By the clock's elapsed time.
    written: Option<Duration>,
}

impl Notary {
    /// A notary that knows the newest checkpoints and whose key is the one in force; a key that has
    /// a predecessor takes over here.
    ///
    /// # Errors
    /// [`NotaryError::ForeignKey`] when neither key of the settings is in force.
    pub async fn begin(
        store: Arc<dyn Registry>,
        clock: Arc<dyn Clock>,
        keys: Keys,
        rules: Rules,
        outside: Option<Outside>,
    ) -> Result<Self, NotaryError> {
        let mut notary = Self { store, clock, keys, rules, outside, noted: HashMap::new(), last: None, written: None };
        if let Some(newest) = notary.store.last_checkpoint().await? {
            let from = (newest.number - RECENT).max(0);
            notary.catch_up(from).await?;
        }
        notary.settle_key().await?;
        Ok(notary)
    }

    /// Looks and signs until `stop`, and once more then.
    pub async fn run(mut self, stop: CancellationToken) {
        let every = (self.rules.every / 6).clamp(LOOKS.0, LOOKS.1);
        loop {
            let stopped = stop.is_cancelled();
            if let Err(error) = self.look(stopped).await {
                counter!(names::CHECKPOINT_FAILURES).increment(1);
                tracing::error!(%error, "failed to write a checkpoint of the audit; it is tried again");
            }
            if stopped {
                return;
            }
            _ = stop.run_until_cancelled(tokio::time::sleep(every)).await;
        }
    }

    /// One look: signs when it is due, or in any case when it is the last; brings the file outside
    /// up to date.
    ///
    /// # Errors
    /// When the store fails or the key is no longer in force; the next look goes on.
    pub async fn look(&mut self, last: bool) -> Result<(), NotaryError> {
        let signed = self.sign_when_due(last).await;
        self.show();
        // Whatever became of it: what others have signed goes outside too.
        if let Some(outside) = &mut self.outside
            && let Err(error) = outside.follow(&*self.store).await
        {
            counter!(names::CHECKPOINT_FAILURES).increment(1);
            tracing::error!(%error, "failed to write checkpoints outside the database; it is tried again");
        }
        signed
    }

    async fn sign_when_due(&mut self, last: bool) -> Result<(), NotaryError> {
        self.catch_up(self.last.as_ref().map_or(0, |l| l.number)).await?;
        self.settle_key().await?;
        let since = self.grown_records().await?;
        gauge!(names::UNSIGNED_RECORDS).set(since as f64);
        let now = self.clock.elapsed();
        let waited = self.written.is_none_or(|at| now.saturating_sub(at) >= self.rules.every);
        if since > 0 && (last || waited || since >= self.rules.records) {
            self.sign_grown().await?;
            self.written = Some(now);
            gauge!(names::UNSIGNED_RECORDS).set(0.0);
        }
        Ok(())
    }

    fn show(&self) {
        if let Some(last) = &self.last {
            let age_ms = time::to_millis(self.clock.now()).saturating_sub(last.at_ms);
            gauge!(names::CHECKPOINT_AGE_SECONDS).set(age_ms as f64 / 1000.0);
        }
    }

    /// Folds the checkpoints behind `after` into what is known.
    async fn catch_up(&mut self, mut after: i64) -> Result<(), NotaryError> {
        loop {
            let page = self.store.checkpoints_page(after, CHECKPOINTS_PAGE).await?;
            for kept in &page {
                after = kept.number;
                self.fold(kept)?;
            }
            if page.len() < CHECKPOINTS_PAGE as usize {
                return Ok(());
            }
        }
    }

    fn fold(&mut self, kept: &KeptCheckpoint) -> Result<(), StoreError> {
        let text = &kept.signed.text;
        let checkpoint = Checkpoint::parse(text)
            .map_err(|e| StoreError::Fault(format!("read what is stored: checkpoint {}: {e}", kept.number)))?;
        self.remember(&checkpoint, text);
        Ok(())
    }

    fn remember(&mut self, checkpoint: &Checkpoint, text: &str) {
        if self.noted.len() + checkpoint.heads.len() > NOTED_MAX {
            self.noted.clear();
        }
        for head in &checkpoint.heads {
            self.noted.insert((head.tenant_id.clone(), head.stream), head.seq);
        }
        self.last = Some(Last {
            number: checkpoint.number,
            hash: sha256(text.as_bytes()),
            key_after: checkpoint.key_after(),
            at_ms: time::to_millis(checkpoint.at),
        });
    }

    /// Makes sure that the current key is in force: the previous one hands over to it.
    async fn settle_key(&mut self) -> Result<(), NotaryError> {
        let own = self.keys.current.id();
        let Some(last) = self.last.as_ref().filter(|last| last.key_after != own) else { return Ok(()) };
        let Some(previous) = self.keys.previous.clone().filter(|p| p.id() == last.key_after) else {
            let (number, expected) = (last.number, last.key_after.clone());
            return Err(NotaryError::ForeignKey { number, expected, own });
        };
        let mut hand_over = self.next(&previous, Vec::new());
        hand_over.key = Some(previous.public());
        hand_over.next_key = Some(self.keys.current.public());
        if self.append(&previous, &hand_over).await? == Appended::Done {
            tracing::info!(key.from = previous.id(), key.to = own, "the audit's key was handed over");
        }
        Ok(())
    }

    fn next(&self, key: &AuditKey, heads: Vec<NotedHead>) -> Checkpoint {
        let (number, prev) = self.last.as_ref().map_or((1, [0; 32]), |last| (last.number + 1, last.hash));
        let at = time::whole_millis(self.clock.now());
        Checkpoint { number, at, prev, key_id: key_id(&key.public()), heads, key: None, next_key: None }
    }

    async fn append(&mut self, key: &AuditKey, checkpoint: &Checkpoint) -> Result<Appended, NotaryError> {
        let signed = key.sign(checkpoint.text());
        let appended = self.store.append_checkpoint(checkpoint, &signed).await?;
        match appended {
            Appended::Done => {
                counter!(names::CHECKPOINTS).increment(1);
                self.remember(checkpoint, &signed.text);
            }
            // Another process was first: what it has noted is known from here on.
            Appended::Behind => self.catch_up(checkpoint.number - 1).await?,
        }
        Ok(appended)
    }

    fn grown(&self, head: &NotedHead) -> i64 {
        let noted = self.noted.get(&(head.tenant_id.clone(), head.stream)).copied().unwrap_or(0);
        (head.seq - noted).max(0)
    }

    /// Records that no checkpoint covers.
    async fn grown_records(&self) -> Result<u64, NotaryError> {
        let (mut after, mut records) = (None, 0);
        loop {
            let page = self.store.chain_heads(after.as_ref(), HEADS_PAGE).await?;
            records += page.iter().map(|head| self.grown(head)).sum::<i64>();
            after = last_chain(&page);
            if page.len() < HEADS_PAGE as usize {
                return Ok(u64::try_from(records).unwrap_or(0));
            }
        }
    }

    async fn sign_grown(&mut self) -> Result<(), NotaryError> {
        let (mut after, mut heads) = (None, Vec::new());
        loop {
            let page = self.store.chain_heads(after.as_ref(), HEADS_PAGE).await?;
            after = last_chain(&page);
            let whole = page.len() == HEADS_PAGE as usize;
            for head in page {
                if self.grown(&head) > 0 {
                    heads.push(head);
                }
                if heads.len() == HEADS_MAX {
                    self.sign(std::mem::take(&mut heads)).await?;
                }
            }
            if !whole {
                return self.sign(heads).await;
            }
        }
    }

    async fn sign(&mut self, heads: Vec<NotedHead>) -> Result<(), NotaryError> {
        if heads.is_empty() {
            return Ok(());
        }
        let key = self.keys.current.clone();
        // Behind another process: what it has not noted is signed at the next look.
        self.append(&key, &self.next(&key, heads)).await?;
        Ok(())
    }
}

fn last_chain(page: &[NotedHead]) -> Option<(TenantId, Stream)> {
    page.last().map(|head| (head.tenant_id.clone(), head.stream))
}
