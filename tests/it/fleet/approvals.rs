//! Tests: an escalated event on real programs, from its decision over a person's verdict to what
//! consumers are told; and an overdue one in `riskfleet up`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::namespace;
use crate::harness::process::{Process, Program};

/// A consumer of the fleet's decisions.
struct Listener {
    channel: lapin::Channel,
    queue: String,
    _connection: lapin::Connection,
}

impl Listener {
    async fn new(fleet: &Fleet) -> Self {
        let connection = fleet.broker().await;
        let channel = connection.create_channel().await.expect("open a channel");
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = format!("{}.listener", fleet.ns);
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.expect("declare");
        let exchange = format!("{}.decisions", fleet.ns);
        let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(queue.as_str().into(), exchange.as_str().into(), "#".into(), bind, none)
            .await
            .expect("bind");
        Self { channel, queue, _connection: connection }
    }

    /// The next message: its id and the decisions in it.
    async fn next(&self, patience: Duration) -> (String, Value) {
        let until = Instant::now() + patience;
        loop {
            let options = BasicGetOptions { no_ack: true };
            if let Some(got) = self.channel.basic_get(self.queue.as_str().into(), options).await.expect("ask") {
                let id = got.delivery.properties.message_id().as_ref().expect("a message id").to_string();
                return (id, serde_json::from_slice(&got.delivery.data).expect("JSON"));
            }
            assert!(Instant::now() < until, "no message within {patience:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

const HIGH: &str = r#"{"version":"1","event_type":"high_risk","subject":"acct-7"}"#;

async fn send(api: &str) -> Value {
    let request = http().post(format!("{api}/v1/risk")).header("content-type", "application/json");
    let request = request.header("x-tenant-id", "acme").header("x-idempotency-key", "one").header("prefer", "wait=10");
    request.body(HIGH).send().await.expect("asked").json().await.expect("JSON")
}

async fn post(url: String, body: &Value) -> (u16, Value) {
    let answer = http().post(url).json(body).send().await.expect("asked");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_verdict_is_published_with_the_decision_and_stands_in_the_audit() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    let worker = fleet.worker("worker").await;
    let mut console = Process::start("console", Program::Console, &[], &fleet.settings(), &fleet.dir);
    console.ready().await;
    fleet.until_owned(&worker).await;
    // The first decision declares the exchange.
    let first = send(&ingest.url("")).await;
    fleet.until("decision", "SELECT count(*) FROM {ns}.decisions", 1, Duration::from_secs(30)).await;
    let id = first["event_id"].as_str().expect("an id").to_owned();
    fleet.until("settled", "SELECT 1 - count(*) FROM {ns}.outbox WHERE kind = 1", 1, Duration::from_secs(30)).await;
    let listener = Listener::new(&fleet).await;

    let listed = fleet.operate_json(&["approvals", "list"]);
    assert_eq!((&listed[0]["event_id"], &listed[0]["state"]), (&json!(id), &json!("open")));
    let body = json!({"reason": "seen the papers"});
    let (status, approved) = post(console.url(&format!("/v1/approvals/{id}/approve")), &body).await;
    assert_eq!((status, &approved["verdict"]), (200, &json!("APPROVED")), "{approved}");
    let (message, told) = listener.next(Duration::from_secs(10)).await;
    let decision = &told[0];
    assert_eq!((&decision["event_id"], &decision["final_outcome"]), (&json!(id), &json!("APPROVED")), "{told}");
    assert_eq!((&decision["outcome"], told.as_array().map(Vec::len)), (&json!("REQUIRE_APPROVAL"), Some(1)));
    assert!(message.ends_with(".acme"), "{message}");

    let (status, late) = post(console.url(&format!("/v1/approvals/{id}/reject")), &body).await;
    assert_eq!((status, &late["type"]), (409, &json!("urn:riskfleet:problem:already-decided")), "{late}");
    let shown = fleet.operate_json(&["events", "get", &id]);
    assert_eq!((&shown["status"], &shown["decision"]["final_outcome"]), (&json!("approved"), &json!("APPROVED")));
    fleet.until("settled", "SELECT 1 - count(*) FROM {ns}.outbox WHERE kind = 1", 1, Duration::from_secs(10)).await;
    let audit = fleet.operate_json(&["audit", "verify"]);
    assert_eq!((&audit["ok"], &audit["records"], &audit["chains"]), (&json!(true), &json!(2), &json!(2)), "{audit}");
    let metrics = console.metrics().await;
    assert_eq!(metrics.sum("riskfleet_approvals_decided_total"), 1.0);
    console.signal("TERM");
    assert!(console.exit(Duration::from_secs(40)).await.success(), "{}", console.log_tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overdue_request_rises_in_up_and_its_verdict_is_told() {
    let folder = std::env::temp_dir().join(format!("riskfleet-it-{}", namespace()));
    let data = folder.join("data");
    std::fs::create_dir_all(&data).expect("make a folder");
    let settings = BTreeMap::from([("RISKFLEET_APPROVAL_DUE_S".to_owned(), "1".to_owned())]);
    let mut up = Process::up(&data, &settings, &folder);
    up.ready().await;
    let id = send(&up.url("")).await["event_id"].as_str().expect("an id").to_owned();
    let url = up.url("");
    let operate = |args: &[&str]| -> Value {
        let output = Program::Operator.command(&settings).args(args).arg("--json").output().expect("run riskfleet");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?} printed no JSON ({e}): {out}{err}"))
    };
    let read = |args: &[&str]| operate(&[&["--data", data.to_str().expect("a readable path")], args].concat());
    let until = async |args: &[&str], wanted: &dyn Fn(&Value) -> bool| {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let shown = read(args);
            if wanted(&shown) {
                return shown;
            }
            assert!(Instant::now() < until, "{args:?} is still {shown}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let risen = until(&["approvals", "list", "--state", "overdue"], &|shown| shown[0]["level"] == 2).await;
    assert_eq!((&risen[0]["event_id"], &risen[0]["overdue"]), (&json!(id), &json!(true)));
    let rejected = operate(&["approvals", "reject", &id, "--reason", "too late", "--url", &url]);
    assert_eq!(rejected["verdict"], "REJECTED", "{rejected}");
    let published = |shown: &Value| {
        let steps = shown["steps"].as_array().expect("steps");
        steps.iter().any(|step| step["step"] == "verdict_published" && step["done"] == true)
    };
    let explained = until(&["explain", &id], &published).await;
    let steps: Vec<&str> =
        explained["steps"].as_array().expect("steps").iter().filter_map(|step| step["step"].as_str()).collect();
    assert_eq!(steps[steps.len() - 4..], ["approval_opened", "escalated", "approval", "verdict_published"]);
    let audit = read(&["audit", "list", "--tenant", "acme"]);
    let actions: Vec<String> = audit.as_array().expect("records").iter().map(action).collect();
    assert_eq!(actions[actions.len() - 2..], ["system:console approval_escalated", "local approval_rejected"]);
    assert_eq!(read(&["audit", "verify"])["ok"], true);
    up.signal("TERM");
    assert!(up.exit(Duration::from_secs(40)).await.success(), "{}", up.log_tail());
    let _ = std::fs::remove_dir_all(folder);
}

fn action(record: &Value) -> String {
    let body: Value = serde_json::from_str(record["body"].as_str().expect("a text")).expect("JSON");
    format!("{} {}", body["actor"].as_str().unwrap_or("-"), body["action"].as_str().unwrap_or("-"))
}
