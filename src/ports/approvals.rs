//! What people do with the requests that the workflow opens.
//!
//! A request is opened by the decision that escalates its event, in that decision's transaction
//! (`Lane::commit_batch`), and is read back with its event (`EventStore::event`). Each verb here
//! that changes something locks the request, asks [`crate::domain::approval`] whether it may be,
//! and writes its audit record to the tenant's control chain, in ONE transaction. Who does it, when
//! and why is said by that record. One contract suite (`tests/it/approvals_contract.rs`).

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::store::{Approval, StoreError};
use crate::domain::approval::{ApprovalRules, Powers, Refusal, Verdict};
use crate::domain::{AuditBody, EventId, TenantId};

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalState {
    /// Without a verdict.
    Open,
    /// Without a verdict, and claimed at this moment.
    Claimed(DateTime<Utc>),
    /// Without a verdict, and escalated or opened at or before this moment.
    Overdue(Option<DateTime<Utc>>),
    /// With a verdict.
    Decided,
}

/// Which requests to list, newest event first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// Only this tenant's.
    pub tenant: Option<TenantId>,
    /// Only those that stand there.
    pub state: ApprovalState,
    /// Only those of events older than this one (keyset paging).
    pub before: Option<EventId>,
    /// At most so many; 1 or more.
    pub limit: u32,
}

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalLine {
    /// The event.
    pub event: EventId,
    /// Whose.
    pub tenant: TenantId,
    /// The request, without its history.
    pub approval: Approval,
}

impl ApprovalLine {
    /// The JSON that is shown.
    pub fn view(&self, rules: &ApprovalRules, now: DateTime<Utc>) -> Value {
        self.approval.view((self.event, &self.tenant), rules, now)
    }
}

/// One person's act on one request.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalAct {
    /// Whose event.
    pub tenant: TenantId,
    /// The event.
    pub event: EventId,
    /// What the person may do beyond the permission.
    pub powers: Powers,
    /// The record of it, all but the place in the chain; its actor, moment and reason are the act's.
    pub audit: AuditBody,
}

/// What became of an act: done, or why it may not be; then nothing was written.
pub type Acted = Result<(), Refusal>;

/// How many requests there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApprovalCounts {
    /// Without a verdict.
    pub open: u64,
    /// Those of them that are overdue.
    pub overdue: u64,
    /// Those of them that nobody has escalated yet.
    pub to_escalate: u64,
}

/// Every verb may fail with [`StoreError::Away`] or [`StoreError::Fault`]; the latter also when the
/// audit record is of another tenant's or another stream's chain.
#[async_trait]
pub trait Approvals: Send + Sync {
    /// Lists requests.
    async fn list_approvals(&self, filter: &ApprovalFilter) -> Result<Vec<ApprovalLine>, StoreError>;

    /// Claims a request up to a moment, or renews the claim.
    async fn claim_approval(&self, act: &ApprovalAct, until: DateTime<Utc>) -> Result<Acted, StoreError>;

    /// Gives a claim back.
    async fn release_approval(&self, act: &ApprovalAct) -> Result<Acted, StoreError>;

    /// Keeps a comment of 1 to [`crate::domain::approval::COMMENT_CHARS_MAX`] characters. The audit
    /// holds its SHA-256 and its length alone.
    async fn comment_approval(&self, act: &ApprovalAct, text: &str) -> Result<Acted, StoreError>;

    /// Gives the verdict, for the reason in the audit record, and writes an outbox row `row` of kind
    /// outcome that is due at once, so that the verdict is published. Of several the first one wins.
    ///
    /// # Errors
    /// [`StoreError::Fault`] when the record has no reason.
    async fn decide_approval(&self, act: &ApprovalAct, verdict: Verdict, row: Uuid) -> Result<Acted, StoreError>;

    /// Counts requests; overdue are those escalated, or opened at or before `opened_by`.
    async fn count_approvals(&self, opened_by: Option<DateTime<Utc>>) -> Result<ApprovalCounts, StoreError>;

    /// Requests on the first level that were opened at or before `opened_by`, in any order.
    async fn approvals_to_escalate(
        &self,
        opened_by: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<(TenantId, EventId)>, StoreError>;

    /// Raises a request to the second level and ends its claim. False when it is not one of
    /// [`Approvals::approvals_to_escalate`] (any more): nothing was written.
    async fn escalate_approval(
        &self,
        tenant: &TenantId,
        event: EventId,
        opened_by: DateTime<Utc>,
        audit: &AuditBody,
    ) -> Result<bool, StoreError>;
}
