//! What is promised of Postgres alone: no tenant reaches another's rows, whatever SQL is run as the
//! role that answers its callers; and what is append-only stays so for every role.

use riskfleet::domain::{EventId, Outcome, Scope, TenantId};
use riskfleet::ports::store::{DeadAct, DeadFilter, EventFilter, NewEvent};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::sync::Arc;
use std::time::Duration;

use super::deaths::ann;
use super::fixture::{self, Fixture, approved, dead, decided, retry, tenant};

const ROLES: [&str; 3] = ["api", "worker", "retention"];

/// A session as one of the fleet's roles, past the adapter.
async fn session(f: &Fixture, role: &str, of: Option<&TenantId>) -> PgConnection {
    let (url, ns) = f.schema();
    let mut conn = PgConnection::connect(url).await.expect("connects");
    let of = of.map_or("", TenantId::as_str);
    let begin = format!("SET search_path TO {ns}; SET ROLE {ns}_{role}; SET riskfleet.tenant TO '{of}'");
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut conn).await.expect("takes the role");
    conn
}

/// Rows that a statement gives or changes; none when the role has no right to it.
async fn rows(conn: &mut PgConnection, sql: &str) -> Option<u64> {
    match sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut *conn).await {
        Ok(rows) => Some(rows.len() as u64),
        Err(e) => {
            assert!(is_refused(&e), "{sql}: {e}");
            None
        }
    }
}

fn is_refused(e: &sqlx::Error) -> bool {
    e.as_database_error().is_some_and(|db| db.code().as_deref() == Some("42501"))
}

async fn assert_refused(conn: &mut PgConnection, who: &str, sql: &str) {
    let refused = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.expect_err(sql);
    assert!(is_refused(&refused), "{who}: {sql}: {refused}");
}

/// One column of texts, asked as who may see everything.
async fn texts(f: &Fixture, sql: &str) -> Vec<String> {
    let (url, ns) = f.schema();
    let mut conn = PgConnection::connect(url).await.expect("connects");
    let sql = AssertSqlSafe(sql.replace("{ns}", ns));
    sqlx::query_scalar(sql).fetch_all(&mut conn).await.expect("reads")
}

/// Rows of a tenant in every table that a fleet at work fills.
async fn furnished(f: &Fixture, whose: &TenantId) -> Vec<NewEvent> {
    let events = f.accepted(whose, 4).await;
    let mut owner = f.owner().await;
    let items = vec![approved(&events[0]), decided(&events[1], Outcome::RequireApproval), dead(&events[2])];
    owner.commit(f, items).await;
    owner.postpone(vec![retry(&events[3], Duration::from_secs(60))]).await;
    f.give_verdict(&events[1], Outcome::Approved).await;
    assert_eq!(
        f.store.discard_dead(events[2].id, &ann(&events[2], "dead_letter_discarded")).await.expect("acts"),
        DeadAct::Done
    );
    events
}

const WITH_TENANT: &str = "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = '{ns}'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND a.attname = 'tenant_id' AND NOT a.attisdropped ORDER BY 1";

const CHILDREN: &str = "SELECT c.relname::text FROM pg_class c
    WHERE c.relnamespace = '{ns}'::regnamespace AND c.relispartition AND c.relkind = 'r' ORDER BY 1";

/// Every table that holds a tenant's rows, with what marks another tenant's row in it and what a new
/// one would begin with.
async fn of_tenants(f: &Fixture, other: &TenantId, events: &[NewEvent]) -> Vec<(String, String, String)> {
    let ids: Vec<String> = events.iter().map(|event| format!("'{}'", event.id)).collect();
    let named = |table: String| (table, format!("tenant_id = '{other}'"), format!("(tenant_id) VALUES ('{other}')"));
    let mut tables: Vec<_> = texts(f, WITH_TENANT).await.into_iter().map(named).collect();
    for table in ["retries", "dead_history"] {
        let theirs = format!("event_id IN ({})", ids.join(", "));
        tables.push((table.to_owned(), theirs, format!("(event_id) VALUES ({})", ids[0])));
    }
    tables
}

#[tokio::test]
async fn no_sql_of_a_tenants_session_reaches_another_tenants_rows() {
    let f = fixture::postgres().await;
    fixture::run(f, async |f| {
        let (mine, other) = (tenant(1), tenant(2));
        furnished(f, &mine).await;
        let events = furnished(f, &other).await;
        let (mut nobody, mut own) = (session(f, "api", None).await, session(f, "api", Some(&mine)).await);
        let (mut tables, mut seen) = (0, 0);
        for (table, theirs, row) in of_tenants(f, &other, &events).await {
            let all = format!("SELECT 1 FROM {table}");
            assert_eq!(rows(&mut nobody, &all).await.unwrap_or(0), 0, "{table}, without a tenant");
            seen += usize::from(rows(&mut own, &all).await.unwrap_or(0) > 0);
            let column = &row[1..row.find(')').expect("a column")];
            for sql in [
                format!("SELECT 1 FROM {table} WHERE {theirs}"),
                format!("UPDATE {table} SET {column} = {column} WHERE {theirs} RETURNING 1"),
                format!("DELETE FROM {table} WHERE {theirs} RETURNING 1"),
            ] {
                assert_eq!(rows(&mut own, &sql).await.unwrap_or(0), 0, "{sql}");
                assert_eq!(rows(&mut nobody, &sql).await.unwrap_or(0), 0, "{sql}");
            }
            assert_refused(&mut own, "api", &format!("INSERT INTO {table} {row}")).await;
            assert_refused(&mut nobody, "api", &format!("INSERT INTO {table} {row}")).await;
            tables += 1;
        }
        // Its own rows it sees, in every table that was filled.
        assert!(tables >= 8 && seen >= 8, "{seen} of {tables} tables");
        // What the policies let through, the functions do not either.
        let reopened = format!("SELECT reopen_dead('{}')::text", events[2].id);
        let answer: String = sqlx::query_scalar(AssertSqlSafe(reopened)).fetch_one(&mut own).await.expect("answers");
        assert_eq!(answer, "false");
        for child in texts(f, CHILDREN).await {
            for sql in [format!("SELECT 1 FROM {child}"), format!("COPY {child} TO STDOUT")] {
                assert_refused(&mut own, "api", &sql).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_append_only_is_so_for_every_role() {
    let f = fixture::postgres().await;
    fixture::run(f, async |f| {
        furnished(f, &tenant(1)).await;
        let merges = texts(f, "SELECT 'yes' WHERE current_setting('server_version_num')::int >= 150000").await;
        let mut changes = vec![
            "UPDATE {t} SET {c} = {c}",
            "DELETE FROM {t}",
            "TRUNCATE {t}",
            "INSERT INTO {t} SELECT * FROM {t} ON CONFLICT ({k}) DO UPDATE SET {c} = excluded.{c}",
        ];
        if !merges.is_empty() {
            changes.push("MERGE INTO {t} USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE");
            changes.push("MERGE INTO {t} USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET {c} = {t}.{c}");
        }
        let tables = [
            ("audit", "body", "tenant_id, stream, seq"),
            ("dead_history", "reason", "event_id, nth"),
            ("verdicts", "reason", "event_id"),
            ("events", "body", "event_id"),
            ("decisions", "body", "event_id"),
        ];
        let children = texts(f, CHILDREN).await;
        assert!(children.len() >= 10, "{children:?}");
        let children = children.iter().map(|child| (child.as_str(), "body", "event_id"));
        for role in ROLES {
            let mut conn = session(f, role, Some(&tenant(1))).await;
            for (table, column, key) in tables.into_iter().chain(children.clone()) {
                for change in &changes {
                    let sql = change.replace("{t}", table).replace("{c}", column).replace("{k}", key);
                    assert_refused(&mut conn, role, &sql).await;
                }
            }
        }
        assert_eq!(f.chains().await[&tenant(1)], 3);
    })
    .await;
}

/// Table, then the rights of the api, the worker and the retention role: the initials of SELECT,
/// INSERT, UPDATE, DELETE. A table that is not here is a decision that was not made.
const RIGHTS: &str = "
    _sqlx_migrations - S S
    activation_clock - SU S
    activations SIU SIU S rls
    api_keys - SIU - rls
    approval_history SI SI S rls
    approvals SIU SIU S rls
    audit SI SI SI rls
    audit_anchors S SI SI rls
    audit_checkpoints - SI S
    budgets S SIUD S rls
    costs S SIU S rls
    data_keys - SIU S rls
    day_tenants - SIUD SIUD rls
    dead_history SI SI S rls
    decisions S SI S rls
    decisions_DAY - - - rls
    decisions_default - S S rls
    events S SI S rls
    events_DAY - - - rls
    events_default - S S rls
    expired_days S S S
    fleet - SU S
    inbox_rejected - SI SD
    keys S SI SD rls
    outbox I SIUD S
    partitions - SU S
    retries S SIUD S rls
    tenants S SIU S rls
    vault - SU S
    verdicts SI SI S rls
    versions SIU SIU S rls
    workers - SIUD S
";

const RIGHTS_NOW: &str = "SELECT regexp_replace(c.relname, '_[0-9]{8}$', '_DAY') || r.rights
        || CASE WHEN c.relrowsecurity AND c.relforcerowsecurity THEN ' rls' ELSE '' END
    FROM pg_class c, LATERAL (
        SELECT string_agg(' ' || CASE WHEN i.initials = '' THEN '-' ELSE i.initials END, '' ORDER BY u.n) AS rights
        FROM unnest(ARRAY['api', 'worker', 'retention']) WITH ORDINALITY AS u (role, n), LATERAL (
            SELECT coalesce(string_agg(left(p.privilege, 1), '' ORDER BY p.m), '') AS initials
            FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
                WITH ORDINALITY AS p (privilege, m)
            WHERE has_table_privilege('{ns}_' || u.role, c.oid, p.privilege)) i) r
    WHERE c.relnamespace = '{ns}'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') GROUP BY 1 ORDER BY 1";

const CALLS_NOW: &str = "SELECT p.proname || coalesce((SELECT string_agg(' ' || u.role, '' ORDER BY u.role)
        FROM unnest(ARRAY['public', '{ns}_api', '{ns}_worker', '{ns}_retention']) AS u (role)
        WHERE has_function_privilege(u.role, p.oid, 'EXECUTE')), '') || ' ' || array_to_string(p.proconfig, ', ')
    FROM pg_proc p WHERE p.pronamespace = '{ns}'::regnamespace AND p.prosecdef ORDER BY 1";

#[tokio::test]
async fn every_table_has_the_rights_that_were_decided() {
    let f = fixture::postgres().await;
    fixture::run(f, async |f| {
        let decided: Vec<&str> = RIGHTS.lines().map(str::trim).collect();
        let now = texts(f, RIGHTS_NOW).await;
        assert!(now.len() >= 15, "{now:?}");
        for table in now {
            assert!(decided.contains(&table.as_str()), "{table}: not among the rights that were decided");
        }
        let (_, ns) = f.schema();
        for (function, callers) in
            [("keep_partitions", "NS_worker"), ("outbox_kinds", "NS_api NS_worker"), ("reopen_dead", "NS_api")]
        {
            let line = format!("{function} {callers} search_path=NS, pg_temp").replace("NS", ns);
            let now = texts(f, CALLS_NOW).await;
            assert!(now.contains(&line), "{line}: {now:?}");
            assert!(now.iter().all(|line| !line.contains(" public ")), "{now:?}");
        }
    })
    .await;
}

/// Twenty tenants, fifty callers, four connections; some callers give up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_that_share_connections_see_only_their_own() {
    const TENANTS: usize = 20;
    let f = fixture::postgres().await;
    fixture::run(f, async |f| {
        let mut events = Vec::new();
        for n in 0..TENANTS {
            for key in ["a", "b"] {
                events.push(f.request(&tenant(n), key, &format!("canary-{n}-")).await);
            }
        }
        f.accept(&events).await;
        f.owner().await.commit(f, events.iter().step_by(2).map(dead).collect()).await;
        let events = Arc::new(events);
        let calls: Vec<_> = (0..50)
            .map(|caller| {
                let (store, events) = (f.store.clone(), events.clone());
                tokio::spawn(async move {
                    for round in 0..12 {
                        let n = (caller * 7 + round) % TENANTS;
                        let scope = Scope::Tenant(tenant(n));
                        let given_up = store.event(&scope, events[2 * n].id);
                        tokio::time::timeout(Duration::from_micros((caller * round) as u64 * 20), given_up).await.ok();
                        sees_only_its_own(store.as_ref(), &events, n).await;
                    }
                })
            })
            .collect();
        for call in calls {
            call.await.expect("no panic");
        }
    })
    .await;
}

async fn sees_only_its_own(store: &dyn riskfleet::ports::EventStore, events: &[NewEvent], n: usize) {
    let (whose, canary) = (tenant(n), format!("canary-{n}-"));
    let scope = Scope::Tenant(whose.clone());
    let own = store.event(&scope, events[2 * n].id).await.expect("reads").expect("its own");
    assert_eq!(own.event.tenant, whose);
    let other: EventId = events[(2 * n + 2) % events.len()].id;
    assert_eq!(store.event(&scope, other).await.expect("reads"), None);
    let filter = EventFilter { tenant: Some(whose.clone()), limit: 100, ..EventFilter::default() };
    let list = store.list_events(&filter).await.expect("lists");
    assert_eq!(list.len(), 2);
    for line in list {
        assert_eq!(line.tenant, whose);
        assert!(String::from_utf8_lossy(&line.body).contains(&canary));
    }
    let filter = DeadFilter { tenant: Some(whose.clone()), limit: 100, ..DeadFilter::default() };
    let dead = store.dead_letters(&filter).await.expect("lists");
    assert_eq!(dead.into_iter().map(|letter| letter.tenant).collect::<Vec<_>>(), [whose]);
}

/// What `scope` stands on: a tenant that is named for a transaction is gone with it, however it ends.
#[tokio::test]
async fn a_connection_that_goes_back_names_no_tenant() {
    let f = fixture::postgres().await;
    fixture::run(f, async |f| {
        f.accepted(&tenant(1), 2).await;
        let (url, ns) = f.schema();
        let options = url.parse::<sqlx::postgres::PgConnectOptions>().expect("an address");
        let options = options.options([("search_path", ns.to_owned()), ("role", format!("{ns}_api"))]);
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("connects");
        for end in ["COMMIT", "ROLLBACK", "SELECT 1 / 0", "dropped"] {
            let mut tx = pool.begin().await.expect("begins");
            let named = sqlx::query("SELECT set_config('riskfleet.tenant', $1, true)").bind(tenant(1).as_str());
            named.execute(&mut *tx).await.expect("names");
            let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut *tx).await.expect("reads");
            assert_eq!(seen, 2);
            match end {
                "COMMIT" => tx.commit().await.expect("commits"),
                "ROLLBACK" => tx.rollback().await.expect("rolls back"),
                "dropped" => drop(tx),
                fails => {
                    sqlx::query(fails).execute(&mut *tx).await.expect_err("it fails");
                    drop(tx);
                }
            }
            let row =
                sqlx::query("SELECT count(*), coalesce(current_setting('riskfleet.tenant', true), '') FROM events");
            let row = row.fetch_one(&pool).await.expect("reads");
            assert_eq!((row.get::<i64, _>(0), row.get::<String, _>(1)), (0, String::new()), "{end}");
        }
        pool.close().await;
    })
    .await;
}
