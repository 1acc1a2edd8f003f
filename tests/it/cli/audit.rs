//! Tests: `audit verify` and `audit list`.

use super::shelf::{FLAGGED, Fleet, PLAIN, RISKY, Shelf, T0, audit_body, shell, shell_json};
use riskfleet::cli::Exit;
use riskfleet::domain::{ChainHead, EventBody, EventId, Stream, parse, time};
use riskfleet::ports::store::AuditLine;
use serde_json::json;

/// Chains of `a`, `b` (both streams) and `c`, `length` records each.
fn chains(length: u64) -> Shelf {
    let mut shelf = Shelf::default();
    for (tenant, stream) in
        [("a", Stream::Workflow), ("b", Stream::Workflow), ("b", Stream::Control), ("c", Stream::Workflow)]
    {
        let mut head = ChainHead::EMPTY;
        let text = format!(r#"{{"kind":"risk","version":"1","tenant_id":"{tenant}"}}"#);
        let event: EventBody = parse::event(text.as_bytes(), parse::Given::default()).expect("valid").body;
        for n in 0..length {
            let id = EventId::mint(T0 + n, [0; 10]);
            let decision = n.to_le_bytes();
            let mut body = audit_body(&event, id, &decision, time::from_millis(T0));
            body.stream = stream;
            let record = head.append(body);
            let event = Some(event.canonical().into());
            shelf.audit.push(AuditLine { record, event, decision: Some(decision.to_vec().into()) });
        }
    }
    shelf
}

#[tokio::test]
async fn a_whole_audit_is_whole_over_many_pages() {
    let shelf = chains(3_777);
    let (exit, out, _) = shell(&shelf, "riskfleet audit verify").await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "audit is whole: 15108 records in 4 chains\n"));
    let (exit, shown) = shell_json(&shelf, "riskfleet audit verify --json").await;
    assert_eq!(exit, Exit::Done);
    let signatures = json!({ "checked": 0, "unchecked": 0 });
    assert_eq!(
        shown,
        json!({ "ok": true, "records": 15108, "chains": 4, "signatures": signatures, "bad_total": 0, "bad": [] })
    );
    let (exit, out, _) = shell(&Shelf::default(), "riskfleet audit verify").await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "audit is whole: 0 records in 0 chains\n"));
}

#[tokio::test]
async fn every_manner_of_change_is_found_where_it_is_and_nowhere_else() {
    type Change = fn(&mut Vec<AuditLine>, usize);
    // What is done, and what is said of which record: this one, or the one before.
    let changes: [(Change, &str, i64); 6] = [
        (|lines, at| lines[at].record.body = lines[at].record.body.replace("APPROVED", "REJECTED"), "changed", 0),
        (|lines, at| lines[at].decision = Some(b"other".to_vec().into()), "the stored decision does not match", 0),
        (|lines, at| lines[at].event = None, "the event that the audit speaks of is not stored", 0),
        (|lines, at| lines[at].record.prev_hash = [9; 32], "changed", 0),
        (
            |lines, at| {
                let body = lines[at].record.body.replace("\"seq\":", "\"seq\": ");
                lines[at].record.body = body;
            },
            "changed",
            0,
        ),
        (|lines, at| drop(lines.remove(at - 1)), "removed: the record is missing", 1),
    ];
    let whole = chains(3_000).audit;
    // Record 4,999 is the last of the first page, 5,000 the first of the second.
    for at in [1, 2_499, 2_500, 4_999, 5_000, 9_999] {
        for (change, why, before) in &changes {
            let mut shelf = Shelf { audit: whole.clone(), ..Shelf::default() };
            let place = shelf.audit[at].record.clone();
            change(&mut shelf.audit, at);
            let (exit, shown) = shell_json(&shelf, "riskfleet audit verify --json").await;
            let bad = &shown["bad"];
            assert_eq!((exit, &shown["ok"], &shown["bad_total"]), (Exit::Failed, &json!(false), &json!(1)), "{bad}");
            assert_eq!(bad[0]["tenant"], json!(place.tenant));
            assert_eq!((&bad[0]["stream"], &bad[0]["seq"]), (&json!(place.stream), &json!(place.seq - before)));
            assert!(bad[0]["why"].as_str().is_some_and(|w| w.contains(why)), "{why}: {bad}");
        }
    }
}

#[tokio::test]
async fn a_chain_without_its_beginning_is_not_whole() {
    let mut shelf = chains(10);
    shelf.audit.drain(..3);
    let (exit, out, _) = shell(&shelf, "riskfleet audit verify").await;
    assert_eq!(exit, Exit::Failed);
    assert_eq!(
        out,
        "\
audit is NOT whole: 1 bad of 37 records in 4 chains
TENANT  STREAM    SEQ  WHY
a       workflow    1  removed: 1 to 3 are missing
"
    );
}

#[tokio::test]
async fn bad_records_are_all_counted_and_a_bounded_number_named() {
    let mut shelf = chains(600);
    shelf.audit.iter_mut().for_each(|line| line.decision = None);
    let (_, shown) = shell_json(&shelf, "riskfleet audit verify --json").await;
    assert_eq!((shown["bad_total"].as_u64(), shown["bad"].as_array().map(Vec::len)), (Some(2_400), Some(1_000)));
    let (_, out, _) = shell(&shelf, "riskfleet audit verify").await;
    assert_eq!(out.lines().count(), 53, "{out}");
    assert!(out.ends_with("the first 50; the first 1000 with --json\n"), "{out}");
}

#[tokio::test]
async fn a_fleets_own_audit_verifies_and_is_listed() {
    let mut fleet = Fleet::new().await;
    for text in [PLAIN, RISKY, FLAGGED] {
        let event = fleet.accept(text).await;
        fleet.decide(&event, true).await;
    }
    let (exit, out, _) = shell(&fleet.store, "riskfleet audit verify").await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "audit is whole: 3 records in 2 chains\n"));
    let (_, out, _) = shell(&fleet.store, "riskfleet audit list").await;
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(out.starts_with("TENANT  STREAM    SEQ  AT "), "{out}");
    let (_, listed) = shell_json(&fleet.store, "riskfleet audit list --tenant acme --from 2 --json").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!((&listed[0]["tenant_id"], &listed[0]["seq"]), (&json!("acme"), &json!(2)));
    let (_, out, _) = shell(&fleet.store, "riskfleet audit list --tenant nobody").await;
    assert_eq!(out, "no audit records\n");
}

#[tokio::test]
async fn a_tenants_records_are_those_of_both_its_chains_only() {
    let shelf = chains(5);
    let (_, listed) = shell_json(&shelf, "riskfleet audit list --tenant b --json").await;
    let places: Vec<_> = listed.as_array().expect("an array").iter().map(|r| (&r["stream"], &r["seq"])).collect();
    assert_eq!(places.len(), 10);
    assert_eq!((places[0], places[9]), ((&json!("workflow"), &json!(1)), (&json!("control"), &json!(5))));
    let (_, out, _) = shell(&shelf, "riskfleet audit list --limit 7").await;
    assert!(out.contains("the first 7; more with --limit"), "{out}");
}
