//! Tests: real programs and their master key; an erasure that every process knows of within two
//! seconds; a new master key while everything runs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::process::{Process, Program};

const SUBJECT: &str = "canary-subject-fleet-77";
const PAYLOAD: &str = "canary-payload-fleet-88";

fn canary(kind: &str) -> Value {
    json!({"version": "1", "event_type": kind, "subject": SUBJECT, "metadata": {"note": PAYLOAD}})
}

async fn send(ingest: &Process, key: &str, event: &Value) -> (u16, Value) {
    let request = http().post(ingest.url("/v1/risk")).header("x-tenant-id", "acme");
    let answer = request.header("x-idempotency-key", key).json(event).send().await.expect("asked");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn status(process: &Process, path: &str) -> (u16, String) {
    let answer = http().get(process.url(path)).send().await.expect("asked");
    let status = answer.status().as_u16();
    (status, answer.json::<Value>().await.expect("JSON")["type"].as_str().unwrap_or_default().to_owned())
}

/// In how many rows of the fleet's schema a text stands, as text or as bytes.
async fn rows_with(fleet: &Fleet, text: &str) -> i64 {
    let sql = format!("SELECT table_name::text FROM information_schema.tables WHERE table_schema = '{}'", fleet.ns);
    let tables: Vec<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&fleet.pool).await.expect("lists tables");
    assert!(tables.len() > 20, "{tables:?}");
    let mut rows = 0;
    for table in tables {
        let like = format!("t::text LIKE '%{text}%' OR t::text LIKE '%{}%'", hex::encode(text));
        rows += fleet.number(&format!("SELECT count(*) FROM {{ns}}.{table} t WHERE {like}")).await;
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_program_starts_without_the_master_key_of_its_fleet() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    drop(fleet.ingest("first").await);
    let (mut wrong, mut none) = (fleet.settings(), fleet.settings());
    wrong.insert("RISKFLEET_MASTER_KEY".into(), "4e".repeat(32));
    none.remove("RISKFLEET_MASTER_KEY");
    for (settings, says) in
        [(wrong, "RISKFLEET_MASTER_KEY is the wrong key"), (none, "RISKFLEET_MASTER_KEY is not set")]
    {
        for (program, args) in [(Program::Ingest, &["serve"][..]), (Program::Worker, &[]), (Program::Console, &[])] {
            let mut process = Process::start("refused", program, args, &settings, &fleet.dir);
            let ended = process.exit(Duration::from_secs(20)).await;
            let said = process.log_tail();
            assert!(!ended.success() && said.contains(says), "{says}: {ended}:\n{said}");
            assert!(!said.contains(&"4d".repeat(32)) && !said.contains(&"4e".repeat(32)));
        }
        let output = Program::Operator.command(&settings).args(["doctor", "--json"]).output().expect("runs");
        let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let checks = seen["checks"].as_array().expect("checks");
        let told = checks.iter().find(|check| check["check"] == "vault").expect("it is looked at");
        assert!(told["seen"].as_str().is_some_and(|seen| seen.contains("RISKFLEET_MASTER_KEY")), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_subject_is_unreadable_everywhere_within_two_seconds() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingests = [fleet.ingest("ingest-1").await, fleet.ingest("ingest-2").await];
    let worker = fleet.worker("worker").await;
    let mut console = Process::start("console", Program::Console, &[], &fleet.settings(), &fleet.dir);
    console.ready().await;
    let (code, accepted) = send(&ingests[0], "one", &canary("high_risk")).await;
    assert_eq!(code, 202, "{accepted}");
    let id = accepted["event_id"].as_str().expect("an id").to_owned();
    fleet.settled(1, Duration::from_secs(60)).await;
    for ingest in &ingests {
        assert_eq!(status(ingest, &format!("/v1/events/{id}/decision")).await.0, 200);
    }
    assert_eq!((rows_with(&fleet, SUBJECT).await, rows_with(&fleet, PAYLOAD).await), (0, 0), "nothing in the clear");

    let api = format!("http://{}", console.addr);
    let erase = ["tenants", "erase", "acme", "--subject", SUBJECT, "--reason", "request 17", "--url", &api];
    let foreseen = fleet.operate_json(&[&erase[..], &["--dry-run"]].concat());
    assert_eq!((&foreseen["keys"], &foreseen["events"], &foreseen["erased"]), (&json!(1), &json!(1), &json!(false)));
    fleet.operate(&["tenants", "hold", "acme", "--reason", "case 7", "--url", &api]);
    let held = fleet.run(Program::Operator, &erase);
    assert!(!held.status.success() && String::from_utf8_lossy(&held.stderr).contains("legal hold"), "{held:?}");
    fleet.operate(&["tenants", "release", "acme", "--reason", "case 7 is settled", "--url", &api]);
    let done = fleet.operate_json(&erase);
    assert_eq!((&done["erased"], &done["changed"]), (&json!(true), &json!(true)), "{done}");

    let since = Instant::now();
    for (n, ingest) in ingests.iter().enumerate() {
        loop {
            let (code, problem) = send(ingest, &format!("two-{n}"), &canary("low_risk")).await;
            if code == 422 {
                assert_eq!(problem["type"], "urn:riskfleet:problem:subject-erased");
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(2), "{code} after {:?}", since.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for path in ["", "/decision", "/timeline"] {
            let told = status(ingest, &format!("/v1/events/{id}{path}")).await;
            assert_eq!(told, (410, "urn:riskfleet:problem:erased".into()), "{path}");
        }
    }
    assert_eq!(status(&console, &format!("/v1/approvals/{id}")).await.0, 410);
    let replayed = fleet.run(Program::Operator, &["replay", &id]);
    assert!(String::from_utf8_lossy(&replayed.stdout).contains("erased"), "{replayed:?}");
    // What came within those two seconds has its end all the same.
    fleet
        .until(
            "nothing is pending",
            "SELECT (count(*) = 0)::int::bigint FROM {ns}.events e WHERE NOT EXISTS \
        (SELECT FROM {ns}.decisions d WHERE d.event_id = e.event_id)",
            1,
            Duration::from_secs(30),
        )
        .await;
    assert_eq!(fleet.operate_json(&["audit", "verify"])["ok"], json!(true));
    assert_eq!((rows_with(&fleet, SUBJECT).await, rows_with(&fleet, PAYLOAD).await), (0, 0));
    for log in ["ingest-1", "ingest-2", "worker", "console"] {
        let text = std::fs::read_to_string(fleet.dir.join(format!("{log}.log"))).expect("a log");
        assert!(!text.contains(SUBJECT) && !text.contains(PAYLOAD), "{log}");
    }
    drop(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_key_is_changed_while_programs_run() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let id = {
        let (ingest, _worker) = (fleet.ingest("before").await, fleet.worker("worker-before").await);
        let accepted = send(&ingest, "one", &canary("payment")).await.1;
        fleet.settled(1, Duration::from_secs(60)).await;
        accepted["event_id"].as_str().expect("an id").to_owned()
    };
    let mut both = fleet.settings();
    both.insert("RISKFLEET_MASTER_KEY".into(), "4e".repeat(32));
    both.insert("RISKFLEET_MASTER_KEY_PREVIOUS".into(), "4d".repeat(32));
    let mut ingest = Process::start("ingest", Program::Ingest, &["serve"], &both, &fleet.dir);
    let mut console = Process::start("console", Program::Console, &[], &both, &fleet.dir);
    ingest.ready().await;
    console.ready().await;
    assert_eq!(send(&ingest, "two", &canary("payment")).await.0, 202);
    let api = format!("http://{}", console.addr);
    let turned = fleet.operate_json(&["keys", "rewrap", "--reason", "yearly", "--url", &api]);
    assert_eq!((&turned["keys"], &turned["more"]), (&json!(1), &json!(false)), "{turned}");
    assert_eq!(send(&ingest, "three", &canary("payment")).await.0, 202);
    assert_eq!(status(&ingest, &format!("/v1/events/{id}/decision")).await.0, 200);
    // The key before is good for nothing any more, and not needed.
    let mut only = fleet.settings();
    only.insert("RISKFLEET_MASTER_KEY".into(), "4e".repeat(32));
    let mut worker = Process::start("worker", Program::Worker, &[], &only, &fleet.dir);
    worker.ready().await;
    fleet.settled(3, Duration::from_secs(60)).await;
    let mut late = Process::start("late", Program::Ingest, &["serve"], &fleet.settings(), &fleet.dir);
    assert!(!late.exit(Duration::from_secs(20)).await.success());
}
