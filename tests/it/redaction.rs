//! Tests: secrets and payloads stay where they belong. Programs run with distinctive secrets in every
//! place that takes one, meet errors of every kind, and everything that they have written is searched.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use riskfleet::lifecycle::SystemClock;
use riskfleet::ports::Clock;
use serde_json::{Value, json};

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::process::{Process, Program};
use crate::harness::{amqp_url, postgres_url, redis_url};

const POSTGRES_PASSWORD: &str = "pgpass-7f3c9e15";
const REDIS_PASSWORD: &str = "redispass-b81d4402";
const AMQP_PASSWORD: &str = "amqppass-e6a90c37";
const URL_PASSWORD: &str = "urlpass-2d5f8817";
const JWT_SECRET: &str = "jwtsecret-93ab77c0-of-more-than-32-bytes";
const MASTER_KEY: &str = "c0ffee11c0ffee22c0ffee33c0ffee44c0ffee55c0ffee66c0ffee77c0ffee88";
const BAD_TOKEN: &str = "badtoken-51c2e9d4";
const SUBJECT: &str = "payload-subject-4410be";
const METADATA: &str = "payload-metadata-9d02fa";

/// Everything that was written, and by what.
#[derive(Default)]
struct Written(Vec<(String, String)>);

impl Written {
    fn add(&mut self, what: impl Into<String>, text: impl AsRef<[u8]>) {
        self.0.push((what.into(), String::from_utf8_lossy(text.as_ref()).into_owned()));
    }

    /// Runs a command to its end.
    fn run(&mut self, program: Program, args: &[&str], settings: &BTreeMap<String, String>) {
        let output = program.command(settings).args(args).output().expect("run a program");
        self.add(format!("{program:?} {args:?} stdout"), &output.stdout);
        self.add(format!("{program:?} {args:?} stderr"), &output.stderr);
    }

    /// Asks, and keeps the answer with its headers.
    async fn ask(&mut self, what: &str, request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.expect("an answer");
        let head = format!("{} {:?}", answer.status(), answer.headers());
        let body = answer.text().await.expect("a text");
        self.add(what, format!("{head}\n{body}"));
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    fn assert_none(&self, secrets: &[&str]) {
        for (what, text) in &self.0 {
            for secret in secrets {
                if let Some(at) = text.find(secret) {
                    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
                    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
                    panic!("{secret} was written by {what}:\n{}", &text[line..end]);
                }
            }
        }
    }
}

fn with_password(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{user}:{password}@{host}")
}

fn token(tenant: &str) -> String {
    let roles = ["ADMIN", "ANALYST", "APPROVER", "VIEWER", "OPERATOR"];
    let exp = SystemClock::new().now().timestamp() + 3600;
    let claims = json!({"sub": "ann", "tenant_id": tenant, "roles": roles, "exp": exp});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(JWT_SECRET.as_bytes())).expect("a token")
}

/// The settings of a fleet, every secret a distinctive one.
fn settings(fleet: &Fleet) -> BTreeMap<String, String> {
    let mut settings = fleet.settings();
    let mut set = |name: &str, value: String| settings.insert(format!("RISKFLEET_{name}"), value);
    set("DATABASE_URL", with_password(&postgres_url(), "postgres", POSTGRES_PASSWORD));
    set("REDIS_URL", with_password(&redis_url(), &fleet.ns, REDIS_PASSWORD));
    set("AUTH", "on".into());
    set("JWT_SECRET", JWT_SECRET.into());
    set("MASTER_KEY", MASTER_KEY.into());
    set("LOG", "debug".into());
    settings
}

/// A Redis user of the test's own, since the private server has no password.
async fn redis_user(name: &str, there: bool) {
    let client = redis::Client::open(redis_url()).expect("an address");
    let mut redis = client.get_multiplexed_async_connection().await.expect("connect to the Redis of the tests");
    let mut command = redis::cmd("ACL");
    match there {
        true => {
            command.arg("SETUSER").arg(name).arg("on").arg(format!(">{REDIS_PASSWORD}")).arg(&["~*", "&*", "+@all"])
        }
        false => command.arg("DELUSER").arg(name),
    };
    let _: redis::Value = command.query_async(&mut redis).await.expect("change the users of Redis");
}

/// Events with payloads that nobody but their tenant may see, good ones and refused ones.
async fn provoke(written: &mut Written, process: &Process, credential: &str) {
    let payload = json!({"kind": "risk", "version": "1", "subject": SUBJECT, "metadata": {"k": METADATA}});
    let with = |name: &str, value: Value| {
        let mut changed = payload.clone();
        changed[name] = value;
        changed.to_string()
    };
    let bodies = [
        with("risk_score", json!(METADATA)),
        with("amount", json!(SUBJECT)),
        with("currency", json!(METADATA)),
        with("occurred_at", json!(SUBJECT)),
        with("regulatory_flags", json!([METADATA])),
        with("event_type", json!(format!("{METADATA}\u{7}"))),
        with("tenant_id", json!("other")),
        with("metadata", json!(METADATA)),
        with("subject", json!(SUBJECT.repeat(100))),
        with("unknown", json!(METADATA)),
        format!("{{\"version\":\"1\",\"subject\":\"{SUBJECT}\",\"subject\":\"{METADATA}\"}}"),
        format!("{{\"version\":\"1\",\"subject\":\"{SUBJECT}"),
        format!("\"{METADATA}\""),
        METADATA.to_owned(),
    ];
    for (n, body) in bodies.into_iter().enumerate() {
        for (path, media) in [
            ("/v1/events", "application/json"),
            ("/v1/events", "application/x-ndjson"),
            ("/v1/events", "application/cloudevents+json"),
            ("/v1/events", "text/plain"),
        ] {
            let request = http().post(process.url(path)).header("x-idempotency-key", format!("bad-{n}"));
            let request = request.header("authorization", credential).header("content-type", media);
            written.ask(&format!("{path} {media} {body:.40}"), request.body(body.clone())).await;
        }
    }
    let good = http().post(process.url("/v1/events")).header("x-idempotency-key", "good").json(&payload);
    let answer = good.header("authorization", credential).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    let conflict = http().post(process.url("/v1/events")).header("x-idempotency-key", "good");
    let conflict = conflict.header("authorization", credential).header("content-type", "application/json");
    written.ask("a conflict", conflict.body(with("amount", json!(7)))).await;
}

/// What everybody may see, and what callers with a wrong credential are told.
async fn look(written: &mut Written, process: &Process, name: &str) {
    for path in ["/health", "/health/ready", "/metrics", "/openapi.json", "/nowhere", "/docs/"] {
        written.ask(&format!("{name} {path}"), http().get(process.url(path))).await;
    }
    for credential in [format!("Bearer {BAD_TOKEN}"), format!("Basic {BAD_TOKEN}"), BAD_TOKEN.into()] {
        for path in ["/v1/tenant/context", "/v1/dead-letters", "/v1/fleet"] {
            let request = http().get(process.url(path)).header("authorization", &credential);
            written.ask(&format!("{name} {path} with a bad credential"), request).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_programs_write_while_they_work_holds_no_secret_and_no_payload() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    redis_user(&fleet.ns, true).await;
    let settings = settings(&fleet);
    let mut written = Written::default();
    let credential = format!("Bearer {}", token("acme"));
    {
        let start = |name: &str, program, args: &[&str]| Process::start(name, program, args, &settings, &fleet.dir);
        let mut processes = [
            start("ingest", Program::Ingest, &["serve"]),
            start("worker", Program::Worker, &[]),
            start("console", Program::Console, &[]),
        ];
        for process in &mut processes {
            process.ready().await;
        }
        provoke(&mut written, &processes[0], &credential).await;
        for (poison, key) in [("panic", "p"), ("panic-twice", "t")] {
            let body = json!({"kind": "risk", "version": "1", "subject": SUBJECT,
                "metadata": {"poison": poison, "k": METADATA}});
            let request = http().post(processes[0].url("/v1/events")).header("authorization", &credential).json(&body);
            written_ok(request.header("x-idempotency-key", key)).await;
        }
        fleet.until("decided or failed", "SELECT count(*) FROM {ns}.decisions", 2, Duration::from_secs(60)).await;
        for (process, name) in processes.iter().zip(["ingest", "worker", "console"]) {
            look(&mut written, process, name).await;
        }
        let listed = http().get(processes[2].url("/v1/dead-letters")).header("authorization", &credential);
        written.ask("the dead letters", listed).await;
        written.run(Program::Operator, &["doctor"], &settings);
        written.run(Program::Operator, &["doctor", "--json"], &settings);
        written.run(Program::Operator, &["fleet", "status"], &settings);
        written.run(Program::Operator, &["events", "list"], &settings);
        written.run(Program::Operator, &["audit", "list", "--json"], &settings);
        for process in &processes {
            process.signal("TERM");
        }
        for process in &mut processes {
            process.exit(Duration::from_secs(40)).await;
        }
    }
    for name in ["ingest", "worker", "console"] {
        let log = std::fs::read(fleet.dir.join(format!("{name}.log"))).expect("read a log");
        assert!(log.len() > 200, "{name} has written something");
        written.add(format!("the log of {name}"), log);
    }
    redis_user(&fleet.ns, false).await;
    let (_, signature) = credential.rsplit_once('.').expect("a token");
    let secrets = [POSTGRES_PASSWORD, REDIS_PASSWORD, JWT_SECRET, MASTER_KEY, BAD_TOKEN, SUBJECT, METADATA, signature];
    assert!(written.0.len() > 60, "{}", written.0.len());
    written.assert_none(&secrets);
}

async fn written_ok(request: reqwest::RequestBuilder) {
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// Commands that meet servers which are not there, refuse, or are none.
fn commands(written: &mut Written, settings: &BTreeMap<String, String>) {
    for args in [
        &["migrate"][..],
        &["doctor"],
        &["doctor", "--json"],
        &["events", "list"],
        &["fleet", "status", "--json"],
        &["audit", "verify"],
        &["dlq", "list"],
        &["--help"],
        &["up", "--help"],
        &["nonsense"],
        &["events", "list", "--limit", "0"],
    ] {
        written.run(Program::Operator, args, settings);
    }
    for program in [Program::Ingest, Program::Worker, Program::Console] {
        written.run(program, &["--help"], settings);
        written.run(program, &["--nonsense"], settings);
    }
}

/// Settings that are wrong in themselves.
fn wrong_settings(written: &mut Written, base: &BTreeMap<String, String>, nowhere: &str) {
    for (name, value) in [
        ("DATABASE_URL", format!("mysql://ann:{POSTGRES_PASSWORD}@{nowhere}")),
        ("DATABASE_URL", format!("postgres://ann:{POSTGRES_PASSWORD}@ho st:x/y")),
        ("DATABASE_URL", format!("postgres://ann:{POSTGRES_PASSWORD}@host:99999999/y?sslmode={POSTGRES_PASSWORD}")),
        ("AMQP_URL", format!("amqp://ann:{AMQP_PASSWORD}@host:99999999/%zz")),
        ("REDIS_URL", format!("redis://ann:{REDIS_PASSWORD}@host:99999999/x")),
        ("JWT_SECRET", "badtoken-51c2e9d4".into()),
        ("MASTER_KEY", format!("{}zz", &MASTER_KEY[..62])),
        ("MASTER_KEY_FILE", "/nowhere/key".into()),
    ] {
        let mut settings = base.clone();
        settings.insert(format!("RISKFLEET_{name}"), value);
        for args in [&["doctor"][..], &["migrate"], &["events", "list"]] {
            written.run(Program::Operator, args, &settings);
        }
        written.run(Program::Worker, &[], &without_servers(&settings, name));
    }
}

/// A settings file that is broken around its secrets.
fn broken_files(written: &mut Written, dir: &Path) {
    for text in [
        format!("jwt_secret = \"{JWT_SECRET}\nnamespace = 1"),
        format!("jwt_secret = [\"{JWT_SECRET}\"]"),
        format!("database_url = {{ url = \"postgres://a:{POSTGRES_PASSWORD}@h/d\" }}"),
        format!("master_key = \"{MASTER_KEY}\" \"{MASTER_KEY}\""),
        format!("jwt_secret = {JWT_SECRET}"),
    ] {
        let file = dir.join("settings.toml");
        std::fs::write(&file, text).expect("write a file");
        written.run(Program::Operator, &["doctor", "--config", file.to_str().expect("a path")], &BTreeMap::new());
    }
}

/// What people put on the command line.
fn command_lines(written: &mut Written, base: &BTreeMap<String, String>, nowhere: &str) {
    let database = format!("postgres://ann:{POSTGRES_PASSWORD}@{nowhere}");
    let url = format!("http://ann:{URL_PASSWORD}@127.0.0.1:1");
    let id = "019aa5a0-0000-7000-8000-000000000000";
    let none = BTreeMap::from([("RISKFLEET_TOKEN".to_owned(), format!("{BAD_TOKEN}\u{1}"))]);
    written.run(Program::Operator, &["events", "list", "--database-url", &database], &BTreeMap::new());
    for settings in [base, &none] {
        written.run(Program::Operator, &["dlq", "discard", id, "--reason", "x", "--url", &url], settings);
        written.run(Program::Operator, &["repair", "--url", &format!("ftp://ann:{URL_PASSWORD}@h")], settings);
        written.run(Program::Operator, &["send", "/dev/null", "--url", &url], settings);
        written.run(Program::Operator, &["repair", "--url", &format!("http://ann:{URL_PASSWORD}@ho st")], settings);
    }
}

/// Starts a program that will not become ready, gives it a moment, and keeps its log.
async fn begun(written: &mut Written, program: Program, settings: &BTreeMap<String, String>, dir: &Path) {
    let args: &[&str] = if program == Program::Ingest { &["serve"] } else { &[] };
    let mut process = Process::start("begun", program, args, settings, dir);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    process.kill();
    written.add(format!("{program:?} that can't begin"), std::fs::read(dir.join("begun.log")).expect("read a log"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_programs_write_when_nothing_works_holds_no_secret() {
    let dir = std::env::temp_dir().join(format!("riskfleet-redaction-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&dir).expect("make a temporary folder");
    let mut written = Written::default();
    let nowhere = "127.0.0.1:1/x";
    let base: BTreeMap<String, String> = [
        ("RISKFLEET_DATABASE_URL", format!("postgres://ann:{POSTGRES_PASSWORD}@{nowhere}")),
        ("RISKFLEET_AMQP_URL", format!("amqp://ann:{AMQP_PASSWORD}@{nowhere}")),
        ("RISKFLEET_REDIS_URL", format!("redis://ann:{REDIS_PASSWORD}@127.0.0.1:1/0")),
        ("RISKFLEET_JWT_SECRET", JWT_SECRET.into()),
        ("RISKFLEET_MASTER_KEY", MASTER_KEY.into()),
        ("RISKFLEET_TOKEN", BAD_TOKEN.into()),
        ("RISKFLEET_LOG", "debug".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let with = |name: &str, value: String| {
        let mut changed = base.clone();
        changed.insert(format!("RISKFLEET_{name}"), value);
        changed
    };
    commands(&mut written, &base);
    for program in [Program::Ingest, Program::Worker, Program::Console] {
        begun(&mut written, program, &base, &dir).await;
    }
    // The store is there, the other servers refuse the password.
    let mut refused = with("DATABASE_URL", with_password(&postgres_url(), "postgres", POSTGRES_PASSWORD));
    refused.insert("RISKFLEET_AMQP_URL".into(), with_password(&amqp_url(), "guest", AMQP_PASSWORD));
    refused.insert("RISKFLEET_REDIS_URL".into(), with_password(&redis_url(), "ann", REDIS_PASSWORD));
    refused.insert("RISKFLEET_NAMESPACE".into(), "nobody_has_made_this".into());
    written.run(Program::Operator, &["doctor"], &refused);
    for program in [Program::Ingest, Program::Worker] {
        begun(&mut written, program, &refused, &dir).await;
    }
    wrong_settings(&mut written, &base, nowhere);
    broken_files(&mut written, &dir);
    command_lines(&mut written, &base, nowhere);
    std::fs::remove_dir_all(&dir).expect("remove a temporary folder");
    assert!(written.0.len() > 100, "{}", written.0.len());
    let key = &MASTER_KEY[..62];
    written.assert_none(&[POSTGRES_PASSWORD, REDIS_PASSWORD, AMQP_PASSWORD, URL_PASSWORD, JWT_SECRET, key, BAD_TOKEN]);
}

/// A worker that has only this wrong setting to complain of ends by itself.
fn without_servers(settings: &BTreeMap<String, String>, name: &str) -> BTreeMap<String, String> {
    let wrong = format!("RISKFLEET_{name}");
    settings.iter().filter(|(key, _)| **key == wrong).map(|(key, value)| (key.clone(), value.clone())).collect()
}
