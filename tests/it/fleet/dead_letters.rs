//! Tests: a dead letter's whole life in `riskfleet up`, from its death to its discard, through the
//! operator's commands alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::domain::audit::sha256;
use riskfleet::domain::partition::partition_of;
use riskfleet::domain::{CorrelationId, EventId, IdempotencyKey, TenantId, time};
use riskfleet::lifecycle::SystemClock;
use riskfleet::ports::EventStore;
use riskfleet::ports::store::{Accepted, NewEvent};
use serde_json::{Value, json};

use crate::harness::fleet::{Fleet, http};
use crate::harness::namespace;
use crate::harness::process::{Process, Program};

const PARTITIONS: u16 = 4;

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("riskfleet-it-{}", namespace()));
        std::fs::create_dir_all(path.join("data")).expect("make a folder");
        Self(path)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Runs `riskfleet ARGS --json`; gives the exit code and the document.
    fn operate(&self, args: &[&str]) -> (Option<i32>, Value) {
        let mut command = Program::Operator.command(&BTreeMap::new());
        let output = command.args(args).arg("--json").output().expect("run riskfleet");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let shown = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?} printed no JSON ({e}): {out}{err}"));
        (output.status.code(), shown)
    }

    /// The same for a command that reads the folder.
    fn read(&self, args: &[&str]) -> Value {
        let data = self.data();
        let (code, shown) = self.operate(&[&["--data", data.to_str().expect("a readable path")], args].concat());
        assert_eq!(code, Some(0), "{args:?}: {shown}");
        shown
    }

    /// Reads until it is as wanted.
    async fn until(&self, args: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let shown = self.read(args);
            if wanted(&shown) {
                return shown;
            }
            assert!(Instant::now() < until, "{args:?} is still {shown}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Stores an event that no worker can read.
async fn store_unreadable(data: &Path) -> EventId {
    let clock = Arc::new(SystemClock::new());
    let store = SqliteStore::open(&data.join("riskfleet.db"), PARTITIONS, [7; 32], clock).await.expect("opened");
    let tenant = TenantId::parse("acme").expect("legal");
    let body = "no event at all";
    let new = NewEvent {
        id: EventId::mint(time::to_millis(store.now().await.expect("a clock")), [1; 10]),
        key: IdempotencyKey::parse("key").expect("legal"),
        correlation_id: CorrelationId::parse("request").expect("legal"),
        partition: partition_of(&tenant, PARTITIONS),
        payload_hash: sha256(body.as_bytes()),
        body: body.into(),
        tenant,
    };
    let accepted = store.accept_batch(uuid::Uuid::new_v4(), std::slice::from_ref(&new)).await.expect("accepted");
    assert_eq!(accepted, [Accepted::Fresh]);
    store.close().await;
    new.id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_replayed_dies_again_and_is_discarded_and_the_audit_tells_it_all() {
    let folder = Folder::new();
    let id = store_unreadable(&folder.data()).await.to_string();
    let mut up = Process::up(&folder.data(), &BTreeMap::new(), &folder.0);
    up.ready().await;
    let url = up.url("");
    let listed = folder.until(&["dlq", "list"], |shown| shown[0]["event_id"] == id.as_str()).await;
    assert_eq!((&listed[0]["tenant_id"], &listed[0]["category"]), (&json!("acme"), &json!("UNEXPECTED_ERROR")));

    let replay = ["dlq", "replay", &id, "--reason", "try once more", "--url", &url];
    let (code, shown) = folder.operate(&replay);
    assert_eq!((code, &shown["replayed"]), (Some(0), &json!(1)), "{shown}");
    let show = ["dlq", "show", &id];
    let again = |shown: &Value| shown["state"] == "dead" && shown["history"].as_array().map(Vec::len) == Some(1);
    let shown = folder.until(&show, again).await;
    let past = &shown["history"][0];
    assert_eq!(
        (&past["act"], &past["by"], &past["reason"]),
        (&json!("replayed"), &json!("local"), &json!("try once more"))
    );
    assert_eq!(past["error"], shown["error"], "it died of the same again");
    assert!(past["at"].as_str() < shown["at"].as_str(), "and later: {shown}");

    let discard = ["dlq", "discard", &id, "--reason", "a test event", "--url", &url];
    let (code, shown) = folder.operate(&discard);
    assert_eq!((code, &shown["discarded"]), (Some(0), &json!(1)), "{shown}");
    assert_eq!(folder.read(&["dlq", "list"]), json!([]));
    let (code, shown) = folder.operate(&["dlq", "replay", &id, "--url", &url]);
    assert_eq!((code, &shown["failed"]), (Some(1), &json!(1)), "what is discarded stays so: {shown}");
    let shown = folder.read(&show);
    assert_eq!((&shown["state"], shown["history"].as_array().map(Vec::len)), (&json!("discarded"), Some(2)));

    let ledger = json!({"accepted": 1, "decided": 0, "dead": 1, "pending": 0});
    assert_eq!(folder.read(&["fleet", "status"])["ledger"], ledger);
    let audit = folder.read(&["audit", "verify"]);
    assert_eq!((&audit["ok"], &audit["records"], &audit["chains"]), (&json!(true), &json!(4), &json!(2)), "{audit}");
    let records = folder.read(&["audit", "list", "--tenant", "acme"]);
    let actions: Vec<(Value, Value)> = records.as_array().expect("records").iter().map(action).collect();
    let want = [
        ("workflow", "dead_lettered"),
        ("workflow", "dead_lettered"),
        ("control", "dead_letter_replayed"),
        ("control", "dead_letter_discarded"),
    ];
    assert_eq!(actions, want.map(|(stream, action)| (json!(stream), json!(action))));
    up.signal("TERM");
    assert!(up.exit(Duration::from_secs(40)).await.success(), "{}", up.log_tail());
}

fn action(record: &Value) -> (Value, Value) {
    let body: Value = serde_json::from_str(record["body"].as_str().expect("a text")).expect("JSON");
    (record["stream"].clone(), body["action"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_needs_the_store_alone() {
    let fleet = Fleet::new().await;
    let mut settings = fleet.settings();
    settings.remove("RISKFLEET_AMQP_URL");
    settings.remove("RISKFLEET_REDIS_URL");
    let mut console = Process::start("console", Program::Console, &[], &settings, &fleet.dir);
    console.ready().await;
    let shown: Value = http().get(console.url("/v1/fleet")).send().await.expect("asked").json().await.expect("JSON");
    assert_eq!(shown, fleet.operate_json(&["fleet", "status"]));
    let url = console.url("");
    assert_eq!(fleet.operate_json(&["repair", "--url", &url]), json!({"repair": 1}));
    assert_eq!(fleet.operate_json(&["dlq", "replay", "--all", "--url", &url])["asked"], 0);
    let events = http().post(console.url("/v1/events")).json(&json!([])).send().await.expect("asked");
    assert_eq!(events.status().as_u16(), 404, "it takes no events");
    console.signal("TERM");
    assert!(console.exit(Duration::from_secs(40)).await.success(), "{}", console.log_tail());
}
