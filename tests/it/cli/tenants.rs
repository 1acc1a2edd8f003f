//! Tests: `tenants list|show|retention|hold|release|sweep`, over a store with old days and the real
//! control API before it, and what reading commands say of what is gone.

use crate::api::archive::Archive;
use crate::api::open;
use clap::Parser;
use riskfleet::api::control_router;
use riskfleet::cli::args::{Audit, Cli, Command, Tenants};
use riskfleet::cli::{AuditSources, Exit, Screen, audit_verify, run, tenants_change, tenants_read};
use serde_json::Value;

/// An archive with its control API on a port.
struct Fleet {
    archive: Archive,
    url: String,
}

impl Fleet {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let archive = Archive::new().await;
        let router = control_router(archive.state(open()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { archive, url }
    }

    /// Runs `riskfleet LINE`, with the API's address where the command takes one.
    async fn run(&self, line: &str) -> (Exit, String, String) {
        let line = if line.starts_with("tenants") && !line.contains(" list") && !line.contains(" show") {
            format!("{line} --url {}", self.url)
        } else {
            line.to_owned()
        };
        let words = ["riskfleet"].into_iter().chain(line.split(' '));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen::plain(&mut out, &mut err);
        let exit = match Cli::try_parse_from(words).expect("a command line").command {
            Command::Tenants(Tenants::Read(read)) => tenants_read(&read, &*self.archive.store, &mut screen).await,
            Command::Tenants(Tenants::Change(change)) => tenants_change(&change, &mut screen).await,
            Command::Audit(Audit::Verify(verify)) => {
                let sources = AuditSources { store: &*self.archive.store, checkpoints: None, public_key: None };
                audit_verify(&verify, &sources, &mut screen).await
            }
            Command::Read(read) => {
                let keyring = crate::vaults::lone_keyring();
                let reading = riskfleet::cli::Reading { store: &*self.archive.store, keyring: &keyring };
                run(&read, (reading, &*self.archive.store), &mut screen).await
            }
            other => panic!("a command of this test: {other:?}"),
        };
        (exit, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }
}

#[tokio::test]
async fn tenants_are_listed_shown_and_changed() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.run("tenants list").await.1, "no tenants\n");
    fleet.archive.decided("acme", 3).await;
    let (exit, out, err) = fleet.run("tenants retention globex --days 90 --reason contract").await;
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Done, "tenant globex: kept 90 days\n", ""));
    let (_, out, _) = fleet.run("tenants hold globex --reason case-7").await;
    assert_eq!(out, "tenant globex is under legal hold\n");
    let (_, out, _) = fleet.run("tenants hold globex --reason case-8").await;
    assert_eq!(out, "tenant globex is under legal hold, as before\n");
    let (exit, out, _) = fleet.run("tenants list").await;
    let want = "\
TENANT  RETENTION    HOLD    SINCE                     BY
acme    the fleet's  -       -                         -
globex  90 days      case-7  2026-11-21T10:00:00.000Z  local
";
    assert_eq!((exit, out.as_str()), (Exit::Done, want));
    let (_, out, _) = fleet.run("tenants show globex").await;
    let want = "tenant globex\n  kept        90 days\n  legal hold  since 2026-11-21T10:00:00.000Z, by local: case-7\n";
    assert_eq!(out, want);
    assert_eq!(fleet.run("tenants release globex --reason over").await.1, "tenant globex is under no legal hold\n");
    assert_eq!(fleet.run("tenants retention globex --fleet --reason x").await.1, "tenant globex: kept the fleet's\n");
    let (exit, _, err) = fleet.run("tenants show nobody").await;
    assert!(exit == Exit::Failed && err.contains("next: see `riskfleet tenants list`"), "{err}");
    let (exit, _, err) = fleet.run("tenants hold _platform --reason x").await;
    assert!(exit == Exit::Failed && err.contains("no such tenant"), "{err}");
}

#[tokio::test]
async fn a_sweep_is_shown_and_what_went_is_said_to_have_expired() {
    let fleet = Fleet::new().await;
    let old = fleet.archive.decided("acme", 60).await;
    for days_ago in (45..58).rev() {
        fleet.archive.decided("acme", days_ago).await;
    }
    fleet.archive.decided("acme", 3).await;
    fleet.archive.advance().await;
    let (exit, out, err) = fleet.run("tenants sweep --dry-run").await;
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));
    assert!(
        out.starts_with("the fleet keeps events 30 days\nDAY         EVENTS  FATE   WHY\n2026-09-22       1  goes"),
        "{out}"
    );
    assert!(out.contains("2026-11-18       -  stays  kept until 2026-12-19\n"), "{out}");
    assert!(out.ends_with("14 days would go, 1 stay\n"), "{out}");
    // More than one request drops.
    let (exit, out, _) = fleet.run("tenants sweep --reason disk").await;
    assert_eq!(exit, Exit::Done);
    assert!(out.ends_with("14 days are gone, 1 stay\n"), "{out}");
    let (exit, out, _) = fleet.run("audit verify --json").await;
    let report: Value = serde_json::from_str(&out).expect("a document");
    assert_eq!((exit, &report["ok"], &report["records"]), (Exit::Done, &true.into(), &29.into()), "{out}");
    for line in [format!("explain {old}"), format!("events get {old}"), format!("replay {old}")] {
        let (exit, _, err) = fleet.run(&line).await;
        assert_eq!(exit, Exit::Failed, "{line}");
        assert!(err.contains("it expired; every event of 2026-09-22 is gone since 2026-11-21"), "{line}: {err}");
    }
    let (_, out, _) = fleet.run(&format!("explain {old} --json")).await;
    let shown: Value = serde_json::from_str(&out).expect("a document");
    assert_eq!(shown["expired_at"], "2026-11-21T10:00:00.000Z");
}
