//! Owns the commit of a lane: fence, dedupe, write, in one transaction. Never publishes.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::db::{Db, Sync, failure};
use super::rows::{self, event_id, get, hash, id_list, number, tenant};
use super::{Inner, costs, ledger, outbox, retries};
use crate::crypto::HeadCache;
use crate::domain::{AuditRecord, ChainHead, Epoch, EventId, FailureClass, Outcome, PartitionId, Stream, TenantId};
use crate::ports::StoreError;
use crate::ports::store::{
    CommitBatch, Committed, Disposition, Lane, Mark, MarkBatch, NewDisposition, OutboxKind, RetryBatch,
};

/// A lane on SQLite. Lanes share the one writer, so they only take turns.
pub(super) struct SqliteLane {
    pub(super) inner: Arc<Inner>,
    pub(super) heads: HeadCache,
}

#[async_trait]
impl Lane for SqliteLane {
    async fn commit_batch(&mut self, batch: &CommitBatch) -> Result<Vec<Committed>, StoreError> {
        // Out of the lane while it runs: an error, or a dropped future, leaves an empty cache.
        let mut heads = std::mem::take(&mut self.heads);
        let now = rows::millis(self.inner.clock.now());
        let (committed, moved) = commit(&self.inner.db, &heads, now, batch).await?;
        for (tenant, chain) in moved {
            heads.put(tenant, chain.partition, chain.epoch, chain.head);
        }
        self.heads = heads;
        Ok(committed)
    }

    async fn mark_attempts(&mut self, batch: &MarkBatch) -> Result<Vec<Mark>, StoreError> {
        let heads = std::mem::take(&mut self.heads);
        let marks = retries::mark(&self.inner.db, batch).await?;
        self.heads = heads;
        Ok(marks)
    }

    async fn postpone(&mut self, batch: &RetryBatch) -> Result<Vec<Committed>, StoreError> {
        let heads = std::mem::take(&mut self.heads);
        let now = rows::millis(self.inner.clock.now());
        let fates = retries::postpone(&self.inner.db, batch, now).await?;
        self.heads = heads;
        Ok(fates)
    }
}

/// A chain that this batch appends to.
struct Chain {
    partition: PartitionId,
    epoch: Epoch,
    head: ChainHead,
}

type Chains = BTreeMap<TenantId, Chain>;

async fn commit(
    db: &Db,
    heads: &HeadCache,
    now: i64,
    batch: &CommitBatch,
) -> Result<(Vec<Committed>, Chains), StoreError> {
    if batch.items.is_empty() {
        return Ok((Vec::new(), Chains::new()));
    }
    let mut tx = db.begin(Sync::Full).await?;
    let conn = tx.conn()?;
    let held = held_epochs(conn, &batch.epochs).await?;
    let ended = ended(conn, batch.items.iter().map(|item| item.event)).await?;
    let committed = sort_out(batch, &held, ended);
    let written =
        || batch.items.iter().zip(&committed).filter(|(_, c)| **c == Committed::Written).map(|(item, _)| item);
    let mut chains = chains(conn, heads, &held, written()).await?;
    let mut lines = Vec::new();
    for item in written() {
        lines.push(append(&mut chains, item)?);
    }
    insert(conn, batch, &held, &written().collect::<Vec<_>>(), &lines).await?;
    let decided: Vec<EventId> =
        written().filter(|i| matches!(i.disposition, Disposition::Decided { .. })).map(|i| i.event).collect();
    outbox::write(conn, batch.id, OutboxKind::Outcome, &decided, now).await?;
    ledger::end_retries(conn, written()).await?;
    tx.commit().await?;
    Ok((committed, chains))
}

/// Those of the partitions whose epoch has not moved.
pub(super) async fn held_epochs(
    conn: &mut SqliteConnection,
    epochs: &[(PartitionId, Epoch)],
) -> Result<HashMap<PartitionId, Epoch>, StoreError> {
    let mut stored = HashMap::new();
    for row in sqlx::query("SELECT partition, epoch FROM partitions").fetch_all(conn).await.map_err(failure)? {
        stored.insert(PartitionId(get(&row, 0)?), Epoch(get(&row, 1)?));
    }
    Ok(epochs.iter().filter(|(p, epoch)| stored.get(p) == Some(epoch)).copied().collect())
}

/// Those of the events that have a disposition.
pub(super) async fn ended(
    conn: &mut SqliteConnection,
    ids: impl Iterator<Item = EventId>,
) -> Result<HashSet<EventId>, StoreError> {
    let sql = "SELECT event FROM decisions WHERE event IN (SELECT unhex(value) FROM json_each(?))";
    let list = id_list(ids.map(|id| id.0));
    let found = sqlx::query(sql).bind(list).fetch_all(conn).await.map_err(failure)?;
    found.iter().map(|row| event_id(row, 0)).collect()
}

/// What a lane may do about an event.
pub(super) fn fate(
    held: &HashMap<PartitionId, Epoch>,
    ended: &HashSet<EventId>,
    partition: PartitionId,
    event: EventId,
) -> Committed {
    if !held.contains_key(&partition) {
        Committed::Fenced
    } else if ended.contains(&event) {
        Committed::Duplicate
    } else {
        Committed::Written
    }
}

fn sort_out(batch: &CommitBatch, held: &HashMap<PartitionId, Epoch>, mut ended: HashSet<EventId>) -> Vec<Committed> {
    let mut committed = Vec::with_capacity(batch.items.len());
    for item in &batch.items {
        let fate = fate(held, &ended, item.partition, item.event);
        if fate == Committed::Written {
            ended.insert(item.event);
        }
        committed.push(fate);
    }
    committed
}

/// The chains of the items, their heads known or read.
async fn chains<'a>(
    conn: &mut SqliteConnection,
    known: &HeadCache,
    held: &HashMap<PartitionId, Epoch>,
    items: impl Iterator<Item = &'a NewDisposition>,
) -> Result<Chains, StoreError> {
    let (mut chains, mut unknown) = (Chains::new(), Vec::new());
    for item in items {
        if chains.contains_key(&item.tenant) {
            continue;
        }
        let epoch = held[&item.partition];
        let head = known.get(&item.tenant, item.partition, epoch);
        if head.is_none() {
            unknown.push(item.tenant.as_str());
        }
        let chain = Chain { partition: item.partition, epoch, head: head.unwrap_or(ChainHead::EMPTY) };
        chains.insert(item.tenant.clone(), chain);
    }
    if unknown.is_empty() {
        return Ok(chains);
    }
    let list = serde_json::to_string(&unknown).map_err(|e| StoreError::Fault(e.to_string()))?;
    let sql = "SELECT a.tenant, a.seq, a.hash FROM json_each(?) t CROSS JOIN audit a ON a.tenant = t.value
               AND a.stream = 0 AND a.seq = (SELECT max(seq) FROM audit WHERE tenant = t.value AND stream = 0)";
    for row in sqlx::query(sql).bind(list).fetch_all(conn).await.map_err(failure)? {
        if let Some(chain) = chains.get_mut(&tenant(&row, 0)?) {
            chain.head = ChainHead { seq: get(&row, 1)?, hash: hash(&row, 2)? };
        }
    }
    Ok(chains)
}

fn append(chains: &mut Chains, item: &NewDisposition) -> Result<AuditRecord, StoreError> {
    let chain = chains.get_mut(&item.tenant);
    let (Some(chain), true) = (chain, (&item.audit.tenant_id, item.audit.stream) == (&item.tenant, Stream::Workflow))
    else {
        return Err(StoreError::Fault(format!("commit {}: its audit record is of another chain", item.event)));
    };
    Ok(chain.head.append(item.audit.clone()))
}

async fn insert(
    conn: &mut SqliteConnection,
    batch: &CommitBatch,
    held: &HashMap<PartitionId, Epoch>,
    written: &[&NewDisposition],
    lines: &[AuditRecord],
) -> Result<(), StoreError> {
    let at = rows::millis(batch.at);
    let decisions = "INSERT INTO decisions (event, at, epoch, worker, outcome, class, attempts, timings, body, tokens,
                     cost_micros)";
    rows::insert(conn, decisions, 11, written, |q, item| {
        let q = q.bind(item.event.0).bind(at).bind(held[&item.partition].0).bind(batch.worker.0);
        let charge = item.charge().map(|(_, charge)| charge).unwrap_or_default();
        let q = match &item.disposition {
            Disposition::Decided { outcome, decision, timings, charge: _ } => q
                .bind(number(&Outcome::ALL, outcome))
                .bind(None::<i64>)
                .bind(None::<i64>)
                .bind(timings.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>())
                .bind(decision.as_ref()),
            Disposition::Dead { class, error, attempts } => q
                .bind(None::<i64>)
                .bind(number(&FailureClass::ALL, class))
                .bind(*attempts)
                .bind(Vec::new())
                .bind(error.as_bytes()),
        };
        let micros = charge.cost.get();
        q.bind(Some(charge.tokens).filter(|tokens| *tokens > 0)).bind(Some(micros).filter(|micros| *micros > 0))
    })
    .await?;
    insert_lines(conn, lines).await?;
    costs::roll_up(conn, batch, written).await?;
    let asked =
        |i: &&&NewDisposition| matches!(i.disposition, Disposition::Decided { outcome: Outcome::RequireApproval, .. });
    let escalated: Vec<EventId> = written.iter().filter(asked).map(|i| i.event).collect();
    let approvals = "INSERT INTO approvals (event, opened_at)";
    rows::insert(conn, approvals, 2, &escalated, |q, event| q.bind(event.0).bind(at)).await
}

/// Writes audit records.
pub(super) async fn insert_lines(conn: &mut SqliteConnection, lines: &[AuditRecord]) -> Result<(), StoreError> {
    let audit = "INSERT INTO audit (tenant, stream, seq, prev_hash, hash, body)";
    rows::insert(conn, audit, 6, lines, |q, line| {
        q.bind(line.tenant.as_str())
            .bind(stream_number(line.stream))
            .bind(line.seq)
            .bind(line.prev_hash.as_slice())
            .bind(line.hash.as_slice())
            .bind(line.body.as_str())
    })
    .await
}

/// The number of a stream.
pub(super) fn stream_number(stream: Stream) -> i64 {
    match stream {
        Stream::Workflow => 0,
        Stream::Control => 1,
    }
}
