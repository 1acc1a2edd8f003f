//! Owns the lane and its commit: fence, dedupe, decisions, audit, approvals and outbox in one
//! transaction. What makes it safe is said in `fence`, and in `mark` for events that were retried.

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

use super::connect::{corrupt, failed};
use super::fence::{epoch_of, fence};
use super::read::{dead_body, outcome_number};
use super::{mark, retries};
use crate::crypto::HeadCache;
use crate::domain::retention::Day;
use crate::domain::{AuditRecord, ChainHead, Outcome, TenantId};
use crate::ports::costs::rolled_up;
use crate::ports::store::{
    CommitBatch, Committed, Disposition, Lane, Mark, MarkBatch, NewDisposition, RetryBatch, StoreError,
};

/// One connection, and the heads of the chains that only this lane writes.
pub(super) struct PostgresLane {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    heads: HeadCache,
    locks: i32,
}

impl PostgresLane {
    /// A lane that connects when it first commits.
    pub(super) fn new(options: PgConnectOptions, locks: i32) -> Self {
        Self { options, connection: None, heads: HeadCache::default(), locks }
    }

    async fn connection(&mut self) -> Result<PgConnection, StoreError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.options.connect().await.map_err(failed),
        }
    }

    async fn try_commit(&mut self, batch: &CommitBatch) -> Result<Vec<Committed>, StoreError> {
        let mut connection = self.connection().await?;
        let mut tx = connection.begin().await.map_err(failed)?;
        let ids: Vec<Uuid> = batch.items.iter().map(|item| item.event.0).collect();
        let seen = fence(&mut tx, self.locks, &batch.epochs, &ids).await?;
        let fate = |item: &NewDisposition| seen.fate(&batch.epochs, item.partition, item.event);
        let verdicts: Vec<Committed> = batch.items.iter().map(fate).collect();
        let kept: Vec<&NewDisposition> =
            batch.items.iter().zip(&verdicts).filter(|(_, v)| **v == Committed::Written).map(|(i, _)| i).collect();
        if kept.is_empty() {
            tx.rollback().await.map_err(failed)?;
        } else {
            let mut heads = self.load_heads(&mut tx, batch, &kept).await?;
            let waited = write(&mut tx, batch, &kept, &mut heads).await?;
            mark::count_late(&mut tx, self.locks, &waited, &kept).await?;
            tx.commit().await.map_err(failed)?;
            self.remember(batch, &kept, &heads);
        }
        // Only a connection that came through whole is used again.
        self.connection = Some(connection);
        Ok(verdicts)
    }

    async fn try_mark(&mut self, batch: &MarkBatch) -> Result<Vec<Mark>, StoreError> {
        let mut connection = self.connection().await?;
        let mut tx = connection.begin().await.map_err(failed)?;
        let ids: Vec<Uuid> = batch.events.iter().map(|(event, _)| event.0).collect();
        let seen = fence(&mut tx, self.locks, &batch.epochs, &ids).await?;
        let marks = retries::mark(&mut tx, batch, &seen).await?;
        tx.commit().await.map_err(failed)?;
        self.connection = Some(connection);
        Ok(marks)
    }

    async fn try_postpone(&mut self, batch: &RetryBatch) -> Result<Vec<Committed>, StoreError> {
        let mut connection = self.connection().await?;
        let mut tx = connection.begin().await.map_err(failed)?;
        let ids: Vec<Uuid> = batch.items.iter().map(|item| item.event.0).collect();
        let seen = fence(&mut tx, self.locks, &batch.epochs, &ids).await?;
        let fates = retries::postpone(&mut tx, batch, &seen).await?;
        tx.commit().await.map_err(failed)?;
        self.connection = Some(connection);
        Ok(fates)
    }

    /// After an error the outcome may be unknown: what was known of the chains is read again.
    fn settle<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.heads.clear();
            self.connection = None;
        }
        result
    }

    async fn load_heads(
        &self,
        tx: &mut PgConnection,
        batch: &CommitBatch,
        kept: &[&NewDisposition],
    ) -> Result<HashMap<TenantId, ChainHead>, StoreError> {
        let (mut heads, mut unknown) = (HashMap::new(), Vec::new());
        for item in kept {
            if heads.contains_key(&item.tenant) {
                continue;
            }
            let cached = self.heads.get(&item.tenant, item.partition, epoch_of(&batch.epochs, item.partition));
            if cached.is_none() {
                unknown.push(item.tenant.as_str());
            }
            heads.insert(item.tenant.clone(), cached.unwrap_or(ChainHead::EMPTY));
        }
        if !unknown.is_empty() {
            read_heads(tx, &unknown, &mut heads).await?;
        }
        Ok(heads)
    }

    fn remember(&mut self, batch: &CommitBatch, kept: &[&NewDisposition], heads: &HashMap<TenantId, ChainHead>) {
        let mut done = HashSet::new();
        for item in kept {
            if let (true, Some(head)) = (done.insert(&item.tenant), heads.get(&item.tenant)) {
                self.heads.put(item.tenant.clone(), item.partition, epoch_of(&batch.epochs, item.partition), *head);
            }
        }
    }
}

#[async_trait]
impl Lane for PostgresLane {
    async fn commit_batch(&mut self, batch: &CommitBatch) -> Result<Vec<Committed>, StoreError> {
        let result = self.try_commit(batch).await;
        self.settle(result)
    }

    async fn mark_attempts(&mut self, batch: &MarkBatch) -> Result<Vec<Mark>, StoreError> {
        let result = self.try_mark(batch).await;
        self.settle(result)
    }

    async fn postpone(&mut self, batch: &RetryBatch) -> Result<Vec<Committed>, StoreError> {
        let result = self.try_postpone(batch).await;
        self.settle(result)
    }
}

async fn read_heads(
    tx: &mut PgConnection,
    tenants: &[&str],
    heads: &mut HashMap<TenantId, ChainHead>,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT u.tenant_id, a.seq, a.hash FROM unnest($1::text[]) AS u (tenant_id)
         CROSS JOIN LATERAL (SELECT seq, hash FROM audit a WHERE a.tenant_id = u.tenant_id AND a.stream = 0
                             ORDER BY seq DESC LIMIT 1) a",
    )
    .bind(tenants)
    .fetch_all(tx)
    .await
    .map_err(failed)?;
    for row in rows {
        let tenant: String = row.try_get(0).map_err(failed)?;
        let tenant = TenantId::parse(&tenant).map_err(|e| corrupt("audit", e))?;
        let hash: Vec<u8> = row.try_get(2).map_err(failed)?;
        let hash = hash.try_into().map_err(|_| corrupt("audit", "a hash has not 32 bytes"))?;
        heads.insert(tenant, ChainHead { seq: row.try_get(1).map_err(failed)?, hash });
    }
    Ok(())
}

const WRITE: &str = "
WITH disposed AS (
    INSERT INTO decisions (event_id, tenant_id, outcome, epoch, worker_id, at, body, timings, tokens, cost_micros)
    SELECT u.event_id, u.tenant_id, u.outcome, u.epoch, $1, $2, u.body, u.timings, u.tokens, u.cost_micros
    FROM unnest($3::uuid[], $4::text[], $5::smallint[], $6::bigint[], $7::bytea[], $8::bytea[], $18::bigint[],
                $19::bigint[])
        AS u (event_id, tenant_id, outcome, epoch, body, timings, tokens, cost_micros)
), chained AS (
    INSERT INTO audit (tenant_id, stream, seq, prev_hash, hash, body)
    SELECT u.tenant_id, 0, u.seq, u.prev_hash, u.hash, u.body
    FROM unnest($9::text[], $10::bigint[], $11::bytea[], $12::bytea[], $13::text[])
        AS u (tenant_id, seq, prev_hash, hash, body)
), opened AS (
    INSERT INTO approvals (event_id, tenant_id, opened_at)
    SELECT u.event_id, u.tenant_id, $2 FROM unnest($14::uuid[], $15::text[]) AS u (event_id, tenant_id)
), noted AS (
    INSERT INTO outbox (id, kind, n, events) SELECT $16, 1, cardinality($17::uuid[]), $17 WHERE cardinality($17) > 0
), rolled_up AS (
    INSERT INTO costs AS c (tenant_id, day, model, decisions, tokens, cost_micros)
    SELECT u.tenant_id, $20, u.model, u.decisions, u.tokens, u.cost_micros
    FROM unnest($21::text[], $22::text[], $23::bigint[], $24::bigint[], $25::bigint[])
        AS u (tenant_id, model, decisions, tokens, cost_micros)
    ON CONFLICT (tenant_id, day, model) DO UPDATE SET decisions = c.decisions + excluded.decisions,
        tokens = c.tokens + excluded.tokens, cost_micros = c.cost_micros + excluded.cost_micros
), tried AS (
    DELETE FROM retries WHERE event_id = ANY($3) RETURNING event_id, due_at
)
SELECT event_id FROM tried WHERE due_at IS NOT NULL";

/// Writes everything of the batch. Gives the events that had waited for a next try.
async fn write(
    tx: &mut PgConnection,
    batch: &CommitBatch,
    kept: &[&NewDisposition],
    heads: &mut HashMap<TenantId, ChainHead>,
) -> Result<HashSet<Uuid>, StoreError> {
    let records: Vec<AuditRecord> = kept
        .iter()
        .map(|item| heads.entry(item.tenant.clone()).or_insert(ChainHead::EMPTY).append(item.audit.clone()))
        .collect();
    let escalated: Vec<&&NewDisposition> = kept.iter().filter(|i| opens_approval(&i.disposition)).collect();
    let decided: Vec<Uuid> =
        kept.iter().filter(|i| matches!(i.disposition, Disposition::Decided { .. })).map(|i| i.event.0).collect();
    let rows = Rows::of(batch, kept);
    let sums = rolled_up(kept.iter().copied());
    let waited: Vec<Uuid> = sqlx::query_scalar(WRITE)
        .bind(batch.worker.0)
        .bind(batch.at)
        .bind(rows.ids)
        .bind(rows.tenants)
        .bind(rows.outcomes)
        .bind(rows.epochs)
        .bind(rows.bodies)
        .bind(rows.timings)
        .bind(records.iter().map(|r| r.tenant.as_str()).collect::<Vec<_>>())
        .bind(records.iter().map(|r| r.seq).collect::<Vec<_>>())
        .bind(records.iter().map(|r| &r.prev_hash[..]).collect::<Vec<_>>())
        .bind(records.iter().map(|r| &r.hash[..]).collect::<Vec<_>>())
        .bind(records.iter().map(|r| r.body.as_str()).collect::<Vec<_>>())
        .bind(escalated.iter().map(|i| i.event.0).collect::<Vec<_>>())
        .bind(escalated.iter().map(|i| i.tenant.as_str()).collect::<Vec<_>>())
        .bind(batch.id)
        .bind(decided)
        .bind(rows.tokens)
        .bind(rows.costs)
        .bind(Day::at(batch.at).date())
        .bind(sums.keys().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>())
        .bind(sums.keys().map(|(_, model)| *model).collect::<Vec<_>>())
        .bind(sums.values().map(|spent| spent.decisions).collect::<Vec<_>>())
        .bind(sums.values().map(|spent| spent.tokens).collect::<Vec<_>>())
        .bind(sums.values().map(|spent| spent.cost.get()).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
        .map_err(failed)?;
    Ok(waited.into_iter().collect())
}

fn opens_approval(disposition: &Disposition) -> bool {
    matches!(disposition, Disposition::Decided { outcome: Outcome::RequireApproval, .. })
}

/// The columns of `decisions`.
struct Rows<'a> {
    ids: Vec<Uuid>,
    tenants: Vec<&'a str>,
    outcomes: Vec<i16>,
    epochs: Vec<i64>,
    bodies: Vec<Vec<u8>>,
    timings: Vec<Vec<u8>>,
    tokens: Vec<Option<i64>>,
    costs: Vec<Option<i64>>,
}

impl<'a> Rows<'a> {
    fn of(batch: &CommitBatch, kept: &[&'a NewDisposition]) -> Self {
        let n = kept.len();
        let mut rows = Self {
            ids: Vec::with_capacity(n),
            tenants: Vec::with_capacity(n),
            outcomes: Vec::with_capacity(n),
            epochs: Vec::with_capacity(n),
            bodies: Vec::with_capacity(n),
            timings: Vec::with_capacity(n),
            tokens: Vec::with_capacity(n),
            costs: Vec::with_capacity(n),
        };
        for item in kept {
            rows.ids.push(item.event.0);
            rows.tenants.push(item.tenant.as_str());
            rows.outcomes.push(outcome_number(&item.disposition));
            rows.epochs.push(epoch_of(&batch.epochs, item.partition).0);
            let (body, timings) = match &item.disposition {
                Disposition::Decided { decision, timings, .. } => (decision.to_vec(), timings.as_slice()),
                Disposition::Dead { class, error, attempts } => (dead_body(*class, error, *attempts), &[][..]),
            };
            rows.bodies.push(body);
            let charge = item.charge().map(|(_, charge)| charge).unwrap_or_default();
            rows.tokens.push(Some(i64::from(charge.tokens)).filter(|tokens| *tokens > 0));
            rows.costs.push(Some(charge.cost.get()).filter(|micros| *micros > 0));
            rows.timings.push(timings.iter().flat_map(|t| t.to_le_bytes()).collect());
        }
        rows
    }
}
