//! What is promised of the database user: a plain one is enough, is told what it lacks, and reaches
//! no other fleet.

use riskfleet::adapters::postgres;
use riskfleet::domain::{Scope, Status};
use riskfleet::lifecycle::SystemClock;
use riskfleet::ports::StoreError;
use riskfleet::ports::checkup::Looked;
use riskfleet::ports::store::{DeadAct, Ledger};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use super::deaths::ann;
use super::fixture::{self, Fixture, PARTITIONS, SECRET, approved, dead, tenant};

/// Runs statements as the superuser.
async fn sql(text: &str) {
    let mut conn = PgConnection::connect(&crate::harness::postgres_url()).await.expect("connects");
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut conn).await.expect("runs");
}

/// A user that logs in and may make schemas in this database; gives its address.
async fn user(name: &str, attribute: &str) -> String {
    sql(&format!(
        "CREATE ROLE {name} LOGIN PASSWORD 'plain' {attribute};
         DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {name}', current_database()); END $$"
    ))
    .await;
    let options: PgConnectOptions = crate::harness::postgres_url().parse().expect("an address");
    options.username(name).password("plain").to_url_lossy().to_string()
}

/// Every kind of verb, on a fleet whose owner is no superuser.
async fn works(f: &Fixture) {
    let events = f.accepted(&tenant(1), 3).await;
    f.owner().await.commit(f, vec![approved(&events[0]), dead(&events[1])]).await;
    let audit = ann(&events[1], "dead_letter_replayed");
    assert_eq!(f.store.replay_dead(events[1].id, &audit).await.expect("acts"), DeadAct::Done);
    let record = f.store.event(&Scope::Tenant(tenant(1)), events[1].id).await.expect("reads").expect("is stored");
    assert_eq!((record.status(), record.past.len()), (Status::Retrying, 1));
    f.store.advance_mark().await.expect("makes time partitions");
    assert_eq!(f.ledger().await, Ledger { accepted: 3, decided: 1, dead: 0, pending: 2 });
    assert_eq!((f.chains().await[&tenant(1)], f.control(&tenant(1)).await), (2, 1));
    let (url, namespace) = f.schema();
    let seen = postgres::checkup(url, namespace, 1, &SystemClock::new()).await.expect("looks").isolation;
    assert_eq!((seen.roles.len(), seen.open), (3, Vec::new()));
    for role in seen.roles {
        assert_eq!((role.runs_as, role.passes), (Looked::Seen(role.name.clone()), false));
    }
}

#[tokio::test]
async fn a_user_that_may_not_make_roles_is_told_what_to_have_run() {
    let namespace = crate::harness::namespace();
    let name = format!("{namespace}_plain");
    let url = user(&name, "NOCREATEROLE").await;
    let refused = postgres::migrate(&url, &namespace, PARTITIONS, SECRET).await;
    let Err(StoreError::Misfit(why)) = refused else { panic!("{refused:?}") };
    let statements = why.split_once("run: ").expect("says what to run").1;
    for role in ["api", "worker", "retention"] {
        let both = [format!("CREATE ROLE {namespace}_{role} NOLOGIN;"), format!("GRANT {namespace}_{role} TO {name};")];
        assert!(both.iter().all(|statement| statements.contains(statement)), "{statements}");
    }
    sql(statements).await;
    let f = fixture::postgres_at(url.clone(), namespace.clone()).await;
    fixture::run(f, async |f| {
        postgres::migrate(&url, &namespace, PARTITIONS, SECRET).await.expect("migrates again");
        works(f).await;
    })
    .await;
    sql(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await;
}

#[tokio::test]
async fn a_user_that_may_make_roles_makes_them_and_takes_no_other_fleets() {
    let (namespace, other) = (crate::harness::namespace(), fixture::postgres().await);
    let name = format!("{namespace}_maker");
    let url = user(&name, "CREATEROLE").await;
    let f = fixture::postgres_at(url.clone(), namespace.clone()).await;
    fixture::run(f, async |f| {
        works(f).await;
        other.accepted(&tenant(1), 1).await;
        let (_, theirs) = other.schema();
        for role in ["api", "worker", "retention"] {
            let mut conn = PgConnection::connect(&crate::harness::postgres_url()).await.expect("connects");
            let read = format!("SET ROLE {namespace}_{role}; SELECT 1 FROM {theirs}.events");
            let refused = sqlx::raw_sql(AssertSqlSafe(read)).execute(&mut conn).await.expect_err("refused");
            assert!(refused.to_string().contains("permission denied for schema"), "{refused}");
        }
        let taken = postgres::PostgresStore::connect(&url, theirs).await.expect("connects");
        let refused = riskfleet::ports::EventStore::constants(&taken).await.map(|_| ());
        assert!(matches!(&refused, Err(StoreError::Misfit(why)) if why.contains("riskfleet migrate")), "{refused:?}");
    })
    .await;
    fixture::run(other, async |_| {}).await;
    sql(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await;
}
