//! Tests: `costs show|budgets|budget`, over a store in which something was spent and the real control API
//! before it; and what `explain` says of an event's cost.

use crate::api::{LIMITS, open, state};
use crate::office::{Office, after};
use clap::Parser;
use riskfleet::api::control_router;
use riskfleet::cli::args::{Cli, Command, Costs};
use riskfleet::cli::{Exit, Reading, Screen, costs_budget, costs_read, run};
use riskfleet::domain::cost::{Charge, Micros};
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

    /// Runs `riskfleet LINE`, with the API's address where the command takes one.
    async fn run(&self, line: &str) -> (Exit, String, String) {
        let url = if line.starts_with("costs budget ") { format!(" --url {}", self.url) } else { String::new() };
        let line = format!("riskfleet {line}{url}");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen::plain(&mut out, &mut err);
        let exit = match Cli::try_parse_from(line.split(' ')).expect("a command line").command {
            Command::Costs(Costs::Read(read)) => costs_read(&read, &*self.office.registry, after(0), &mut screen).await,
            Command::Costs(Costs::Budget(change)) => costs_budget(&change, &mut screen).await,
            Command::Read(read) => {
                let keyring = crate::vaults::lone_keyring();
                let reading = Reading { store: &*self.office.store, keyring: &keyring };
                run(&read, (reading, &*self.office.registry), &mut screen).await
            }
            other => panic!("a command of this test: {other:?}"),
        };
        (exit, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }

    async fn json(&self, line: &str) -> Value {
        let (exit, out, err) = self.run(&format!("{line} --json")).await;
        assert_eq!(exit, Exit::Done, "{line}: {err}");
        serde_json::from_str(&out).expect("a document")
    }
}

#[tokio::test]
async fn costs_are_shown_by_day_model_and_tenant() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.run("costs show").await.1, "nothing was decided from 2026-11-01 to 2026-11-21\n");
    let charge = |tokens, millionths| Charge { tokens, cost: Micros::new(millionths) };
    fleet.office.charged("acme", after(0), "fraud@3", charge(1_200, 2_500_000)).await;
    fleet.office.charged("acme", after(0), "baseline@1", charge(0, 0)).await;
    fleet.office.charged("globex", after(0), "baseline@1", charge(0, 7)).await;
    let (exit, out, err) = fleet.run("costs show --by tenant").await;
    let want = "\
TENANT  DECISIONS  TOKENS  COST
acme            2    1200       2.5
globex          1       0  0.000007
2026-11-01 to 2026-11-21: 3 decisions, cost 2.500007
";
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Done, want, ""));
    let (_, out, _) = fleet.run("costs show --by model --limit 1").await;
    assert!(
        out.contains("acme    fraud@3          1    1200   2.5\n") && out.ends_with("1 of 3 rows; more with --limit\n"),
        "{out}"
    );
    let shown = fleet.json("costs show --tenant globex --from 2026-11-21").await;
    let row = json!({"tenant_id": "globex", "day": "2026-11-21", "decisions": 1, "tokens": 0, "cost_micros": 7, "cost": "0.000007"});
    assert_eq!((&shown["items"], &shown["total"]["cost"]), (&json!([row]), &json!("0.000007")));
    let (exit, _, err) = fleet.run("costs show --from 2026-12-01").await;
    assert!(exit == Exit::Misused && err.contains("--from must be no later than --to"), "{err}");
}

#[tokio::test]
async fn a_budget_is_set_listed_and_taken_away() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.run("costs budgets").await.1, "no budgets\n");
    fleet.office.charged("acme", after(0), "fraud@3", Charge { tokens: 0, cost: Micros::new(21_000_000) }).await;
    let (exit, out, err) = fleet.run("costs budget acme --monthly 25.00 --warn 90 --stop --reason contract").await;
    let said = "tenant acme: 25 a month; once that is used up, people decide\n";
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Done, said, ""));
    let (_, out, _) = fleet.run("costs budget acme --monthly 25 --warn 90 --stop --reason again").await;
    assert_eq!(out, said.replace('\n', ", as before\n"));
    let (_, out, _) = fleet.run("costs budgets").await;
    let want = "\
TENANT  MONTHLY  SPENT  STATE  WARN AT  STOPS  SINCE                     BY
acme         25     21  ok     90 %     yes    2026-11-21T10:00:00.000Z  local
spent: in 2026-11
";
    assert_eq!(out, want);
    fleet.run("costs budget acme --monthly 21 --reason tight").await;
    let listed = fleet.json("costs budgets").await;
    assert_eq!((&listed[0]["state"], &listed[0]["stop"]), (&json!("exhausted"), &json!(false)));
    let (_, out, _) = fleet.run("costs budget acme --none --reason over").await;
    assert_eq!(out, "tenant acme has no budget\n");
    let (exit, _, err) = fleet.run("costs budget _platform --none --reason over").await;
    assert!(exit == Exit::Failed && err.contains("no such tenant"), "{err}");
    for wrong in
        ["acme --reason x", "acme --monthly 0.1234567 --reason x", "acme --none --stop --reason x", "acme --none"]
    {
        let line = format!("riskfleet costs budget {wrong}");
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn explain_and_get_tell_what_an_event_cost() {
    let fleet = Fleet::new().await;
    let charge = Charge { tokens: 1_200, cost: Micros::new(12_400) };
    let event = fleet.office.charged("acme", after(0), "fraud@3", charge).await;
    let (_, out, _) = fleet.run(&format!("explain {event}")).await;
    assert!(out.contains("cost  0.0124 by model baseline@1, 1200 tokens"), "{out}");
    let shown = fleet.json(&format!("events get {event}")).await;
    assert_eq!(shown["cost"], json!({"tokens": 1_200, "cost_micros": 12_400, "cost": "0.0124"}));
    let free = fleet.office.charged("acme", after(0), "fraud@3", Charge::default()).await;
    assert!(!fleet.run(&format!("explain {free}")).await.1.contains("cost"));
}
