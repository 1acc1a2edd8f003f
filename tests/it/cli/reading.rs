//! Tests: `events`, `explain`, `replay`, `fleet status`.

use super::shelf::{FLAGGED, Fleet, PLAIN, RISKY, Shelf, WORKER, no_versions, shell, shell_json};
use riskfleet::cli::Exit;
use riskfleet::domain::{EventId, FailureClass, Outcome, time};
use riskfleet::ports::store::{Approval, Disposition, Ledger};
use serde_json::{Value, json};

const UNKNOWN: &str = "019aa5a0-0000-7000-8000-000000000000";

#[tokio::test]
async fn events_are_listed_newest_first_and_narrowed() {
    let mut fleet = Fleet::new().await;
    let first = fleet.accept(PLAIN).await;
    fleet.decide(&first, true).await;
    let second = fleet.accept(FLAGGED).await;
    fleet.decide(&second, true).await;
    let third = fleet.accept(PLAIN).await;
    let (exit, out, _) = shell(&fleet.store, "riskfleet events list").await;
    let want = format!(
        "\
EVENT                                 ACCEPTED                  TENANT  KIND        TYPE      STATUS
{}  2026-11-21T10:00:03.000Z  acme    risk        standard  received
{}  2026-11-21T10:00:02.000Z  globex  compliance  standard  escalated
{}  2026-11-21T10:00:01.000Z  acme    risk        standard  approved
",
        third.id, second.id, first.id
    );
    assert_eq!((exit, out.as_str()), (Exit::Done, want.as_str()));
    let (_, listed) = shell_json(&fleet.store, "riskfleet events list --tenant globex --status escalated --json").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(listed[0]["event_id"], json!(second.id));
    assert_eq!(listed[0]["event"]["regulatory_flags"], json!(["AML"]));
    let (_, out, _) = shell(&fleet.store, "riskfleet events list --limit 2").await;
    assert!(out.ends_with("the newest 2; more with --limit\n"), "{out}");
    let (exit, out, _) = shell(&fleet.store, "riskfleet events list --tenant nobody").await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "no events of tenant nobody\n"));
}

#[tokio::test]
async fn an_event_is_shown_with_its_decision_and_approval() {
    let mut fleet = Fleet::new().await;
    let event = fleet.accept(RISKY).await;
    let (_, waiting) = shell_json(&fleet.store, &format!("riskfleet events get {} --json", event.id)).await;
    assert_eq!((&waiting["status"], &waiting["decision"]), (&json!("received"), &Value::Null));
    fleet.decide(&event, true).await;
    let (exit, shown) = shell_json(&fleet.store, &format!("riskfleet events get {} --json", event.id)).await;
    assert_eq!(exit, Exit::Done);
    assert_eq!(shown["status"], "escalated");
    assert_eq!(shown["event"]["event_id"], json!(event.id));
    assert_eq!(shown["event"]["tenant_id"], "acme");
    assert_eq!(shown["decision"]["outcome"], "REQUIRE_APPROVAL");
    assert_eq!(shown["decision"]["trail"][5]["micros"], 6);
    assert_eq!(shown["approval"]["verdict"], Value::Null);
    let (_, out, _) = shell(&fleet.store, &format!("riskfleet events get {}", event.id)).await;
    assert!(out.starts_with("status: escalated\nevent:\n  {\n"), "{out}");
}

#[tokio::test]
async fn an_event_that_was_never_accepted_is_said_to_be_none() {
    let shelf = Shelf::default();
    for command in ["events get", "explain", "replay"] {
        let (exit, out, err) = shell(&shelf, &format!("riskfleet {command} {UNKNOWN}")).await;
        assert_eq!((exit, out.as_str()), (Exit::Failed, ""), "{command}");
        assert!(err.starts_with(&format!("failed to find event {UNKNOWN}: it is not stored\n")), "{err}");
        assert!(err.contains("never accepted under this id"), "{err}");
    }
    let (exit, shown) = shell_json(&shelf, &format!("riskfleet explain {UNKNOWN} --json")).await;
    assert_eq!((exit, &shown["stored"]), (Exit::Failed, &json!(false)));
}

#[tokio::test]
async fn explain_tells_the_whole_way() {
    let mut fleet = Fleet::new().await;
    let event = fleet.accept(FLAGGED).await;
    let line = format!("riskfleet explain {}", event.id);
    let (exit, out, _) = shell(&fleet.store, &line).await;
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("published  it stands in the outbox, for 0 s: not known to have reached the broker"), "{out}");
    assert!(out.contains("\nit waits: no worker reports") && out.contains("decided  not yet"), "{out}");
    fleet.decide(&event, true).await;
    let (exit, out, _) = shell(&fleet.store, &line).await;
    let sha = out.split("SHA-256 ").nth(1).map(|rest| rest[..64].to_owned()).expect("a hash");
    let want = format!(
        "\
event {id} of tenant globex is escalated
it waits: for a person, who was asked 0 s ago, at 2026-11-21T10:00:01.007Z
  2026-11-21T10:00:01.000Z  accepted  stored for tenant globex in partition p000
                              · correlation id request-1
                            published  the broker has confirmed it
  2026-11-21T10:00:01.007Z  decided  REQUIRE_APPROVAL by worker {WORKER} at epoch 1, policy baseline@1
                              · retrieval: no subject (1 µs)
                              · policy_validation: PASS (2 µs)
                              · risk_scoring: 30 (3 µs)
                              · guardrails: OK (4 µs)
                              · decision: REQUIRE_APPROVAL (5 µs)
                              · evaluation: quality 0.9667 (6 µs)
                            reasons  why
                              · a compliance event with a regulatory flag is decided by a person [REGULATORY_FLAG of baseline/regulatory_flags] (regulatory_flags = [\"AML\"])
  2026-11-21T10:00:01.007Z  committed  decision and audit record in one transaction, 7 ms after the accept
                            outcome published  the broker has confirmed it
  2026-11-21T10:00:01.007Z  approval opened  a person is asked
  …                         approval  waits for a person since 2026-11-21T10:00:01.007Z
                            replay  reproduced: deciding again gives the stored bytes (SHA-256 {sha})
",
        id = event.id
    );
    assert_eq!((exit, out.as_str()), (Exit::Done, want.as_str()));
    let (_, shown) = shell_json(&fleet.store, &format!("{line} --json")).await;
    assert_eq!(shown["replay"]["result"], "same");
    assert_eq!(shown["steps"][2]["step"], "decided");
}

#[tokio::test]
async fn explain_tells_of_verdicts_dead_letters_and_outcomes_not_yet_published() {
    let mut fleet = Fleet::new().await;
    let event = fleet.accept(RISKY).await;
    fleet.decide(&event, false).await;
    let mut shelf = fleet.shelf(&[event.id]).await;
    let line = format!("riskfleet explain {}", event.id);
    let (_, out, _) = shell(&shelf, &line).await;
    assert!(out.contains("outcome published  it stands in the outbox: not known to have reached downstream"), "{out}");
    assert!(out.contains("published  it reached a worker; its outbox row still stands"), "{out}");
    let at = time::from_millis(super::shelf::T0);
    let record = shelf.events.get_mut(&event.id).expect("there");
    record.approval = Some(Approval {
        verdict: Some(Outcome::Rejected),
        decided_at: Some(at),
        decided_by: Some("ada".into()),
        reason: Some("no papers\x1b[2J".into()),
        ..Approval::opened(at)
    });
    let (_, out, _) = shell(&shelf, &line).await;
    assert!(out.contains("is rejected\n") && out.contains("approval  REJECTED by ada"), "{out}");
    assert!(out.contains("· no papers\u{fffd}[2J"), "a control character must not reach the terminal: {out}");
    let record = shelf.events.get_mut(&event.id).expect("there");
    (record.approval, record.unpublished) = (None, Vec::new());
    record.end.as_mut().expect("ended").disposition =
        Disposition::Dead { class: FailureClass::InfraError, error: "no model".into(), attempts: 5 };
    let (_, out, _) = shell(&shelf, &line).await;
    assert!(out.contains("is failed\n") && out.contains("after 5 attempts: INFRA_ERROR"), "{out}");
    assert!(out.contains("· no model") && !out.contains("replay"), "{out}");
    let (_, shown) = shell_json(&shelf, &format!("riskfleet events get {} --json", event.id)).await;
    assert_eq!(shown["dead_letter"]["category"], "INFRA_ERROR");
}

#[tokio::test]
async fn a_changed_decision_is_not_reproduced_and_the_field_is_named() {
    let mut fleet = Fleet::new().await;
    let event = fleet.accept(RISKY).await;
    fleet.decide(&event, true).await;
    let mut shelf = fleet.shelf(&[event.id]).await;
    let (exit, out, _) = shell(&shelf, &format!("riskfleet replay {}", event.id)).await;
    assert_eq!(exit, Exit::Done);
    assert!(out.starts_with("reproduced: deciding again gives the stored bytes"), "{out}");
    forge(&mut shelf, event.id, r#""risk_score":85.0"#, r#""risk_score":84.0"#);
    let (exit, out, _) = shell(&shelf, &format!("riskfleet replay {}", event.id)).await;
    assert_eq!(exit, Exit::Failed);
    assert_eq!(out, "NOT reproduced: 1 fields differ\nFIELD        STORED  REPLAYED\n/risk_score  84.0    85.0\n");
    let (exit, shown) = shell_json(&shelf, &format!("riskfleet explain {} --json", event.id)).await;
    assert_eq!((exit, &shown["replay"]["differences"][0]["pointer"]), (Exit::Failed, &json!("/risk_score")));
    forge(&mut shelf, event.id, r#""risk_score":84.0"#, r#" "risk_score":85.0"#);
    let (exit, shown) = shell_json(&shelf, &format!("riskfleet replay {} --json", event.id)).await;
    assert_eq!((exit, &shown["same"], &shown["differences"]), (Exit::Failed, &json!(false), &json!([])));
    forge(&mut shelf, event.id, r#""name":"baseline""#, r#""name":"other""#);
    let (exit, shown) = shell_json(&shelf, &format!("riskfleet replay {} --json", event.id)).await;
    assert_eq!((exit, &shown["result"]), (Exit::Failed, &json!("unknown_policy")));
    forge(&mut shelf, event.id, "{", "{{");
    let (exit, _, err) = shell(&shelf, &format!("riskfleet replay {}", event.id)).await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.starts_with(&format!("failed to read the stored decision of event {}", event.id)), "{err}");
}

fn forge(shelf: &mut Shelf, event: EventId, from: &str, to: &str) {
    let end = shelf.events.get_mut(&event).and_then(|r| r.end.as_mut()).expect("ended");
    let Disposition::Decided { decision, .. } = &mut end.disposition else { panic!("decided") };
    let text = String::from_utf8(decision.to_vec()).expect("text");
    assert!(text.contains(from), "{text}");
    *decision = text.replacen(from, to, 1).into();
}

#[tokio::test]
async fn the_fleet_is_shown_with_its_ledger() {
    let mut fleet = Fleet::new().await;
    let event = fleet.accept(PLAIN).await;
    fleet.decide(&event, true).await;
    fleet.accept(FLAGGED).await;
    let mut shelf = fleet.shelf(&[]).await;
    let (exit, out, _) = shell(&shelf, "riskfleet fleet status").await;
    assert_eq!(exit, Exit::Done);
    assert!(out.starts_with("no worker has reported within the last minute: accepted events wait"), "{out}");
    let status = shelf.fleet.as_mut().expect("there");
    status.workers.push(riskfleet::ports::store::WorkerRow {
        id: WORKER,
        version: "0.1.0".into(),
        partitions: status.partitions.iter().map(|p| p.partition).collect(),
        draining: true,
        seen_at: time::from_millis(super::shelf::T0 + 2_000),
        load: None,
    });
    status.partitions[3].owner = None;
    let (_, out, _) = shell(&shelf, "riskfleet fleet status").await;
    let want = format!(
        "\
WORKER                                VERSION  STATE     PARTITIONS  DECIDED/S  P99  CPU  SEEN
{WORKER}  0.1.0    draining  4 (0-3)             -    -    -  3 s ago

PARTITION  EPOCH  BACKLOG  OWNER
p000           1        1  {WORKER}
p001           1        0  {WORKER}
p002           1        0  {WORKER}
p003           1        0  nobody

ledger: accepted 2 = decided 1 + dead 0 + pending 1 (2): balanced
"
    );
    assert_eq!(out, want);
    let (_, shown) = shell_json(&shelf, "riskfleet fleet status --json").await;
    assert_eq!(shown["ledger"], json!({ "accepted": 2, "decided": 1, "dead": 0, "pending": 1 }));
    assert_eq!(shown["workers"][0]["draining"], true);
    shelf.fleet.as_mut().expect("there").ledger = Ledger { accepted: 3, decided: 1, dead: 0, pending: 1 };
    let (_, out, _) = shell(&shelf, "riskfleet fleet status").await;
    assert!(out.contains("(2): NOT balanced: 1 accepted events are nowhere"), "{out}");
}

#[tokio::test]
async fn a_store_that_is_away_or_not_made_is_said_with_what_to_do() {
    let shelf = Shelf::default();
    let (exit, out, err) = shell(&shelf, "riskfleet events list").await;
    assert_eq!((exit, out.as_str()), (Exit::Failed, ""));
    assert!(err.starts_with("failed to reach the store: connection refused\n  next: check that the database"), "{err}");
    let (exit, _, err) = shell(&shelf, "riskfleet fleet status").await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("next: run `riskfleet migrate`"), "{err}");
}

/// A reader that goes away when it has seen the ledger twice.
struct Closing(Vec<u8>);

impl std::io::Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        match String::from_utf8_lossy(&self.0).matches("ledger: accepted").count() {
            0 | 1 => Ok(bytes.len()),
            _ => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn watching_goes_on_until_nobody_reads() {
    use clap::Parser;
    use riskfleet::cli::args::{Cli, Command};
    let shelf = Fleet::new().await.shelf(&[]).await;
    let cli = Cli::try_parse_from("riskfleet fleet status --watch".split(' ')).expect("legal");
    let Command::Read(command) = cli.command else { panic!("a reading command") };
    let (mut out, mut err) = (Closing(Vec::new()), Vec::new());
    let keyring = crate::vaults::lone_keyring();
    let reading = riskfleet::cli::Reading { store: &shelf, keyring: &keyring };
    let exit = riskfleet::cli::run(
        &command,
        (reading, &no_versions()),
        &mut riskfleet::cli::Screen::plain(&mut out, &mut err),
    )
    .await;
    assert_eq!((exit, err.len()), (Exit::Done, 0));
}
