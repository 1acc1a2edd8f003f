//! What is promised of a store that an older program made, and of Postgres's locks alone.

use riskfleet::adapters::postgres::{self, PostgresStore};
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::domain::partition::stable_hash;
use riskfleet::domain::{AuditBody, EventId, FailureClass, Scope, Status, Stream, time};
use riskfleet::ports::EventStore;
use riskfleet::ports::store::{DeadAct, DeadFilter, Ledger, MARK_LAG};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr, SqliteConnection};
use std::time::Duration;

use super::fixture::{self, ManualClock, PARTITIONS, SECRET, approved, dead, retry, tenant};

/// The first version of a schema, as the program of its time left it.
fn first_version(name: &'static str, sql: &'static str) -> Migrator {
    let first = Migration::new(1, name.into(), MigrationType::Simple, sql.into_sql_str(), false);
    Migrator::with_migrations(vec![first])
}

const DEAD: &str = "01890000-0000-7000-8000-000000000001";

/// An event that died under the first version is listed and replayed.
async fn the_dead_come_along(store: &dyn EventStore) {
    let dead = store.dead_letters(&DeadFilter { limit: 10, ..DeadFilter::default() }).await.expect("lists");
    let id = EventId::parse(DEAD).expect("an id");
    assert_eq!(
        dead.iter().map(|l| (l.event, l.class, l.attempts)).collect::<Vec<_>>(),
        [(id, FailureClass::InfraError, 5)]
    );
    let at = time::from_millis(1_700_000_000_000);
    let chain = (tenant(1), Stream::Control);
    let audit = AuditBody {
        event_id: Some(id),
        ..AuditBody::new(chain, at, "user:ann", "dead_letter_replayed", ("event", DEAD))
    };
    assert_eq!(store.replay_dead(id, &audit).await.expect("acts"), DeadAct::Done);
    assert_eq!(store.event(&Scope::Fleet, id).await.expect("reads").expect("is stored").status(), Status::Retrying);
    assert_eq!(store.repairs().await.expect("reads"), 0);
}

#[tokio::test]
async fn a_file_of_the_first_version_is_brought_up_to_date() {
    let folder = fixture::folder();
    let file = folder.join("store.db");
    let mut conn = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await.expect("opens");
    let first = first_version("store", include_str!("../../../migrations/sqlite/0001_store.sql"));
    first.run(&mut conn).await.expect("migrates");
    let id = DEAD.replace('-', "");
    let rows = format!(
        "INSERT INTO fleet (id, partitions, pack_secret) VALUES (1, 4, zeroblob(32));
         INSERT INTO partitions (partition) VALUES (0), (1), (2), (3);
         INSERT INTO events VALUES (x'{id}', '{}', 0, 'c', x'7b7d');
         INSERT INTO decisions VALUES (x'{id}', NULL, 4, 5, 1, 1, zeroblob(16), x'', CAST('why' AS BLOB));",
        tenant(1)
    );
    conn.execute(AssertSqlSafe(rows)).await.expect("inserts");
    conn.close().await.expect("closes");
    let store = SqliteStore::open(&file, PARTITIONS, SECRET, ManualClock::new()).await.expect("opens");
    the_dead_come_along(&store).await;
    store.close().await;
    SqliteStore::open(&file, PARTITIONS, SECRET, ManualClock::new()).await.expect("opens again").close().await;
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
}

#[tokio::test]
async fn a_schema_of_the_first_version_is_brought_up_to_date() {
    let f = fixture::postgres().await;
    fixture::run(f, async |f| {
        let (url, namespace) = f.schema();
        let rows = format!(
            "DROP SCHEMA {namespace} CASCADE; DROP ROLE {namespace}_api, {namespace}_worker, {namespace}_retention;
                CREATE SCHEMA {namespace}; SET search_path TO {namespace};"
        );
        let mut conn = PgConnection::connect(url).await.expect("connects");
        conn.execute(AssertSqlSafe(rows)).await.expect("begins anew");
        let first = first_version("core", include_str!("../../../migrations/postgres/0001_core.sql"));
        first.run(&mut conn).await.expect("migrates");
        let rows = format!(
            r#"INSERT INTO fleet (partitions, pack_secret) VALUES (4, decode(repeat('07', 32), 'hex'));
               SELECT make_partitions(2);
               INSERT INTO events VALUES ('{DEAD}', 0, '{0}', 'c', '{{}}');
               INSERT INTO decisions VALUES ('{DEAD}', '{0}', 3, 1, '{DEAD}', now(),
                   '{{"class":"INFRA_ERROR","error":"why","attempts":5}}', '');"#,
            tenant(1)
        );
        conn.execute(AssertSqlSafe(rows)).await.expect("inserts");
        let store = PostgresStore::connect(url, namespace).await.expect("connects");
        let old = store.constants().await.map(|_| ()).expect_err("it is too old").to_string();
        assert!(old.contains("riskfleet migrate"), "{old}");
        postgres::migrate(url, namespace, PARTITIONS, SECRET).await.expect("migrates");
        postgres::migrate(url, namespace, PARTITIONS, SECRET).await.expect("migrates again");
        the_dead_come_along(&store).await;
        assert_eq!(f.ledger().await, Ledger { accepted: 1, pending: 1, ..Ledger::default() });
    })
    .await;
}

/// A commit that ends what waited has written its dispositions when the mark passes their events:
/// it waits for the mover, and what it adds to the totals is by where the mark went.
#[tokio::test]
async fn an_end_that_waits_for_the_mark_counts_by_where_it_went() {
    let f = fixture::postgres().await;
    fixture::run(f, async |f| {
        let mut events = f.accepted(&tenant(1), 3).await;
        let mut owner = f.owner().await;
        owner.postpone(events.iter().map(|event| retry(event, Duration::ZERO)).collect()).await;
        f.age(MARK_LAG * 2, &mut events).await;
        let (url, namespace) = f.schema();
        // The lock of the mark, as the adapter numbers it.
        let (class, key) = (stable_hash(namespace.as_bytes()) as i32, (1 << 20) + 1);
        let mut mover = PgConnection::connect(url).await.expect("connects");
        let mut step = mover.begin().await.expect("begins");
        let locked = sqlx::query("SELECT pg_advisory_xact_lock($1, $2)").bind(class).bind(key);
        locked.execute(&mut *step).await.expect("locks");
        let stepping = async {
            let waiting = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                           AND classid::bigint = $1 AND objid::bigint = $2)";
            let mut looks = 0;
            while !sqlx::query_scalar::<_, bool>(waiting)
                .bind(i64::from(class.cast_unsigned()))
                .bind(i64::from(key))
                .fetch_one(&mut *step)
                .await
                .expect("reads")
            {
                looks += 1;
                assert!(looks < 400, "the commit does not wait for who moves the mark");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Between the second event and the third; none of the three has an end in this snapshot.
            let moved = format!("UPDATE {namespace}.fleet SET mark = $1, accepted = accepted + 2");
            let moved = sqlx::query(AssertSqlSafe(moved)).bind(events[2].id.0);
            moved.execute(&mut *step).await.expect("moves");
            step.commit().await.expect("commits");
        };
        let items = vec![approved(&events[0]), dead(&events[1]), approved(&events[2])];
        let (_, ()) = tokio::join!(owner.commit(f, items), stepping);
        let want = Ledger { accepted: 3, decided: 2, dead: 1, pending: 0 };
        assert_eq!(f.ledger().await, want);
        assert!(f.store.advance_mark().await.expect("advances") > events[2].id);
        assert_eq!(f.ledger().await, want);
    })
    .await;
}
