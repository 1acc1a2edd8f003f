//! Clauses: a store exported, verified elsewhere, and verified after what a superuser has done.

use super::fixture::{Fixture, act, anchor, key};
use clap::Parser;
use riskfleet::cli::args::{Audit, AuditVerify, Cli, Command};
use riskfleet::cli::{
    AuditSources, Exit, ExportSources, FileCheck, Report, Screen, audit_export, audit_verify, verify_file,
};
use riskfleet::crypto::Trust;
use riskfleet::domain::Stream;
use riskfleet::governance::{Keys, Notary, Rules, Verifier};
use riskfleet::ports::Clock;
use riskfleet::ports::checkpoints::Pruned;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

async fn sign(f: &Fixture) {
    let keys = Keys { current: key(1), previous: None };
    let rules = Rules { every: Duration::from_secs(60), records: 100 };
    let mut notary = Notary::begin(Arc::clone(&f.registry), f.clock.clone(), keys, rules, None).await.expect("begins");
    notary.look(true).await.expect("looks");
}

async fn export(f: &Fixture, more: &[&str]) -> PathBuf {
    let out = f.folder.join("audit.jsonl");
    let name = out.to_str().expect("a plain path");
    let line = [&["riskfleet", "audit", "export", "--out", name][..], more].concat();
    let Command::Audit(Audit::Export(args)) = Cli::try_parse_from(line).expect("a command line").command else {
        panic!("audit export")
    };
    let own = key(1);
    let sources = ExportSources { checkpoints: &*f.registry, key: Some(&own), now: f.clock.now() };
    let (mut said, mut err) = (Vec::new(), Vec::new());
    let exit = audit_export(&args, &sources, &mut Screen::plain(&mut said, &mut err)).await;
    assert_eq!(exit, Exit::Done, "{}", String::from_utf8_lossy(&err));
    assert!(!f.folder.join("audit.jsonl.part").exists());
    out
}

fn elsewhere(path: &std::path::Path) -> Report {
    let check = FileCheck { public_key: Some(key(1).public()), anchor: None };
    verify_file(path, &check, &|_| {}).expect("the file is read")
}

/// Findings of `audit verify` on the store, as `tenant/seq kind`.
pub(super) async fn verified(f: &Fixture) -> Vec<String> {
    let sources = AuditSources { store: &*f.store, checkpoints: Some(&*f.registry), public_key: Some(key(1).public()) };
    let args = AuditVerify { json: true, ..AuditVerify::default() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = audit_verify(&args, &sources, &mut Screen::plain(&mut out, &mut err)).await;
    let shown: serde_json::Value = serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {err:?}"));
    assert_eq!(exit == Exit::Done, shown["ok"] == true);
    let bad = shown["bad"].as_array().expect("an array");
    assert_eq!(by_itself(f).await, bad.len(), "what the fleet finds by itself: {shown}");
    let kind = |why: &str| why.split(':').next().unwrap_or_default().to_owned();
    let text = |b: &serde_json::Value, of: &str| b[of].as_str().expect("text").to_owned();
    bad.iter().map(|b| format!("{}/{} {}", text(b, "tenant"), b["seq"], kind(&text(b, "why")))).collect()
}

/// How much the fleet's own verification finds.
async fn by_itself(f: &Fixture) -> usize {
    let trust = Trust::of(&key(1).public()).expect("a key");
    let verifier = Verifier {
        store: Arc::clone(&f.store),
        registry: Arc::clone(&f.registry),
        clock: f.clock.clone(),
        trust: Some(trust),
        every: Duration::from_secs(60),
    };
    let verified = verifier.verify().await.expect("it reads everything");
    usize::try_from(verified.verdict.findings.total).expect("a few")
}

async fn chains(f: &Fixture) {
    for (name, stream) in [("acme", Stream::Workflow), ("acme", Stream::Control), ("globex", Stream::Workflow)] {
        f.grow(name, stream, 5).await;
    }
}

pub(super) async fn a_store_is_exported_and_verified_elsewhere(f: &Fixture) {
    let empty = elsewhere(&export(f, &[]).await);
    assert_eq!((empty.ok, empty.records), (true, 0));
    chains(f).await;
    sign(f).await;
    f.grow("acme", Stream::Workflow, 1).await;
    assert_eq!(verified(f).await, Vec::<String>::new());
    let report = elsewhere(&export(f, &[]).await);
    assert_eq!((report.ok, report.records, report.chains), (true, 16, 3), "{:?}", report.bad);
    assert_eq!((report.signatures.checked, report.signatures.unchecked), (2, 0));
}

pub(super) async fn the_export_of_one_tenant_names_no_other(f: &Fixture) {
    chains(f).await;
    sign(f).await;
    let path = export(f, &["--tenant", "acme"]).await;
    let report = elsewhere(&path);
    assert_eq!((report.ok, report.records, report.chains), (true, 10, 2), "{:?}", report.bad);
    assert!(!std::fs::read_to_string(&path).expect("there").contains("globex"));
}

pub(super) async fn what_a_superuser_does_is_found(f: &Fixture) {
    chains(f).await;
    sign(f).await;
    let t = f.tenant_column();
    f.superuser(&format!(
        "UPDATE audit SET body = replace(body, 'worker:1', 'worker:9') WHERE {t} = 'acme' AND stream = 0 AND seq = 2"
    ))
    .await;
    assert_eq!(verified(f).await, ["acme/2 changed"]);
    f.superuser(&format!("DELETE FROM audit WHERE {t} = 'acme' AND stream = 1 AND seq = 3")).await;
    assert_eq!(verified(f).await, ["acme/3 removed", "acme/2 changed"]);
    f.superuser(&format!("UPDATE audit SET {t} = 'initech' WHERE {t} = 'acme' AND stream = 0 AND seq = 4")).await;
    let three = ["acme/3 removed", "acme/2 changed", "initech/4 relabelled to another tenant or stream"];
    assert_eq!(verified(f).await, three);
    f.superuser(&format!("DELETE FROM audit WHERE {t} = 'globex' AND seq > 3")).await;
    let four = [three[0], three[1], "globex/4 truncated tail", three[2]];
    assert_eq!(verified(f).await, four);
}

pub(super) async fn a_shortened_chain_verifies(f: &Fixture) {
    chains(f).await;
    sign(f).await;
    let records = f.registry.records_page(None, 100).await.expect("read");
    let third = records.iter().find(|r| r.tenant.as_str() == "globex" && r.seq == 3).expect("five");
    let (at, signed) = anchor(third);
    assert_eq!(f.registry.prune_chain(&at, &signed, &act("globex")).await.expect("asked"), Pruned::Done(3));
    assert_eq!(verified(f).await, Vec::<String>::new());
    let report = elsewhere(&export(f, &[]).await);
    // The act stands in a chain of its own now.
    assert_eq!((report.ok, report.records, report.chains), (true, 13, 4), "{:?}", report.bad);
}
