//! Tests: what `explain` says that a pending event waits for, one test a reason.

use super::shelf::{Fleet, PLAIN, RISKY, Shelf, T0, WORKER, shell, shell_json};
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::domain::{EventId, FailureClass, WorkerId, time};
use riskfleet::ports::checkup::StandingRows;
use riskfleet::ports::store::{Disposition, OutboxKind, PastAct, PastDeath, RetryState, WorkerRow};
use riskfleet::ports::{Clock, EventStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A shelf with one pending event of `acme`, 4 s old, whose pack is confirmed, and whose partition
/// belongs to a worker that reported a second ago.
async fn pending() -> (Shelf, EventId) {
    let mut fleet = Fleet::new().await;
    let event = fleet.accept(PLAIN).await;
    let mut shelf = fleet.shelf(&[event.id]).await;
    shelf.events.get_mut(&event.id).expect("there").unpublished.clear();
    let status = shelf.fleet.as_mut().expect("there");
    status.workers.push(WorkerRow {
        id: WORKER,
        version: "0.1.0".into(),
        partitions: status.partitions.iter().map(|p| p.partition).collect(),
        draining: false,
        seen_at: time::from_millis(T0 + 4_000),
        load: None,
    });
    (shelf, event.id)
}

async fn waits(shelf: &Shelf, event: EventId) -> (String, String) {
    let (_, shown) = shell_json(shelf, &format!("riskfleet explain {event} --json")).await;
    let text = |key: &str| shown["waiting"][key].as_str().unwrap_or_else(|| panic!("it waits: {shown:#}")).to_owned();
    let (_, out, _) = shell(shelf, &format!("riskfleet explain {event}")).await;
    let line = out.lines().nth(1).and_then(|l| l.strip_prefix("it waits: ")).map(str::to_owned);
    // A terminal is not steered by what somebody else wrote.
    let want = text("text").replace('\u{1b}', "\u{fffd}");
    assert_eq!(line, Some(want), "people read what programs read: {out}");
    (text("reason"), text("text"))
}

#[tokio::test]
async fn each_reason_is_one_sentence() {
    let (mut shelf, event) = pending().await;
    let (reason, text) = waits(&shelf, event).await;
    assert_eq!(reason, "next");
    assert!(
        text.contains(&format!(
            "for worker {WORKER}: it is the oldest of partition p002 and should have been decided 4 s ago"
        )),
        "{text}"
    );

    shelf.older = 12;
    shelf.fleet.as_mut().expect("there").partitions[2].backlog = 13;
    let (reason, text) = waits(&shelf, event).await;
    assert_eq!(
        (reason.as_str(), text.as_str()),
        ("behind", "behind 12 older events of partition p002, where 13 are pending")
    );
    shelf.older = 100_000;
    assert!(waits(&shelf, event).await.1.contains("behind 200 or more older events"));

    shelf.fleet.as_mut().expect("there").workers[0].draining = true;
    assert_eq!(waits(&shelf, event).await.0, "owner_leaving");

    let other = WorkerId(uuid::Uuid::from_u128(0xbb));
    let status = shelf.fleet.as_mut().expect("there");
    (status.workers[0].draining, status.partitions[2].owner) = (false, Some(other));
    let (reason, text) = waits(&shelf, event).await;
    assert_eq!(reason, "owner_silent");
    assert!(text.contains(&format!("belongs to worker {other}, which has not reported for over a minute")), "{text}");

    shelf.fleet.as_mut().expect("there").partitions[2].owner = None;
    let (reason, text) = waits(&shelf, event).await;
    assert_eq!(reason, "no_owner");
    assert!(text.starts_with("no worker owns partition p002; 1 report"), "{text}");

    shelf.fleet.as_mut().expect("there").workers[0].seen_at = time::from_millis(T0 - 6_000);
    assert_eq!(
        waits(&shelf, event).await,
        ("no_worker".into(), "no worker reports: start one (riskfleet-worker)".into())
    );

    // It comes first on the way, so it is told first.
    shelf.events.get_mut(&event).expect("there").unpublished.push(OutboxKind::Accept);
    let (reason, text) = waits(&shelf, event).await;
    assert_eq!(reason, "unpublished");
    assert!(text.starts_with("its pack is not confirmed by the broker; the outbox keeps it, 4 s,"), "{text}");
}

#[tokio::test]
async fn a_failed_try_says_why_and_when_the_next_one_is() {
    let (mut shelf, event) = pending().await;
    let due = |seconds: u64| Some(time::from_millis(T0 + seconds * 1_000));
    let retry = |attempts, due_at| RetryState {
        attempts,
        due_at,
        class: Some(FailureClass::InfraError),
        error: Some("no model\x1b[2J".into()),
        worker: None,
    };
    let put = |shelf: &mut Shelf, state| shelf.events.get_mut(&event).expect("there").retry = Some(state);
    put(&mut shelf, retry(2, due(19)));
    let (reason, text) = waits(&shelf, event).await;
    assert_eq!(reason, "retry");
    assert_eq!(
        text,
        "it failed 2 times (INFRA_ERROR: no model\u{1b}[2J); next try in 14 s, at 2026-11-21T10:00:19.000Z"
    );
    put(&mut shelf, retry(1, due(2)));
    let (reason, text) = waits(&shelf, event).await;
    assert_eq!(reason, "retry");
    assert!(text.contains("it failed once (INFRA_ERROR") && text.contains("due for 3 s"), "{text}");
    put(&mut shelf, RetryState { class: None, error: None, ..retry(0, due(2)) });
    assert!(waits(&shelf, event).await.1.starts_with("it was replayed from the dead letters; its next try"));
    put(&mut shelf, RetryState { worker: Some(WORKER), ..retry(3, None) });
    assert_eq!(waits(&shelf, event).await.0, "next", "its message is in the broker's hands");
    let (_, out, _) = shell(&shelf, &format!("riskfleet explain {event}")).await;
    assert!(
        out.contains(&format!("tries  begun 3 times; worker {WORKER} has begun it and not come to an end")),
        "{out}"
    );
    put(&mut shelf, retry(2, due(2)));
    shelf.fleet.as_mut().expect("there").workers.clear();
    assert_eq!(waits(&shelf, event).await.0, "no_worker", "due, and nobody to try it");
}

#[tokio::test]
async fn deaths_that_somebody_dealt_with_are_told() {
    let (mut shelf, event) = pending().await;
    let death = |act, reason: Option<&str>| PastDeath {
        class: FailureClass::WorkflowError,
        error: "a stage failed".into(),
        attempts: 5,
        died_at: time::from_millis(T0 + 2_000),
        act,
        acted_at: time::from_millis(T0 + 3_000),
        by: "ada".into(),
        reason: reason.map(str::to_owned),
    };
    shelf.events.get_mut(&event).expect("there").past = vec![death(PastAct::Replayed, Some("the model is back"))];
    let line = format!("riskfleet explain {event}");
    let (_, out, _) = shell(&shelf, &line).await;
    let want = "  2026-11-21T10:00:02.000Z  died  dead letter after 5 attempts: WORKFLOW_ERROR
                              · a stage failed
  2026-11-21T10:00:03.000Z  replayed  made pending again, by ada
                              · the model is back
";
    assert!(out.contains(want), "{out}");
    let mut fleet = Fleet::new().await;
    let dead = fleet.accept(PLAIN).await;
    fleet.decide(&dead, true).await;
    let mut shelf = fleet.shelf(&[dead.id]).await;
    let record = shelf.events.get_mut(&dead.id).expect("there");
    record.past = vec![death(PastAct::Discarded, None)];
    record.end.as_mut().expect("ended").disposition =
        Disposition::Dead { class: FailureClass::WorkflowError, error: "a stage failed".into(), attempts: 5 };
    let (_, shown) = shell_json(&shelf, &format!("riskfleet explain {} --json", dead.id)).await;
    let steps: Vec<&str> =
        shown["steps"].as_array().expect("steps").iter().filter_map(|s| s["step"].as_str()).collect();
    assert_eq!(steps, ["accepted", "published", "dead", "discarded"]);
}

#[tokio::test]
async fn where_the_partition_is_is_told_while_it_matters() {
    let (shelf, event) = pending().await;
    let (_, out, _) = shell(&shelf, &format!("riskfleet explain {event}")).await;
    assert!(
        out.contains(&format!("partition  p002 belongs to worker {WORKER}, which reports; epoch 1, 1 events pending")),
        "{out}"
    );
    let mut fleet = Fleet::new().await;
    let decided = fleet.accept(RISKY).await;
    fleet.decide(&decided, true).await;
    let (_, shown) = shell_json(&fleet.store, &format!("riskfleet explain {} --json", decided.id)).await;
    assert_eq!(shown["waiting"]["reason"], "approval");
    let steps: Vec<&str> =
        shown["steps"].as_array().expect("steps").iter().filter_map(|s| s["step"].as_str()).collect();
    assert_eq!(
        steps,
        [
            "accepted",
            "published",
            "decided",
            "reasons",
            "committed",
            "outcome_published",
            "approval_opened",
            "approval"
        ]
    );
    let plain = fleet.accept(PLAIN).await;
    fleet.decide(&plain, true).await;
    let (_, shown) = shell_json(&fleet.store, &format!("riskfleet explain {} --json", plain.id)).await;
    assert_eq!(shown.get("waiting"), None, "it has ended: {shown}");
}

/// A clock that stands where it is put, in milliseconds.
struct Standing(AtomicU64);

impl Clock for Standing {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        time::from_millis(self.0.load(Ordering::SeqCst))
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_real_store_answers_all_that_is_asked() {
    let dir = std::env::temp_dir().join(format!("riskfleet-it-{}", crate::harness::namespace()));
    std::fs::create_dir_all(&dir).expect("make a folder");
    let clock = Arc::new(Standing(AtomicU64::new(T0 + 5_000)));
    let store = SqliteStore::open(&dir.join("riskfleet.db"), 4, [7; 32], clock.clone()).await.expect("open");
    let event = super::shelf::accept_into(&store, PLAIN, T0 + 4_500).await;
    let (_, shown) = shell_json(&store, &format!("riskfleet explain {event} --json")).await;
    assert_eq!(shown["waiting"]["reason"], "no_worker", "younger than what counts as unpublished: {shown}");
    let second = super::shelf::accept_into(&store, PLAIN, T0 + 4_600).await;
    let worker = WorkerRow {
        id: WORKER,
        version: "0.1.0".into(),
        partitions: vec![],
        draining: false,
        seen_at: time::from_millis(0),
        load: None,
    };
    store.report_worker(&worker).await.expect("reported");
    for p in 0..4 {
        store.claim_partition(riskfleet::domain::PartitionId(p), WORKER).await.expect("claimed");
    }
    for (event, reason) in [(event, "on_its_way"), (second, "behind")] {
        let (_, shown) = shell_json(&store, &format!("riskfleet explain {event} --json")).await;
        assert_eq!(shown["waiting"]["reason"], reason, "{shown}");
    }
    assert_eq!(store.standing_rows().await.expect("read"), [], "they are young");
    clock.0.store(T0 + 70_000, Ordering::SeqCst);
    let since = time::from_millis(T0 + 4_500);
    let standing = StandingRows { kind: OutboxKind::Accept, rows: 2, events: 2, since };
    assert_eq!(store.standing_rows().await.expect("read"), [standing]);
    store.close().await;
    let _ = std::fs::remove_dir_all(&dir);
}
