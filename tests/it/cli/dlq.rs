//! Tests: `dlq list|show|replay|discard` and `repair`, over a store with dead letters and the real
//! control API before it.

use crate::api::graveyard::{Graveyard, UNREADABLE};
use crate::api::{LIMITS, open, state};
use clap::Parser;
use riskfleet::api::control_router;
use riskfleet::cli::args::{Cli, Command, Dlq};
use riskfleet::cli::{Exit, Screen, dlq_change, dlq_read, repair};
use riskfleet::domain::EventId;
use serde_json::{Value, json};

const UNKNOWN: &str = "019aa5a0-0000-7000-8000-000000000000";

/// A graveyard with its control API on a port.
struct Fleet {
    graveyard: Graveyard,
    url: String,
}

impl Fleet {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let graveyard = Graveyard::new().await;
        let router = control_router(state(graveyard.store.clone(), open(), LIMITS, Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { graveyard, url }
    }

    /// Runs `riskfleet LINE`, with the API's address where the command takes one.
    async fn run(&self, line: &str) -> (Exit, String, String) {
        let mut words: Vec<&str> = ["riskfleet"].into_iter().chain(line.split(' ')).collect();
        if !line.contains(" list") && !line.contains(" show") && !line.contains("--url") {
            words.extend(["--url", &self.url]);
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen::plain(&mut out, &mut err);
        let exit = match Cli::try_parse_from(words).expect("a command line").command {
            Command::Dlq(Dlq::Read(read)) => {
                let keyring = crate::vaults::lone_keyring();
                let reading = riskfleet::cli::Reading { store: &*self.graveyard.store, keyring: &keyring };
                dlq_read(&read, reading, &mut screen).await
            }
            Command::Dlq(Dlq::Change(change)) => dlq_change(&change, &mut screen).await,
            Command::Repair(args) => repair(&args, &mut screen).await,
            other => panic!("a command of this test: {other:?}"),
        };
        (exit, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }

    /// The same, for `--json`: standard output is one document.
    async fn run_json(&self, line: &str) -> (Exit, Value) {
        let (exit, out, err) = self.run(&format!("{line} --json")).await;
        (exit, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}: {out}{err}")))
    }

    /// The dead letters that are left.
    async fn left(&self) -> Vec<String> {
        let (_, listed) = self.run_json("dlq list").await;
        listed.as_array().expect("an array").iter().map(|d| d["event_id"].as_str().expect("an id").into()).collect()
    }
}

#[tokio::test]
async fn dead_letters_are_listed_newest_first_and_narrowed() {
    let fleet = Fleet::new().await;
    let (_, out, _) = fleet.run("dlq list").await;
    assert_eq!(out, "no dead letters\n");
    let first = fleet.graveyard.dead("acme").await;
    let second = fleet.graveyard.dead("globex").await;
    let (exit, out, err) = fleet.run("dlq list").await;
    let want = format!(
        "\
EVENT                                 DIED                      TENANT  CATEGORY          TRIES  ERROR
{second}  2026-11-21T10:00:00.500Z  globex  UNEXPECTED_ERROR      3  no model
{first}  2026-11-21T10:00:00.500Z  acme    UNEXPECTED_ERROR      3  no model
"
    );
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Done, want.as_str(), ""));
    let (_, listed) = fleet.run_json("dlq list --tenant acme").await;
    let want = json!([{"event_id": first.to_string(), "tenant_id": "acme", "category": "UNEXPECTED_ERROR",
        "error": "no model", "attempts": 3, "at": "2026-11-21T10:00:00.500Z"}]);
    assert_eq!(listed, want);
    let (_, out, _) = fleet.run("dlq list --limit 1").await;
    assert!(out.ends_with("the newest 1; more with --limit\n"), "{out}");
    let (_, out, _) = fleet.run("dlq list --tenant nobody").await;
    assert_eq!(out, "no dead letters of tenant nobody\n");
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_its_payload_and_every_death() {
    let fleet = Fleet::new().await;
    let id = fleet.graveyard.accept("acme", UNREADABLE).await;
    let (exit, _, err) = fleet.run(&format!("dlq show {id}")).await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("it has never been one\n  next: see `riskfleet explain EVENT`"), "{err}");
    fleet.graveyard.bury(id, "unreadable\x1b[2J").await;
    let (exit, out, _) = fleet.run(&format!("dlq show {id}")).await;
    let want = format!(
        "\
event {id} of tenant acme is dead
  2026-11-21T10:00:00.500Z  died after 3 tries: UNEXPECTED_ERROR: unreadable\u{fffd}[2J
payload
  no event at all
next: riskfleet dlq replay {id}, or dlq discard {id} --reason WHY
"
    );
    assert_eq!((exit, out.as_str()), (Exit::Done, want.as_str()));
    let (exit, _, err) = fleet.run(&format!("dlq replay {id} --reason mended")).await;
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));
    fleet.graveyard.bury(id, "again").await;
    let (_, out, _) = fleet.run(&format!("dlq show {id}")).await;
    assert!(out.contains("UNEXPECTED_ERROR: again\nhistory\n"), "{out}");
    assert!(out.contains("replayed by local: mended\n"), "{out}");
    let (_, shown) = fleet.run_json(&format!("dlq show {id}")).await;
    assert_eq!((&shown["state"], &shown["raw"]), (&json!("dead"), &json!(UNREADABLE)));
    assert_eq!((&shown["error"], &shown["history"][0]["act"]), (&json!("again"), &json!("replayed")));
    let (exit, _, err) = fleet.run(&format!("dlq show {UNKNOWN}")).await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.starts_with(&format!("failed to find event {UNKNOWN}: it is not stored\n")), "{err}");
}

#[tokio::test]
async fn several_are_replayed_and_each_that_failed_is_named() {
    let fleet = Fleet::new().await;
    let (dead, alive) = (fleet.graveyard.dead("acme").await, fleet.graveyard.accept("acme", UNREADABLE).await);
    let (exit, out, err) = fleet.run(&format!("dlq replay {dead} {alive} {UNKNOWN}")).await;
    let want = format!(
        "\
EVENT                                 ANSWER    WHY
{dead}  replayed  -
{alive}  failed    409 Conflict: the event's status is received
{UNKNOWN}  failed    404 Not Found: no such event
replayed 1 of 3 dead letters, 2 failed
"
    );
    assert_eq!((exit, out.as_str()), (Exit::Failed, want.as_str()));
    assert_eq!(err, "next: `riskfleet dlq show EVENT` says where each that failed stands\n");
    assert!(fleet.left().await.is_empty());
    let (exit, shown) = fleet.run_json(&format!("dlq replay {alive}")).await;
    let why = "409 Conflict: the event's status is received";
    let want = json!({"asked": 1, "replayed": 0, "failed": 1,
        "items": [{"event_id": alive.to_string(), "result": "failed", "why": why}]});
    assert_eq!((exit, shown), (Exit::Failed, want));
    assert_eq!(fleet.graveyard.control_chain("acme").await.len(), 1);
}

#[tokio::test]
async fn all_are_replayed_or_all_of_one_tenant() {
    let fleet = Fleet::new().await;
    let mut others = Vec::new();
    for n in 0..30 {
        let id = fleet.graveyard.dead(if n % 10 == 0 { "globex" } else { "acme" }).await;
        if n % 10 == 0 {
            others.insert(0, id.to_string());
        }
    }
    let (exit, out, err) = fleet.run("dlq replay --all --tenant acme").await;
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Done, "replayed 27 of 27 dead letters, 0 failed\n", ""));
    assert_eq!(fleet.left().await, others);
    let (exit, shown) = fleet.run_json("dlq replay --all").await;
    assert_eq!((exit, &shown["asked"], &shown["replayed"]), (Exit::Done, &json!(3), &json!(3)));
    let (exit, out, _) = fleet.run("dlq replay --all").await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "no dead letters\n"));
    let (_, shown) = fleet.run_json("dlq replay --all").await;
    assert_eq!(shown, json!({"asked": 0, "replayed": 0, "failed": 0, "items": []}));
}

#[tokio::test]
async fn a_discarded_one_is_gone_from_the_list_with_its_reason_in_the_audit() {
    let fleet = Fleet::new().await;
    let (first, second) = (fleet.graveyard.dead("acme").await, fleet.graveyard.dead("acme").await);
    let (exit, out, _) = fleet.run(&format!("dlq discard {first} --reason test-event")).await;
    assert_eq!(exit, Exit::Done);
    assert!(out.ends_with("discarded 1 of 1 dead letters, 0 failed\n"), "{out}");
    assert_eq!(fleet.left().await, [second.to_string()]);
    let chain = fleet.graveyard.control_chain("acme").await;
    assert_eq!((chain.len(), chain[0].reason.as_deref()), (1, Some("test-event")));
    assert_eq!(chain[0].event_id, Some(first));
    let (exit, shown) = fleet.run_json(&format!("dlq discard {first} --reason again")).await;
    assert_eq!((exit, &shown["discarded"], &shown["failed"]), (Exit::Failed, &json!(0), &json!(1)));
    let ledger = fleet.graveyard.store.ledger().await.expect("read");
    assert_eq!((ledger.dead, ledger.pending), (2, 0), "a discarded event stays dead in the ledger");
}

#[tokio::test]
async fn a_repair_is_asked_for() {
    let fleet = Fleet::new().await;
    let (exit, out, _) = fleet.run("repair --reason broker-lost").await;
    assert_eq!(exit, Exit::Done);
    assert!(out.starts_with("repair 1 is asked for: "), "{out}");
    let (exit, shown) = fleet.run_json("repair").await;
    assert_eq!((exit, shown), (Exit::Done, json!({"repair": 2})));
}

#[tokio::test]
async fn what_stops_the_whole_is_said_with_what_to_do() {
    let fleet = Fleet::new().await;
    let events: Vec<EventId> = vec![fleet.graveyard.dead("acme").await, fleet.graveyard.dead("acme").await];
    let ids = format!("{} {}", events[0], events[1]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let (exit, out, err) = fleet.run(&format!("dlq replay {ids} --url {nobody}")).await;
    assert_eq!((exit, out.as_str()), (Exit::Failed, ""));
    assert!(err.contains("Connection refused") && err.contains("next: check --url"), "{err}");
    let (exit, shown) = fleet.run_json(&format!("dlq replay {ids} --url {nobody}")).await;
    assert_eq!((exit, &shown["replayed"]), (Exit::Failed, &json!(0)));
    assert!(shown["error"].as_str().is_some_and(|e| e.starts_with("failed to ask http://")), "{shown}");
    let (exit, _, err) = fleet.run("repair --url ftp://x").await;
    assert_eq!(exit, Exit::Misused);
    assert!(err.starts_with("--url must begin with http://"), "{err}");
    // A server that is no control API.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let other = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new()).await });
    for line in [format!("dlq replay {ids}"), "dlq replay --all".into(), "repair".into()] {
        let (exit, _, err) = fleet.run(&format!("{line} --url {other}")).await;
        assert_eq!(exit, Exit::Failed);
        assert!(err.contains("next: --url must name a control API"), "{line}: {err}");
    }
    assert_eq!(fleet.left().await.len(), 2);
}
