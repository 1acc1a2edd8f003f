//! `models` and `prompts` as people see them: tables, one version, and what is said when there is none.

use clap::Parser;
use riskfleet::cli::args::{Cli, Command, Models, Prompts};
use riskfleet::cli::{Exit, Screen, versions_read};
use riskfleet::domain::version::{Artifact, NewVersion, Ruling, VersionKey, VersionName};
use riskfleet::domain::{AuditBody, EventId, Stream};
use serde_json::Value;

use crate::office::{Office, after, tenant};

fn audit(who: &str) -> AuditBody {
    let chain = (tenant("acme"), Stream::Control);
    AuditBody { reason: Some("tried".into()), ..AuditBody::new(chain, after(7), who, "acted", ("model", "")) }
}

async fn register(office: &Office, artifact: Artifact, content: &str) -> VersionKey {
    let new = NewVersion {
        tenant: tenant("acme"),
        artifact,
        name: VersionName::parse("fraud").expect("legal"),
        content: content.into(),
        author: "ann".into(),
        reason: "new \u{1b}[31maccounts".into(),
        at: after(5),
    };
    office.registry.register_version(&new, &audit("ann")).await.expect("acts").expect("registers").key
}

async fn shell(office: &Office, line: &str) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut screen = Screen::plain(&mut out, &mut err);
    let (artifact, read) = match Cli::try_parse_from(line.split(' ')).expect("a command line").command {
        Command::Models(Models::Read(read)) => (Artifact::Model, read),
        Command::Prompts(Prompts::Read(read)) => (Artifact::Prompt, read),
        other => panic!("a command of this test: {other:?}"),
    };
    let exit = versions_read(artifact, &read, &*office.registry, &mut screen).await;
    (exit, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

#[tokio::test]
async fn versions_are_listed_with_their_state_and_the_active_one() {
    let office = Office::sqlite().await;
    let (exit, out, _) = shell(&office, "riskfleet models list --tenant acme").await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "no models of tenant acme\n"));
    let first = register(&office, Artifact::Model, "{}").await;
    register(&office, Artifact::Model, "{ }").await;
    office.registry.decide_version(&first, Ruling::Approve, &audit("ben")).await.expect("acts").expect("approves");
    office.registry.activate_version(&first, &audit("ann")).await.expect("acts").expect("activates");
    let (exit, out, _) = shell(&office, "riskfleet models list --tenant acme").await;
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((exit, lines[0][..3].to_vec()), (Exit::Done, vec!["VERSION", "STATE", "AUTHOR"]));
    assert_eq!((lines[1][..3].to_vec(), lines[1][4]), (vec!["fraud@1", "active", "ann"], "ben"));
    assert_eq!(lines[2][..3], ["fraud@2", "pending", "ann"]);
    assert!(!out.contains('\u{1b}'), "no escapes of others reach the terminal");
    let (_, out, _) = shell(&office, "riskfleet models list --tenant acme --state pending --json").await;
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["active"]), (Some(1), &Value::Bool(false)));
    let (_, out, _) = shell(&office, "riskfleet models list --tenant acme --limit 1").await;
    assert!(out.ends_with("the first 1; more with --limit\n"), "{out}");
}

#[tokio::test]
async fn one_version_is_shown_with_its_content_and_whether_it_holds() {
    let office = Office::sqlite().await;
    let text = "Say why.\nBriefly.";
    register(&office, Artifact::Prompt, text).await;
    let (exit, out, _) = shell(&office, "riskfleet prompts show fraud@1 --tenant acme").await;
    assert_eq!(exit, Exit::Done);
    assert!(out.starts_with("prompt fraud@1 of tenant acme is pending\n"), "{out}");
    assert!(out.ends_with("content (17 bytes)\n  Say why.\n  Briefly.\n"), "{out}");
    let (_, out, _) = shell(&office, "riskfleet prompts show fraud@1 --tenant acme --content").await;
    assert_eq!(out, text);
    let (_, out, _) = shell(&office, "riskfleet prompts show fraud@1 --tenant acme --json").await;
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&shown["intact"], &shown["content"]), (&Value::Bool(true), &Value::from(text)));
    for other in
        ["prompts show fraud@2 --tenant acme", "models show fraud@1 --tenant acme", "prompts show fraud@1 --tenant b"]
    {
        let (exit, _, err) = shell(&office, &format!("riskfleet {other}")).await;
        assert!(exit == Exit::Failed && err.contains("the tenant has none"), "{other}: {err}");
    }
    let changed = "DROP TRIGGER versions_never_change; DROP TRIGGER versions_are_decided_once; \
        UPDATE versions SET content = CAST('x' AS BLOB)";
    office.sql(changed, EventId(uuid::Uuid::nil())).await.expect("who rules the database can");
    let (exit, out, _) = shell(&office, "riskfleet prompts show fraud@1 --tenant acme").await;
    assert!(exit == Exit::Failed && out.contains("CHANGED"), "{out}");
}
