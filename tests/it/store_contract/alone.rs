//! What is promised of the SQLite file alone, and of the memory store alone.

use riskfleet::adapters::memory::store::MemoryStore;
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::domain::{PartitionId, WorkerId};
use riskfleet::ports::store::{Accepted, MARK_LAG};
use riskfleet::ports::{EventStore, StoreError};
use sqlx::{Connection, SqliteConnection};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

use super::fixture::{self, ManualClock, PARTITIONS, SECRET, approved, tenant};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(fixture::folder())
    }

    fn file(&self) -> PathBuf {
        self.0.join("store.db")
    }

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.file(), PARTITIONS, SECRET, ManualClock::new()).await.expect("opens")
    }

    async fn sql(&self, sql: &'static str) -> Result<u64, sqlx::Error> {
        let mut conn = SqliteConnection::connect(&format!("sqlite://{}", self.file().display())).await?;
        Ok(sqlx::raw_sql(sql).execute(&mut conn).await?.rows_affected())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Only a leftover in the temporary folder, should it fail.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn misfit<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Misfit(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was no misfit"),
    }
}

#[tokio::test]
async fn the_file_refuses_to_change_its_audit() {
    let f = fixture::sqlite().await;
    fixture::run(f, async |f| {
        let events = f.accepted(&tenant(1), 2).await;
        f.owner().await.commit(f, events.iter().map(approved).collect()).await;
        for sql in [
            "UPDATE audit SET body = '{}' WHERE seq = 1",
            "DELETE FROM audit",
            "INSERT OR REPLACE INTO audit SELECT tenant, stream, seq, prev_hash, hash, '{}' FROM audit WHERE seq = 1",
        ] {
            let refused = f.try_sql(sql).await.expect_err("it is refused");
            assert!(refused.to_string().contains("audit records are never"), "{refused}");
        }
        assert_eq!(f.chains().await[&tenant(1)], 2);
    })
    .await;
}

#[tokio::test]
async fn what_was_fixed_at_the_first_opening_stays() {
    let folder = Folder::new();
    let store = folder.open().await;
    store.claim_partition(PartitionId(1), WorkerId(Uuid::new_v4())).await.expect("claims");
    store.close().await;
    let again = SqliteStore::open(&folder.file(), 99, [1; 32], ManualClock::new()).await.expect("opens again");
    let constants = again.constants().await.expect("reads");
    assert_eq!((constants.partitions, constants.pack_secret), (PARTITIONS, SECRET));
    let rows = again.fleet_status().await.expect("reads").partitions;
    assert_eq!(rows.iter().map(|row| row.epoch.0).collect::<Vec<_>>(), [0, 1, 0, 0]);
}

#[tokio::test]
async fn two_processes_may_open_a_new_file_at_once() {
    let folder = Folder::new();
    let (a, b, c) = tokio::join!(folder.open(), folder.open(), folder.open());
    for store in [a, b, c] {
        assert_eq!(store.constants().await.expect("reads").partitions, PARTITIONS);
        store.claim_partition(PartitionId(0), WorkerId(Uuid::new_v4())).await.expect("claims");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let _store = folder.open().await;
    for file in std::fs::read_dir(&folder.0).expect("lists") {
        let file = file.expect("lists");
        let mode = file.metadata().expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_refused() {
    let folder = Folder::new();
    folder.open().await.close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (900, 'from the future', true, x'00', 0)";
    folder.sql(newer).await.expect("runs");
    for why in [
        misfit(SqliteStore::open(&folder.file(), PARTITIONS, SECRET, ManualClock::new()).await),
        misfit(SqliteStore::open_read(&folder.file(), ManualClock::new()).await),
    ] {
        assert!(why.contains("900 is newer"), "{why}");
    }
}

#[tokio::test]
async fn readers_say_what_is_wrong_and_make_no_file() {
    let folder = Folder::new();
    let read = async |file: &Path| misfit(SqliteStore::open_read(file, ManualClock::new()).await);
    let why = read(&folder.file()).await;
    assert!(why.contains("no such file") && why.contains("store.db"), "{why}");
    assert!(!folder.file().exists());
    std::fs::write(
        folder.file(),
        "not a database, but long enough to have a header of some kind, let us see".repeat(20),
    )
    .expect("writes");
    assert!(read(&folder.file()).await.contains("no SQLite database"));
    assert!(misfit(SqliteStore::open(&folder.file(), 1, SECRET, ManualClock::new()).await).contains("no SQLite"));
    std::fs::write(folder.file(), "").expect("writes");
    assert!(read(&folder.file()).await.contains("no store"));
    let lost = folder.0.join("no/such/folder/store.db");
    assert!(misfit(SqliteStore::open(&lost, 1, SECRET, ManualClock::new()).await).contains("store.db"));
}

#[tokio::test]
async fn a_reader_sees_what_is_committed_and_writes_nothing() {
    let f = fixture::sqlite().await;
    fixture::run(f, async |f| {
        let reader = SqliteStore::open_read(&f.file(), ManualClock::new()).await.expect("opens");
        assert_eq!(reader.ledger().await.expect("reads").accepted, 0);
        let events = f.accepted(&tenant(1), 3).await;
        assert_eq!(reader.ledger().await.expect("reads").accepted, 3);
        assert_eq!(reader.constants().await.expect("reads").pack_secret, SECRET);
        let refused = reader.accept_batch(Uuid::new_v4(), &events).await;
        assert!(misfit(refused).contains("for reading"));
    })
    .await;
}

/// What a process leaves behind that was killed: the file and its WAL.
#[tokio::test]
async fn what_was_accepted_survives_the_process() {
    let f = fixture::sqlite().await;
    fixture::run(f, async |f| {
        let events = f.accepted(&tenant(1), 3).await;
        f.owner().await.commit(f, vec![approved(&events[0])]).await;
        let grave = Folder::new();
        for name in ["store.db", "store.db-wal"] {
            std::fs::copy(f.file().with_file_name(name), grave.0.join(name)).expect("copies");
        }
        let reader = SqliteStore::open_read(&grave.file(), ManualClock::new()).await.expect("a reader recovers it");
        assert_eq!(reader.ledger().await.expect("reads"), f.ledger().await);
        let heir = SqliteStore::open(&grave.file(), PARTITIONS, SECRET, ManualClock::new()).await.expect("opens");
        assert_eq!(heir.ledger().await.expect("reads"), f.ledger().await);
        assert_eq!(heir.unpublished().await.expect("counts"), 3);
    })
    .await;
}

/// A dropped future of a write leaves no transaction behind.
#[tokio::test]
async fn a_write_that_is_given_up_does_not_block_the_next() {
    let f = fixture::sqlite().await;
    fixture::run(f, async |f| {
        for n in 0..40 {
            let event = f.request(&tenant(1), &format!("given-up-{n}"), "p").await;
            let given_up = f.store.accept_batch(Uuid::new_v4(), std::slice::from_ref(&event));
            // Somewhere between the first statement and the commit.
            tokio::time::timeout(Duration::from_micros(n * 40), given_up).await.ok();
            let next = f.request(&tenant(1), &format!("next-{n}"), "p").await;
            assert_eq!(f.accept(&[next]).await, [Accepted::Fresh]);
        }
        let stored = f.ledger().await.accepted;
        assert!((40..=80).contains(&stored), "{stored}");
    })
    .await;
}

/// One step of the mark folds at most 50,000 events, and the ledger never notices.
#[tokio::test]
async fn the_mark_goes_by_bounded_steps() {
    for f in [fixture::memory().await, fixture::sqlite().await] {
        fixture::run(f, async |f| {
            let mut owner = f.owner().await;
            let mut last = None;
            for _ in 0..12 {
                let events = f.accepted(&tenant(1), 5_000).await;
                owner.commit(f, events.iter().map(approved).collect()).await;
                last = events.last().map(|event| event.id);
            }
            f.pass(MARK_LAG * 2).await;
            let first = f.store.advance_mark().await.expect("advances");
            assert!(Some(first) < last);
            assert_eq!(f.ledger().await.decided, 60_000);
            assert!(Some(f.store.advance_mark().await.expect("advances")) > last);
            assert_eq!(f.ledger().await.decided, 60_000);
        })
        .await;
    }
}

/// Memory is cheap enough for many more interleavings than a clause has.
#[tokio::test]
async fn a_hundred_random_interleavings_in_memory() {
    for _ in 0..100 {
        fixture::run(fixture::memory().await, super::model::random_interleavings_agree_with_a_naive_model).await;
    }
}

/// Every verb is done when it is first asked: no runtime, timer or thread is in it, so that it works
/// under any clock.
#[test]
fn the_memory_store_never_waits() {
    let store = MemoryStore::new(PARTITIONS, SECRET, ManualClock::new());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut claim = store.claim_partition(PartitionId(0), WorkerId(Uuid::new_v4()));
    assert!(matches!(claim.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(_))));
    let mut ledger = store.ledger();
    assert!(matches!(ledger.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(_))));
}
