//! Tests: a scorecard on real programs, from its file over two people into the decisions of a fleet, and
//! back; and one whose content somebody has changed in the database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use jsonwebtoken::{EncodingKey, Header, encode};
use riskfleet::lifecycle::SystemClock;
use riskfleet::ports::Clock;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::namespace;
use crate::harness::process::{Process, Program};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Large amounts are escalated, small ones are not, whatever the baseline thinks of their type.
const CARD: &str = r#"{"kind":"scorecard", "min":0, "max":100, "base":20,
  "characteristics":[{"field":"amount","bins":[{"from":10000,"points":60}],"missing":5}]}
"#;

/// By when an activation is in force: two seconds, and what a busy machine adds to the asking.
const IN_FORCE: Duration = Duration::from_secs(4);

fn person(who: &str, tenant: &str, role: &str) -> String {
    let exp = SystemClock::new().now().timestamp() + 3_600;
    let claims = json!({"sub": who, "tenant_id": tenant, "roles": [role], "exp": exp});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

fn closed() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("RISKFLEET_AUTH".to_owned(), "on".to_owned()),
        ("RISKFLEET_JWT_SECRET".to_owned(), SECRET.to_owned()),
    ])
}

/// Decides an event of an amount, and gives the event with its decision.
async fn decided(api: &str, tenant: &str, amount: u64) -> Value {
    let body = json!({"version": "1", "event_type": "high_risk", "amount": amount});
    let request = http().post(format!("{api}/v1/risk")).header("prefer", "wait=10").json(&body);
    let request = request.header("x-idempotency-key", uuid::Uuid::new_v4().to_string());
    let answer = request.bearer_auth(person("shop", tenant, "ANALYST")).send().await.expect("asked");
    let answer: Value = answer.json().await.expect("JSON");
    assert!(answer["decision"].is_object(), "decided in time: {answer}");
    answer
}

/// Sends events until one is decided by `model`.
async fn until_model(api: &str, tenant: &str, model: &str) {
    let began = Instant::now();
    loop {
        let answer = decided(api, tenant, 1).await;
        if answer["decision"]["model_version"] == model {
            return;
        }
        assert!(began.elapsed() < IN_FORCE, "{model} is not in force: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One `up` fleet and its people.
struct Up {
    process: Process,
    folder: PathBuf,
}

impl Up {
    async fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("make a folder");
        let mut process = Process::up(&folder.join("data"), &closed(), folder);
        process.ready().await;
        Self { process, folder: folder.to_owned() }
    }

    /// Runs `riskfleet models …` as somebody, against the API.
    fn models(&self, who: &str, args: &[&str]) -> Output {
        let url = self.process.url("");
        let token = person(who, "acme", "ADMIN");
        let all = [&["models"], args, &["--url", &url, "--token", &token, "--json"]].concat();
        Program::Operator.command(&closed()).args(all).output().expect("run riskfleet")
    }

    fn done(&self, who: &str, args: &[&str]) -> Value {
        let output = self.models(who, args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Runs a command that reads the folder.
    fn read(&self, args: &[&str]) -> (bool, Vec<u8>) {
        let data = self.folder.join("data");
        let all = [&["--data", data.to_str().expect("a readable path")], args].concat();
        let output = Program::Operator.command(&closed()).args(all).output().expect("run riskfleet");
        (output.status.success(), output.stdout)
    }

    fn read_json(&self, args: &[&str]) -> (bool, Value) {
        let (well, out) = self.read(&[args, &["--json"]].concat());
        (well, serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{args:?} printed no JSON: {e}")))
    }

    async fn end(mut self) {
        self.process.signal("TERM");
        let ended = self.process.exit(Duration::from_secs(40)).await;
        assert!(ended.success(), "{}", self.process.log_tail());
    }
}

fn codes(answer: &Value) -> Vec<&str> {
    let reasons = answer["decision"]["reasons"].as_array().expect("reasons");
    reasons.iter().filter_map(|reason| reason["code"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_scorecard_decides_within_two_seconds_and_is_replayed() {
    let folder = std::env::temp_dir().join(format!("riskfleet-it-{}", namespace()));
    let up = Up::start(&folder).await;
    let (api, file) = (up.process.url(""), folder.join("card.json"));
    std::fs::write(&file, CARD).expect("write the scorecard");
    let file = file.to_str().expect("a readable path");
    let before = decided(&api, "acme", 1).await;
    assert_eq!(
        (&before["decision"]["model_version"], &before["decision"]["risk_score"]),
        (&json!("baseline@1"), &json!(85.0))
    );

    let registered = up.done("ann", &["register", file, "--name", "fraud", "--reason", "amounts"]);
    assert_eq!((&registered["version"], &registered["state"]), (&json!(1), &json!("pending")));
    let refused = |who: &str, args: &[&str], why: &str| {
        let output = up.models(who, args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{args:?}: {said}");
    };
    refused("ann", &["activate", "fraud@1"], "it is pending");
    refused("ann", &["approve", "fraud@1"], "author never does");
    assert_eq!(decided(&api, "acme", 1).await["decision"]["model_version"], "baseline@1", "unapproved");
    up.done("ben", &["approve", "fraud@1", "--reason", "tried"]);
    refused("eve", &["reject", "fraud@1", "--reason", "late"], "it is approved");
    up.done("ann", &["activate", "fraud@1"]);
    until_model(&api, "acme", "fraud@1").await;

    let (small, large) = (decided(&api, "acme", 9_999).await, decided(&api, "acme", 10_000).await);
    assert_eq!((&small["decision"]["outcome"], &small["decision"]["risk_score"]), (&json!("APPROVED"), &json!(20.0)));
    assert_eq!(
        (&large["decision"]["outcome"], &large["decision"]["risk_score"]),
        (&json!("REQUIRE_APPROVAL"), &json!(80.0))
    );
    assert!(codes(&large).contains(&"SCORECARD") && !codes(&small).contains(&"SCORECARD"), "{large}");
    assert_eq!(decided(&api, "globex", 1).await["decision"]["model_version"], "baseline@1", "another tenant's");
    assert_eq!(up.process.metrics().await.sum("riskfleet_models_active"), 1.0);
    for event in [&before, &small, &large] {
        let (well, replayed) = up.read_json(&["replay", event["event_id"].as_str().expect("an id")]);
        assert!(well && replayed["same"] == true, "{replayed}");
    }

    let (_, listed) = up.read_json(&["models", "list", "--tenant", "acme"]);
    assert_eq!((&listed[0]["active"], &listed[0]["decided_by"]), (&json!(true), &json!("ben")));
    let (_, content) = up.read(&["models", "show", "fraud@1", "--tenant", "acme", "--content"]);
    assert_eq!(content, CARD.trim_end().as_bytes(), "the author's bytes");
    up.done("ann", &["deactivate", "--reason", "enough"]);
    until_model(&api, "acme", "baseline@1").await;
    let (well, replayed) = up.read_json(&["replay", large["event_id"].as_str().expect("an id")]);
    assert!(well && replayed["same"] == true, "it stays what it was: {replayed}");
    let (_, audit) = up.read_json(&["audit", "verify"]);
    assert_eq!(audit["ok"], true, "{audit}");
    up.end().await;
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_scorecard_decides_nothing_and_people_decide_instead() {
    let folder = std::env::temp_dir().join(format!("riskfleet-it-{}", namespace()));
    let up = Up::start(&folder).await;
    let (api, file) = (up.process.url(""), folder.join("card.json"));
    std::fs::write(&file, CARD).expect("write the scorecard");
    up.done("ann", &["register", file.to_str().expect("a path"), "--name", "fraud", "--reason", "amounts"]);
    up.done("ben", &["approve", "fraud@1"]);
    up.done("ann", &["activate", "fraud@1"]);
    until_model(&api, "acme", "fraud@1").await;
    let good = decided(&api, "acme", 1).await;
    up.end().await;

    let file = format!("sqlite://{}", folder.join("data/riskfleet.db").display());
    let mut conn = sqlx::SqliteConnection::connect(&file).await.expect("opens");
    let changed = "DROP TRIGGER versions_never_change; DROP TRIGGER versions_are_decided_once; \
        UPDATE versions SET content = CAST(replace(CAST(content AS TEXT), '60', '00') AS BLOB)";
    sqlx::raw_sql(changed).execute(&mut conn).await.expect("who rules the database can");
    conn.close().await.expect("closes");

    let up = Up::start(&folder).await;
    let api = up.process.url("");
    let answer = decided(&api, "acme", 1).await;
    let decision = &answer["decision"];
    assert_eq!((&decision["outcome"], &decision["model_version"]), (&json!("REQUIRE_APPROVAL"), &json!("fraud@1")));
    assert!(codes(&answer).contains(&"MODEL_UNAVAILABLE"), "{answer}");
    assert_eq!(decided(&api, "globex", 1).await["decision"]["model_version"], "baseline@1");
    assert_eq!(up.process.metrics().await.sum("riskfleet_models_unavailable"), 1.0);
    let (well, replayed) = up.read_json(&["replay", answer["event_id"].as_str().expect("an id")]);
    assert!(well && replayed["same"] == true, "what was not used then is not used now: {replayed}");
    let (well, replayed) = up.read_json(&["replay", good["event_id"].as_str().expect("an id")]);
    assert_eq!((well, &replayed["result"], &replayed["model"]), (false, &json!("unknown_model"), &json!("fraud@1")));
    up.end().await;
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_worker_of_a_fleet_takes_up_what_is_made_active() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let mut settings = fleet.settings();
    settings.extend(closed());
    let mut console = Process::start("console", Program::Console, &[], &settings, &fleet.dir);
    let mut ingest = Process::start("ingest", Program::Ingest, &["serve"], &settings, &fleet.dir);
    console.ready().await;
    ingest.ready().await;
    let worker = fleet.worker("worker").await;
    fleet.until_owned(&worker).await;
    assert_eq!(decided(&ingest.url(""), "acme", 1).await["decision"]["model_version"], "baseline@1");
    let post = async |who: &str, path: &str, body: Value| {
        let request = http().post(console.url(path)).json(&body).bearer_auth(person(who, "acme", "ADMIN"));
        let answer = request.send().await.expect("asked");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let card: Value = serde_json::from_str(CARD).expect("JSON");
    let new = json!({"name": "fraud", "content": card, "reason": "amounts"});
    assert_eq!(post("ann", "/v1/models", new).await.0, 201);
    assert_eq!(post("ann", "/v1/models/fraud/1/approve", json!({})).await.0, 409);
    assert_eq!(post("ben", "/v1/models/fraud/1/approve", json!({})).await.0, 200);
    assert_eq!(post("ann", "/v1/models/fraud/1/activate", json!({})).await.0, 200);
    until_model(&ingest.url(""), "acme", "fraud@1").await;
    // One that starts knows it before its first decision.
    let other = fleet.worker("other").await;
    let until = Instant::now() + Duration::from_secs(10);
    while other.metrics().await.sum("riskfleet_models_active") < 1.0 {
        assert!(Instant::now() < until, "{}", other.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let large = decided(&ingest.url(""), "acme", 10_000).await;
    assert_eq!(large["decision"]["risk_score"], 80.0, "{large}");
    let replayed = fleet.operate_json(&["replay", large["event_id"].as_str().expect("an id")]);
    assert_eq!(replayed["same"], true, "{replayed}");
    let (status, off) = post("ann", "/v1/models/deactivate", json!({"reason": "enough"})).await;
    assert_eq!((status, &off["deactivated"]), (200, &json!("fraud@1")));
    until_model(&ingest.url(""), "acme", "baseline@1").await;
    assert_eq!(fleet.operate_json(&["audit", "verify"])["ok"], true);
}
