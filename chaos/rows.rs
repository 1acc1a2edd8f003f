//! Owns the reading of the store for the checker: plain SQL on its tables, not the system's code.
//! Never writes.

use anyhow::Context;
use futures::TryStreamExt;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};

use crate::checker::{AuditRow, DecisionRow, EventRow};
use crate::history::CANARY;

/// A fleet's schema.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) pool: PgPool,
    pub(crate) ns: String,
}

impl Rows {
    /// One number. `{ns}` in the statement is the schema.
    pub(crate) async fn number(&self, statement: &str) -> anyhow::Result<i64> {
        let row = sqlx::query(self.sql(statement)).fetch_one(&self.pool).await;
        Ok(row.with_context(|| format!("failed to ask: {statement}"))?.try_get(0)?)
    }

    fn sql(&self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(statement.replace("{ns}", &self.ns))
    }

    async fn read<T>(&self, statement: &str, row: impl Fn(&PgRow) -> sqlx::Result<T>) -> anyhow::Result<Vec<T>> {
        let sql = self.sql(statement);
        let mut stream = sqlx::query(sql).fetch(&self.pool);
        let mut all = Vec::new();
        while let Some(one) = stream.try_next().await? {
            all.push(row(&one)?);
        }
        Ok(all)
    }

    /// Milliseconds since the Unix epoch by the store's clock, which mints the events' ids.
    pub(crate) async fn now_ms(&self) -> anyhow::Result<i64> {
        self.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await
    }

    /// The 99th percentile, in ms, from accept to committed decision, of the events of all tenants
    /// but one that were minted in `span`; −1 when there are none. The commit's time is the server's own
    /// (`track_commit_timestamp`).
    pub(crate) async fn p99_ms(&self, but: &str, span: std::ops::Range<i64>) -> anyhow::Result<i64> {
        let statement = format!(
            "SELECT coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY
                 (extract(epoch FROM pg_xact_commit_timestamp(d.xmin)) * 1000)::bigint
                     - ('x' || left(replace(d.event_id::text, '-', ''), 12))::bit(48)::bigint), -1)
             FROM {{ns}}.decisions d WHERE d.tenant_id <> '{but}'
               AND d.event_id >= {{ns}}.id_floor({}) AND d.event_id < {{ns}}.id_floor({})",
            span.start, span.end
        );
        self.number(&statement).await
    }

    /// Events without a disposition.
    pub(crate) async fn pending(&self) -> anyhow::Result<i64> {
        let anti = "SELECT count(*) FROM {ns}.events e \
                    WHERE NOT EXISTS (SELECT 1 FROM {ns}.decisions d WHERE d.event_id = e.event_id)";
        self.number(anti).await
    }

    /// Every event with its disposition.
    pub(crate) async fn events(&self) -> anyhow::Result<Vec<EventRow>> {
        let statement = "SELECT e.event_id, e.tenant_id, e.correlation_id, d.tenant_id, d.outcome, d.epoch \
                         FROM {ns}.events e LEFT JOIN {ns}.decisions d ON d.event_id = e.event_id";
        self.read(statement, |row| {
            let tenant: Option<String> = row.try_get(3)?;
            let decision = match tenant {
                Some(tenant) => Some(DecisionRow { tenant, outcome: row.try_get(4)?, epoch: row.try_get(5)? }),
                None => None,
            };
            Ok(EventRow { id: row.try_get(0)?, tenant: row.try_get(1)?, correlation: row.try_get(2)?, decision })
        })
        .await
    }

    /// Every audit record, chain by chain.
    pub(crate) async fn audit(&self) -> anyhow::Result<Vec<AuditRow>> {
        let statement = "SELECT tenant_id, stream, seq, prev_hash, hash, body FROM {ns}.audit ORDER BY 1, 2, 3";
        self.read(statement, |row| {
            Ok(AuditRow {
                tenant: row.try_get(0)?,
                stream: row.try_get(1)?,
                seq: row.try_get(2)?,
                prev: row.try_get(3)?,
                hash: row.try_get(4)?,
                body: row.try_get(5)?,
            })
        })
        .await
    }

    /// Where the roll-up of costs is not the sum of the decisions: tenant and day, and both sides.
    pub(crate) async fn costs_that_differ(&self) -> anyhow::Result<Vec<String>> {
        let statement = "
            SELECT format('%s on %s: %s rolled up, %s stored', tenant_id, day, c.sums, d.sums)
            FROM (SELECT tenant_id, day, (sum(decisions), sum(tokens), sum(cost_micros))::text AS sums
                  FROM {ns}.costs GROUP BY 1, 2) c
            FULL JOIN (SELECT tenant_id, (at AT TIME ZONE 'UTC')::date AS day,
                              (count(*), coalesce(sum(tokens), 0), coalesce(sum(cost_micros), 0))::text AS sums
                       FROM {ns}.decisions WHERE outcome <> 3 GROUP BY 1, 2) d USING (tenant_id, day)
            WHERE c.sums IS DISTINCT FROM d.sums";
        self.read(statement, |row| row.try_get(0)).await
    }

    /// Canaries that stand in the clear, whoever's they are: texts are sealed, and the audit holds
    /// hashes. The escape format keeps ASCII as it is, whatever else the bytes hold.
    pub(crate) async fn unsealed_canaries(&self) -> anyhow::Result<Vec<String>> {
        let mut unsealed = Vec::new();
        for (table, text) in
            [("events", "encode(body, 'escape')"), ("decisions", "encode(body, 'escape')"), ("audit", "body")]
        {
            let count = self
                .number(&format!("SELECT count(*) FROM {{ns}}.{table} WHERE position('{CANARY}' IN {text}) > 0"))
                .await?;
            if count > 0 {
                unsealed.push(format!("{count} rows of {table} hold a payload in the clear"));
            }
        }
        Ok(unsealed)
    }
}
