//! Tests: `approvals list|show|approve|reject|claim|release|comment`, over a store with escalated
//! events and the real control API before it.

use crate::api::{LIMITS, open, state};
use crate::office::{Office, PLAIN, after};
use clap::Parser;
use riskfleet::api::control_router;
use riskfleet::cli::args::{Approvals, Cli, Command};
use riskfleet::cli::{Exit, Screen, approvals_change, approvals_read};
use riskfleet::domain::ApprovalRules;
use serde_json::{Value, json};

/// An office with its control API on a port.
struct Fleet {
    office: Office,
    url: String,
}

impl Fleet {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let office = Office::sqlite().await;
        let mut state = state(office.store.clone(), open(), LIMITS, Vec::new());
        state.registry = office.registry.clone();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, control_router(state)).await });
        Self { office, url }
    }

    /// Runs `riskfleet approvals WORDS`, with the API's address where the command takes one.
    async fn run(&self, words: &[&str]) -> (Exit, String, String) {
        let mut words = [&["riskfleet", "approvals"], words].concat();
        if !["list", "show"].contains(&words[2]) {
            words.extend(["--url", &self.url]);
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen::plain(&mut out, &mut err);
        let exit = match Cli::try_parse_from(&words).expect("a command line").command {
            Command::Approvals(Approvals::Read(read)) => {
                let keyring = crate::vaults::lone_keyring();
                let reading = riskfleet::cli::Reading { store: &*self.office.store, keyring: &keyring };
                let stores = (reading, &*self.office.registry as &dyn riskfleet::ports::Approvals);
                approvals_read(&read, stores, &ApprovalRules::default(), &mut screen).await
            }
            Command::Approvals(Approvals::Change(change)) => approvals_change(&change, &mut screen).await,
            other => panic!("a command of this test: {other:?}"),
        };
        (exit, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }

    /// The same, for `--json`: standard output is one document.
    async fn run_json(&self, words: &[&str]) -> (Exit, Value) {
        let (exit, out, err) = self.run(&[words, &["--json"]].concat()).await;
        (exit, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{words:?}: {e}: {out}{err}")))
    }
}

#[tokio::test]
async fn requests_are_listed_newest_first_in_a_table_and_as_json() {
    let fleet = Fleet::new().await;
    let (exit, out, _) = fleet.run(&["list", "--tenant", "acme"]).await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "no open approval requests of tenant acme\n"));
    let (first, second) = (fleet.office.escalated("acme").await, fleet.office.escalated("globex").await);
    fleet.run(&["claim", &first.to_string()]).await;
    let (exit, out, _) = fleet.run(&["list"]).await;
    let want = format!(
        "\
EVENT                                 OPENED                    DUE                       TENANT  STATE    LEVEL  BY
{second}  2026-11-21T10:00:00.000Z  2026-11-22T10:00:00.000Z  globex  open         1  -
{first}  2026-11-21T10:00:00.000Z  2026-11-22T10:00:00.000Z  acme    claimed      1  local
"
    );
    assert_eq!((exit, out.as_str()), (Exit::Done, want.as_str()));
    let (_, shown) = fleet.run_json(&["list", "--state", "claimed"]).await;
    assert_eq!((shown.as_array().map(Vec::len), &shown[0]["event_id"]), (Some(1), &json!(first.to_string())));
    let (_, out, _) = fleet.run(&["list", "--limit", "1"]).await;
    assert!(out.ends_with("the newest 1; more with --limit\n"), "{out}");
    let (_, shown) = fleet.run_json(&["list", "--state", "overdue"]).await;
    assert_eq!(shown, json!([]));
}

#[tokio::test]
async fn a_request_is_commented_approved_and_shown_with_everything_about_it() {
    let fleet = Fleet::new().await;
    let event = fleet.office.escalated("acme").await.to_string();
    let (exit, _, err) = fleet.run(&["comment", &event, "--text", "they called\x1b[2J"]).await;
    assert!(exit == Exit::Failed && err.contains("/text must not hold control characters"), "{err}");
    let (exit, out, _) = fleet.run(&["comment", &event, "--text", "they called"]).await;
    assert_eq!((exit, out), (Exit::Done, format!("event {event}: commented\n")));
    let (exit, shown) = fleet.run_json(&["approve", &event, "--reason", "seen the papers"]).await;
    assert_eq!((exit, &shown["verdict"]), (Exit::Done, &json!("APPROVED")));
    let (exit, out, _) = fleet.run(&["show", &event]).await;
    assert_eq!(exit, Exit::Done);
    assert!(out.starts_with(&format!("the request about event {event} of tenant acme is decided\n")), "{out}");
    assert!(out.contains("why it was escalated (risk score 85.0)\n") && out.contains("[SCORE_THRESHOLD]"), "{out}");
    assert!(out.contains("decided APPROVED by local: seen the papers\n"), "{out}");
    assert!(out.contains("local at 2026-11-21T10:00:00.000Z says\n  they called\n"), "{out}");
    assert!(!out.contains("next: "), "nothing is left to do: {out}");
    let (_, shown) = fleet.run_json(&["show", &event]).await;
    assert_eq!((&shown["approval"]["state"], &shown["event"]["event_type"]), (&json!("decided"), &json!("high_risk")));
}

#[tokio::test]
async fn what_may_not_be_fails_with_where_to_look() {
    let fleet = Fleet::new().await;
    let (event, plain) = (fleet.office.escalated("acme").await, fleet.office.decided("acme", PLAIN, after(0)).await);
    let (event, plain) = (event.to_string(), plain.to_string());
    let (exit, out, _) = fleet.run(&["claim", &event]).await;
    assert_eq!((exit, out), (Exit::Done, format!("event {event}: claimed until 2026-11-21T10:15:00.000Z\n")));
    let (exit, out, _) = fleet.run(&["release", &event]).await;
    assert_eq!((exit, out), (Exit::Done, format!("event {event}: released\n")));
    assert_eq!(fleet.run(&["reject", &event, "--reason", "no papers"]).await.0, Exit::Done);
    let (exit, _, err) = fleet.run(&["approve", &event, "--reason", "late"]).await;
    assert_eq!(exit, Exit::Failed);
    assert!(
        err.contains("was decided REJECTED by local at") && err.contains("riskfleet approvals show EVENT"),
        "{err}"
    );
    let (exit, _, err) = fleet.run(&["show", &plain]).await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("there is none\n  next: see `riskfleet explain EVENT`"), "{err}");
}
