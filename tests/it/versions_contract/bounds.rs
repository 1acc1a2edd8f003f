//! What holds against whoever goes past the program, and how many there may be.

use riskfleet::domain::EventId;
use riskfleet::domain::version::{ACTIVE_MAX, Artifact, Refused, Ruling, VERSIONS_MAX};
use riskfleet::pipeline::{Scorer, Unfit};

use super::clauses::{CARD, activate, approved, model, new, register, rule};
use crate::office::Office;

/// Runs a statement behind the store's back, with the dialect's column of the tenant, its present
/// moment, and its SHA-256 of `x`.
async fn sql(o: &Office, statement: &str) -> Result<(), sqlx::Error> {
    let (tenant, now, hash) = match o.names_tenants() {
        true => ("tenant_id", "now()", "sha256('x')"),
        false => ("tenant", "1", "zeroblob(32)"),
    };
    let text = statement.replace("{tenant}", tenant).replace("{now}", now).replace("{hash}", hash);
    o.sql(&text, EventId(uuid::Uuid::nil())).await
}

const INSERT: &str = "INSERT INTO versions ({tenant}, kind, name, version, sha256, content, author, reason, created_at";

pub(super) async fn the_database_itself_keeps_what_is_promised(o: &Office) {
    let pending = register(o, &new("acme", Artifact::Model, "fraud", CARD)).await.expect("registers").key;
    let verdict = "UPDATE versions SET state = 1, decided_at = {now}, decision_reason = 'x', decided_by = ";
    let activate_it = "INSERT INTO activations ({tenant}, kind, name, version, sha256, generation) \
        SELECT {tenant}, kind, name, version, sha256, 77 FROM versions";
    let tried = [
        ("its author approves it", format!("{verdict}'ann'")),
        ("nobody approves it", "UPDATE versions SET state = 1".into()),
        ("it is made active unapproved", activate_it.to_owned()),
        ("its content changes", "UPDATE versions SET content = 'x'".into()),
        ("its author changes", "UPDATE versions SET author = 'ben'".into()),
        ("it goes", "DELETE FROM versions".into()),
        (
            "a number is left out",
            format!("{INSERT}) VALUES ('acme', 0, 'fraud', 3, {{hash}}, 'x', 'eve', 'x', {{now}})"),
        ),
        (
            "a number is given again",
            format!("{INSERT}) VALUES ('acme', 0, 'fraud', 1, {{hash}}, 'x', 'eve', 'x', {{now}})"),
        ),
        (
            "one is registered approved",
            format!(
                "{INSERT}, state, decided_by, decided_at) \
                 VALUES ('acme', 0, 'fraud', 2, {{hash}}, 'x', 'eve', 'x', {{now}}, 1, 'mallory', {{now}})"
            ),
        ),
    ];
    for (what, statement) in &tried {
        assert!(sql(o, statement).await.is_err(), "{what}");
    }
    assert!(o.registry.version(&pending).await.expect("reads").is_some_and(|version| version.verdict.is_none()));
    rule(o, &pending, "ben", Ruling::Reject).await.expect("rejects");
    assert!(sql(o, &format!("{verdict}'eve'")).await.is_err(), "it is decided once");
    assert!(sql(o, activate_it).await.is_err(), "a rejected one is made active");
    assert_eq!(o.control("acme").await.len(), 2);
}

pub(super) async fn a_content_that_was_changed_is_not_used(o: &Office) {
    let fraud = approved(o, "acme", "fraud").await;
    let active = activate(o, &fraud).await.expect("activates").active.expect("is active");
    let changed = match o.names_tenants() {
        true => {
            "ALTER TABLE versions DISABLE TRIGGER USER; ALTER TABLE versions DROP CONSTRAINT versions_sha256; \
             UPDATE versions SET content = convert_to(replace(convert_from(content, 'UTF8'), '60', '00'), 'UTF8'); \
             ALTER TABLE versions ENABLE TRIGGER USER"
        }
        false => {
            "DROP TRIGGER versions_never_change; DROP TRIGGER versions_are_decided_once; \
             UPDATE versions SET content = CAST(replace(CAST(content AS TEXT), '60', '00') AS BLOB)"
        }
    };
    sql(o, changed).await.expect("who rules the database can");
    let stored = o.registry.version_content(&fraud).await.expect("reads").expect("is there");
    assert_ne!(stored.content, CARD.as_bytes());
    assert_eq!(Scorer::load(&stored.version, &stored.content, Some(&active.1)), Err(Unfit::Changed));
    assert_eq!(Scorer::load(&stored.version, &stored.content, None), Err(Unfit::Changed));
}

/// A table of the numbers from 1 to `most`, as `n`.
fn numbers(o: &Office, most: u32) -> String {
    match o.names_tenants() {
        true => format!("generate_series(1, {most}) AS numbers (n)"),
        false => format!(
            "(WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < {most}) SELECT n FROM up)"
        ),
    }
}

pub(super) async fn a_tenant_has_no_more_versions_than_it_may(o: &Office) {
    let many = format!(
        "{INSERT}) SELECT 'acme', 0, 'bulk-' || n, 1, {{hash}}, 'x', 'eve', 'x', {{now}} FROM {}",
        numbers(o, VERSIONS_MAX - 1)
    );
    sql(o, &many.replace("'x', 'eve'", if o.names_tenants() { "'x', 'eve'" } else { "x'78', 'eve'" }))
        .await
        .expect("fills");
    let card = new("acme", Artifact::Model, "fraud", CARD);
    assert_eq!(register(o, &card).await.expect("the last one").key, model("acme", "fraud@1"));
    assert_eq!(register(o, &card).await, Err(Refused::Full(VERSIONS_MAX)));
    let prompt = new("acme", Artifact::Prompt, "explain", "x");
    assert!(register(o, &prompt).await.is_ok(), "prompts have their own bound");
    let other = new("globex", Artifact::Model, "fraud", CARD);
    assert!(register(o, &other).await.is_ok(), "and so has everybody else");
    assert_eq!(o.control("acme").await.len(), 2);
}

pub(super) async fn a_fleet_has_no_more_active_models_than_it_may(o: &Office) {
    let blob = if o.names_tenants() { "'x'" } else { "x'78'" };
    let most = ACTIVE_MAX - 1;
    let fill = [
        format!(
            "{INSERT}) SELECT 'bulk-' || n, 0, 'bulk', 1, {{hash}}, {blob}, 'eve', 'x', {{now}} FROM {}",
            numbers(o, most)
        ),
        "UPDATE versions SET state = 1, decided_by = 'mallory', decided_at = {now}".into(),
        format!(
            "INSERT INTO activations ({{tenant}}, kind, name, version, sha256, generation) \
             SELECT 'bulk-' || n, 0, 'bulk', 1, {{hash}}, n FROM {}",
            numbers(o, most)
        ),
    ];
    for statement in &fill {
        sql(o, statement).await.expect("fills");
    }
    if o.names_tenants() {
        sql(o, &format!("UPDATE activation_clock SET generation = {ACTIVE_MAX}")).await.expect("sets the clock");
    }
    let (first, second) = (approved(o, "acme", "fraud").await, approved(o, "globex", "fraud").await);
    activate(o, &first).await.expect("the last one");
    assert_eq!(activate(o, &second).await, Err(Refused::Full(ACTIVE_MAX)));
    activate(o, &first).await.expect("who has one may change it");
    assert_eq!(o.control("globex").await.len(), 2);
}
