//! Tests: every deed against a chain, and the one finding that it gives.

use super::super::audit::AuditRecord;
use super::super::{AuditBody, time};
use super::*;

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("legal")
}

fn append(head: &mut ChainHead, id: &ChainId, actor: &str) -> AuditRecord {
    let at = time::from_millis(1_700_000_000_000);
    let resource = ("event", format!("e{}", head.seq));
    head.append(AuditBody::new(id.clone(), at, actor, "decision_made", resource))
}

fn chain(name: &str, stream: Stream, length: i64) -> Vec<AuditRecord> {
    let (id, mut head) = ((tenant(name), stream), ChainHead::EMPTY);
    (0..length).map(|_| append(&mut head, &id, "worker:1")).collect()
}

fn two_chains() -> Vec<AuditRecord> {
    [chain("acme", Stream::Workflow, 9), chain("globex", Stream::Control, 9)].concat()
}

fn verdict(chains: &mut Chains, records: &[AuditRecord]) -> Vec<Finding> {
    for r in records {
        let place = (r.tenant.as_str(), r.stream.as_str(), r.seq);
        let fault = judge(place, &r.prev_hash, &r.hash, &r.body);
        let judged = Judged { seq: r.seq, prev: r.prev_hash, hash: r.hash, fault };
        chains.take(&(r.tenant.clone(), r.stream), judged);
    }
    std::mem::take(chains).finish(None).findings.kept
}

/// Findings as `tenant/seq kind`.
fn found(records: &[AuditRecord]) -> Vec<String> {
    short(&verdict(&mut Chains::default(), records))
}

fn short(findings: &[Finding]) -> Vec<String> {
    let kind = |f: &Finding| f.why.split(':').next().unwrap_or_default().to_owned();
    findings.iter().map(|f| format!("{}/{} {}", f.tenant, f.seq, kind(f))).collect()
}

/// A record with another actor that hangs where the record at `at` does, with all its hashes right.
fn forged(records: &[AuditRecord], at: usize) -> AuditRecord {
    let r = &records[at];
    let mut head = ChainHead { seq: r.seq - 1, hash: r.prev_hash };
    append(&mut head, &(r.tenant.clone(), r.stream), "mallory")
}

fn noted(record: &AuditRecord) -> NotedHead {
    NotedHead { tenant_id: record.tenant.clone(), stream: record.stream, seq: record.seq, hash: record.hash }
}

#[test]
fn whole_chains_have_nothing() {
    assert_eq!(found(&two_chains()), Vec::<String>::new());
    assert_eq!(found(&[]), Vec::<String>::new());
}

#[test]
fn one_deed_is_one_finding() {
    type Deed = fn(&mut Vec<AuditRecord>);
    let deeds: [(&str, Deed, &[&str]); 17] = [
        ("a changed body", |r| r[3].body = r[3].body.replace("worker:1", "worker:2"), &["acme/4 changed"]),
        ("a changed hash", |r| r[3].hash[0] ^= 1, &["acme/4 changed"]),
        ("a changed prev_hash", |r| r[3].prev_hash[0] ^= 1, &["acme/4 changed"]),
        ("a forged record in another's place", |r| r[3] = forged(r, 3), &["acme/4 changed"]),
        ("one removed", |r| drop(r.remove(3)), &["acme/4 removed"]),
        ("the first removed", |r| drop(r.remove(0)), &["acme/1 removed"]),
        ("three removed", |r| drop(r.drain(3..6)), &["acme/4 removed"]),
        ("two removed apart", |r| drop((r.remove(6), r.remove(3))), &["acme/4 removed", "acme/7 removed"]),
        ("two neighbours swapped", |r| r.swap(3, 4), &["acme/4 reordered"]),
        ("two others swapped", |r| r.swap(2, 6), &["acme/3 reordered", "acme/7 reordered"]),
        (
            "one moved back",
            |r| {
                let one = r.remove(2);
                r.insert(6, one);
            },
            &["acme/3 reordered"],
        ),
        (
            "one moved forth",
            |r| {
                let one = r.remove(6);
                r.insert(2, one);
            },
            &["acme/7 reordered"],
        ),
        ("a copy squeezed in", |r| r.insert(4, r[3].clone()), &["acme/4 inserted"]),
        ("a forged one squeezed in before", |r| r.insert(3, forged(r, 3)), &["acme/4 inserted"]),
        ("a forged one squeezed in behind", |r| r.insert(4, forged(r, 3)), &["acme/4 inserted"]),
        (
            "one given to another tenant",
            |r| r[3].tenant = tenant("globex"),
            &["globex/4 relabelled to another tenant or stream"],
        ),
        (
            "one given to another stream",
            |r| r[3].stream = Stream::Control,
            &["acme/4 relabelled to another tenant or stream"],
        ),
    ];
    for (what, deed, want) in deeds {
        let mut records = two_chains();
        deed(&mut records);
        assert_eq!(found(&records), want, "{what}");
    }
}

#[test]
fn numbers_exchanged_in_the_rows_are_a_reordering() {
    let mut records = two_chains();
    (records[3].seq, records[4].seq) = (5, 4);
    records.swap(3, 4);
    assert_eq!(found(&records), ["acme/4 reordered", "acme/5 reordered"]);
}

#[test]
fn a_foreign_record_squeezed_in_is_named_and_its_neighbours_are_not() {
    let mut records = two_chains();
    let mut foreign = records[12].clone();
    (foreign.tenant, foreign.stream) = (tenant("acme"), Stream::Workflow);
    records.insert(4, foreign.clone());
    assert_eq!(found(&records), ["acme/4 relabelled to another tenant or stream"]);
    // The same with a body that says so, but hangs on nothing.
    let mut loose = forged(&records, 3);
    loose.prev_hash = [9; 32];
    let mut records = two_chains();
    loose.hash = link(&loose.prev_hash, &loose.body);
    records.insert(3, loose);
    assert_eq!(found(&records), ["acme/4 inserted"]);
}

#[test]
fn a_chain_written_anew_is_found_by_what_was_signed_and_only_so() {
    let original = two_chains();
    let mut anew = original.clone();
    anew[3] = forged(&original, 3);
    for n in 4..9 {
        let mut head = ChainHead { seq: anew[n - 1].seq, hash: anew[n - 1].hash };
        anew[n] = append(&mut head, &(tenant("acme"), Stream::Workflow), "worker:1");
    }
    assert_eq!(found(&anew), Vec::<String>::new());
    let mut claims = Claims::default();
    claims.add(&noted(&original[2]), Claimant::Checkpoint(1));
    claims.add(&noted(&original[6]), Claimant::Checkpoint(2));
    // The enemy has signed the new chain too: the older claim still holds.
    claims.add(&noted(&anew[8]), Claimant::Checkpoint(3));
    let findings = verdict(&mut Chains::new(claims, Vec::new()), &anew);
    assert_eq!(short(&findings), ["acme/7 changed"]);
    assert_eq!(findings[0].why, "changed: checkpoint 2 has another hash, the chain was written anew");
}

#[test]
fn two_claims_of_one_record_that_disagree_are_both_held() {
    let records = two_chains();
    for foreign_first in [true, false] {
        let mut claims = Claims::default();
        let mut foreign = noted(&records[6]);
        foreign.hash = [1; 32];
        let mut both = [(foreign, Claimant::Outside(1)), (noted(&records[6]), Claimant::Checkpoint(1))];
        if !foreign_first {
            both.reverse();
        }
        both.iter().for_each(|(head, by)| claims.add(head, *by));
        assert_eq!(short(&verdict(&mut Chains::new(claims, Vec::new()), &records)), ["acme/7 changed"]);
    }
}

#[test]
fn a_tail_that_was_cut_off_is_found_against_what_was_signed() {
    let records = two_chains();
    let claims = || {
        let mut claims = Claims::default();
        claims.add(&noted(&records[4]), Claimant::Checkpoint(1));
        claims.add(&noted(&records[8]), Claimant::Outside(2));
        claims.add(&noted(&records[17]), Claimant::Manifest);
        claims
    };
    let cut = [&records[..7], &records[9..]].concat();
    let findings = verdict(&mut Chains::new(claims(), Vec::new()), &cut);
    assert_eq!(short(&findings), ["acme/8 truncated tail"]);
    assert_eq!(findings[0].why, "truncated tail: the chain ends at 7, checkpoint 2 of the anchor file says 9");
    let gone = verdict(&mut Chains::new(claims(), Vec::new()), &records[..9]);
    assert_eq!(short(&gone), ["globex/1 truncated tail"]);
}

#[test]
fn a_shortened_chain_begins_at_its_anchor_and_nowhere_else() {
    let records = two_chains();
    let short_chain = &records[4..];
    assert_eq!(found(short_chain), ["acme/1 removed"]);
    let anchored = |at: usize| Chains::new(Claims::default(), vec![noted(&records[at])]);
    assert_eq!(short(&verdict(&mut anchored(3), short_chain)), Vec::<String>::new());
    assert_eq!(short(&verdict(&mut anchored(2), short_chain)), ["acme/4 removed"]);
    assert_eq!(short(&verdict(&mut anchored(5), short_chain)), ["acme/1 removed"]);
    let mut other = noted(&records[3]);
    other.hash = [1; 32];
    assert_eq!(short(&verdict(&mut Chains::new(Claims::default(), vec![other]), short_chain)), ["acme/5 changed"]);
}

#[test]
fn an_unreadable_line_is_named_once() {
    let records = two_chains();
    let mut chains = Chains::default();
    for (n, r) in records.iter().enumerate() {
        if n == 4 {
            chains.unreadable(5, "no JSON");
            continue;
        }
        let judged = Judged { seq: r.seq, prev: r.prev_hash, hash: r.hash, fault: None };
        chains.take(&(r.tenant.clone(), r.stream), judged);
    }
    let findings = chains.finish(None).findings.kept;
    assert_eq!(short(&findings), ["acme/5 changed"]);
}

#[test]
fn findings_are_bounded_and_counted() {
    let mut findings = Findings::default();
    for n in 0..3_000 {
        findings.add(Finding::of_checkpoint(n, "changed"));
        findings.add(Finding::of_checkpoint(n.min(10), "changed"));
    }
    assert_eq!(findings.kept.len(), FINDINGS_MAX);
    assert_eq!(findings.total, 3_000);
    let mut chains = Chains::default();
    let id = (tenant("acme"), Stream::Workflow);
    for n in 1..=10_000 {
        chains.take(&id, Judged { seq: 2 * n, prev: [0; 32], hash: [0; 32], fault: None });
    }
    let verdict = chains.finish(None);
    assert_eq!((verdict.findings.total, verdict.findings.kept.len()), (10_000, FINDINGS_MAX));
}

#[test]
fn the_place_is_read_exactly() {
    let body = |text: &str| judge(("a.b", "workflow", 7), &[0; 32], &link(&[0; 32], text), text);
    for whole in [
        r#"{"tenant_id":"a.b","stream":"workflow","seq":7,"x":1}"#,
        r#"{ "tenant_id":"a.b", "stream":"workflow", "seq":7 }"#,
    ] {
        assert_eq!(body(whole), None, "{whole}");
    }
    for other in [
        r#"{"tenant_id":"a.b","stream":"workflow","seq":77,"x":1}"#,
        r#"{"tenant_id":"a.bc","stream":"workflow","seq":7,"x":1}"#,
        r#"{"tenant_id":"a.b","stream":"control","seq":7,"x":1}"#,
    ] {
        assert!(matches!(body(other), Some(Fault::Relabelled { .. })), "{other}");
    }
    for broken in [r#"{"tenant_id":"a.b","stream":"workflow","seq":7"#, "", "[]"] {
        assert!(matches!(body(broken), Some(Fault::Unreadable(_))), "{broken}");
    }
}
