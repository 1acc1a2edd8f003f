//! Tests: what `audit verify FILE` says of an export, with and without the key.

use super::exports::{Export, Folder, T0, anchor, key, noted, record, short, sign_all, verified};
use clap::Parser;
use riskfleet::cli::args::{Audit, Cli, Command};
use riskfleet::cli::{Exit, Screen, audit_key_new, audit_verify_file};
use riskfleet::domain::checkpoint::{Checkpoint, Manifest};
use riskfleet::domain::{ChainHead, Stream, TenantId, time};
use serde_json::json;

const NONE: [String; 0] = [];

#[test]
fn a_whole_export_is_whole_with_the_key_and_without() {
    let export = Export::new(700);
    let report = verified(&export.text(), Some(1), Some(&export.checkpoints));
    assert_eq!(short(&report), NONE);
    assert_eq!((report.ok, report.records, report.chains), (true, 2_100, 3));
    assert_eq!((report.signatures.checked, report.signatures.unchecked), (5, 0));
    let report = verified(&export.text(), None, None);
    assert_eq!((report.ok, report.signatures.checked, report.signatures.unchecked), (true, 0, 3));
    let unsigned = {
        let mut export = export;
        export.close(None);
        export
    };
    assert!(verified(&unsigned.text(), None, None).ok);
    assert_eq!(short(&verified(&unsigned.text(), Some(1), None)), ["_platform/checkpoints/0 wrong signature"]);
}

#[test]
fn each_deed_to_the_records_is_found_without_the_key() {
    type Deed = fn(&mut Export);
    let deeds: [(Deed, &str); 6] = [
        (|e| e.records[3].body = e.records[3].body.replace("worker:1", "worker:2"), "acme/workflow/4 changed"),
        (|e| drop(e.records.remove(3)), "acme/workflow/4 removed"),
        (|e| e.records.insert(3, e.records[3].clone()), "acme/workflow/4 inserted"),
        (|e| e.records.swap(3, 4), "acme/workflow/4 reordered"),
        (
            |e| e.records[3].tenant = TenantId::parse("globex").expect("legal"),
            "globex/workflow/4 relabelled to another tenant or stream",
        ),
        (|e| drop(e.records.drain(7..10)), "acme/workflow/8 truncated tail"),
    ];
    for (deed, want) in deeds {
        let mut export = Export::new(10);
        deed(&mut export);
        assert_eq!(short(&verified(&export.text(), None, None)), [want]);
        assert_eq!(short(&verified(&export.text(), Some(1), None)), [want]);
    }
}

#[test]
fn a_whole_chain_that_is_gone_or_has_grown_is_found() {
    let mut gone = Export::new(10);
    gone.records.drain(10..20);
    assert_eq!(short(&verified(&gone.text(), None, None)), ["acme/control/1 truncated tail"]);
    let mut grown = Export::new(10);
    let last = &grown.records[29];
    let mut head = ChainHead { seq: last.seq, hash: last.hash };
    let more = record(&mut head, ("globex", Stream::Workflow), "mallory");
    grown.records.push(more);
    assert_eq!(short(&verified(&grown.text(), None, None)), ["globex/workflow/11 inserted"]);
}

/// What an enemy does who rules the database but has no key: cuts a chain and everything that
/// speaks of its end.
#[test]
fn a_tail_that_was_cut_with_its_checkpoints_is_found_by_the_file_outside() {
    let whole = Export::new(10);
    let mut cut = whole.clone();
    cut.records.drain(27..);
    cut.checkpoints.pop();
    // The fleet itself signs the export of what is left.
    cut.close(Some(&key(1)));
    assert!(verified(&cut.text(), Some(1), None).ok, "nothing inside shows it");
    for given in [None, Some(1)] {
        let report = verified(&cut.text(), given, Some(&whole.checkpoints));
        assert_eq!(short(&report), ["globex/workflow/8 truncated tail"]);
        assert!(report.bad[0].why.contains("checkpoint 2 of the anchor file says 10"), "{}", report.bad[0].why);
    }
}

#[test]
fn a_checkpoint_younger_than_a_signed_export_says_nothing_of_it() {
    let old = Export::new(10);
    let mut head = ChainHead { seq: 10, hash: old.records[9].hash };
    let grown = noted(&record(&mut head, ("acme", Stream::Workflow), "worker:1"));
    let mut outside = old.checkpoints.clone();
    let text = &outside[1].text;
    let later = Checkpoint {
        number: 3,
        at: time::from_millis(T0 + 5_000),
        prev: riskfleet::domain::audit::sha256(text.as_bytes()),
        heads: vec![grown],
        ..Checkpoint::parse(text).expect("its own")
    };
    outside.push(key(1).sign(later.text()));
    assert!(verified(&old.text(), Some(1), Some(&outside)).ok);
    // An export that nobody has signed may lie about its moment.
    assert_eq!(short(&verified(&old.text(), None, Some(&outside))), ["acme/workflow/11 truncated tail"]);
}

#[test]
fn a_chain_written_anew_is_found_by_its_checkpoints() {
    let mut anew = Export::new(10);
    let mut head = ChainHead { seq: 3, hash: anew.records[2].hash };
    for n in 3..10 {
        anew.records[n] = record(&mut head, ("acme", Stream::Workflow), "mallory");
    }
    anew.close(None);
    assert_eq!(short(&verified(&anew.text(), None, None)), ["acme/workflow/6 changed"]);
    // With the checkpoints signed anew by a key of the enemy's own.
    anew.checkpoints = sign_all(&key(9), &[vec![noted(&anew.records[9])]]);
    anew.close(Some(&key(9)));
    assert!(verified(&anew.text(), None, None).ok, "without the key nothing shows it");
    let with_key = short(&verified(&anew.text(), Some(1), None));
    assert_eq!(with_key, ["_platform/checkpoints/0 wrong signature", "_platform/checkpoints/1 wrong signature"]);
    let outside = Export::new(10).checkpoints;
    let with_file = short(&verified(&anew.text(), None, Some(&outside)));
    assert!(with_file.contains(&"acme/workflow/6 changed".to_owned()), "{with_file:?}");
    assert!(with_file.contains(&"_platform/checkpoints/1 checkpoint chain broken".to_owned()), "{with_file:?}");
}

#[test]
fn signed_lines_that_were_changed_or_lost_are_found() {
    let whole = Export::new(10);
    let changed = |deed: fn(&mut Export)| {
        let mut e = whole.clone();
        deed(&mut e);
        short(&verified(&e.text(), Some(1), None))
    };
    assert_eq!(changed(|e| e.checkpoints[1].signature[7] ^= 1), ["_platform/checkpoints/2 wrong signature"]);
    let lost = changed(|e| drop(e.checkpoints.remove(0)));
    assert_eq!(
        lost,
        ["_platform/checkpoints/0 checkpoint chain broken", "_platform/checkpoints/2 checkpoint chain broken"]
    );
    assert_eq!(
        changed(|e| e.manifest.manifest = e.manifest.manifest.replace("null", " null")),
        ["_platform/checkpoints/0 wrong signature"]
    );
    let text = whole.text();
    let without = &text[..text.trim_end().rfind('\n').expect("lines") + 1];
    assert_eq!(short(&verified(without, None, None)), ["_platform/checkpoints/0 truncated tail"]);
    let behind = format!("{text}{}", text.lines().next().expect("a record").to_owned() + "\n");
    let said = short(&verified(&behind, None, None));
    assert_eq!(said, ["_platform/checkpoints/0 inserted", "acme/workflow/1 inserted"]);
}

#[test]
fn an_anchor_counts_only_when_its_signature_holds() {
    let mut pruned = Export::new(10);
    let last_gone = pruned.records[3].clone();
    pruned.records.drain(..4);
    pruned.close(Some(&key(1)));
    assert_eq!(short(&verified(&pruned.text(), Some(1), None)), ["acme/workflow/1 removed"]);
    pruned.anchors = vec![anchor(&last_gone, &key(1))];
    for given in [None, Some(1)] {
        assert_eq!(short(&verified(&pruned.text(), given, None)), NONE);
    }
    pruned.anchors = vec![anchor(&last_gone, &key(9))];
    for given in [None, Some(1)] {
        assert_eq!(
            short(&verified(&pruned.text(), given, None)),
            ["acme/workflow/1 removed", "acme/workflow/4 wrong signature"]
        );
    }
}

#[test]
fn the_export_of_one_tenant_is_not_held_against_the_others() {
    let whole = Export::new(10);
    let mut one = whole.clone();
    one.records.truncate(20);
    one.checkpoints.clear();
    one.close(None);
    let manifest = Manifest {
        tenant_id: TenantId::parse("acme").ok(),
        ..Manifest::parse(&one.manifest.manifest).expect("its own")
    };
    let signed = key(1).sign(manifest.text());
    (one.manifest.manifest, one.manifest.signature) = (signed.text, Some(signed.signature));
    one.manifest.public_key = Some(key(1).public());
    assert_eq!(short(&verified(&one.text(), Some(1), Some(&whole.checkpoints))), NONE);
    one.records.pop();
    assert_eq!(short(&verified(&one.text(), Some(1), Some(&whole.checkpoints))), ["acme/control/10 truncated tail"]);
}

async fn shell(line: &[&str]) -> (Exit, String, String) {
    let cli = Cli::try_parse_from(line).expect("a command line");
    let Command::Audit(Audit::Verify(args)) = cli.command else { panic!("audit verify") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let file = args.file.clone().expect("a file");
    let exit = audit_verify_file(&file, &args, &mut Screen::plain(&mut out, &mut err)).await;
    (exit, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

#[tokio::test]
async fn the_command_says_it_to_people_and_to_scripts() {
    let (folder, export) = (Folder::new(), Export::new(5));
    let path = folder.write("audit.jsonl", &export.text());
    let file = path.to_str().expect("a plain path");
    let public = hex::encode(key(1).public());
    let (exit, out, _) = shell(&["riskfleet", "audit", "verify", file, "--public-key", &public]).await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "audit is whole: 15 records in 3 chains\nsignatures checked: 3\n"));
    let key_file = folder.write("audit.pub", &format!("{public}\n"));
    let key_file = key_file.to_str().expect("a plain path");
    let (exit, out, _) = shell(&["riskfleet", "audit", "verify", file, "--public-key", key_file, "--json"]).await;
    let signatures = json!({ "checked": 3, "unchecked": 0 });
    assert_eq!(
        (exit, serde_json::from_str::<serde_json::Value>(&out).expect("JSON")),
        (
            Exit::Done,
            json!({ "ok": true, "records": 15, "chains": 3, "signatures": signatures, "bad_total": 0, "bad": [] })
        )
    );
    folder.write("audit.jsonl", &export.text().replacen("worker:1", "worker:7", 1));
    let (exit, out, _) = shell(&["riskfleet", "audit", "verify", file, "--json"]).await;
    let shown: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let why = "changed: the body does not give the stored hash";
    assert_eq!(exit, Exit::Failed);
    assert_eq!(shown["bad"], json!([{ "tenant": "acme", "stream": "workflow", "seq": 1, "why": why }]));
    let (exit, _, err) = shell(&["riskfleet", "audit", "verify", "/nowhere/audit.jsonl"]).await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.starts_with("failed to read /nowhere/audit.jsonl: "), "{err}");
    let (exit, _, err) = shell(&["riskfleet", "audit", "verify", file, "--public-key", "abc"]).await;
    assert!(exit == Exit::Failed && err.contains("64 hex digits"), "{err}");
}

#[test]
fn a_new_key_is_private_and_never_written_over() {
    let folder = Folder::new();
    let path = folder.write("other", "").with_file_name("audit.key");
    let make = |seed: u8| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = audit_key_new(&path, &[seed; 32], false, &mut Screen::plain(&mut out, &mut err));
        (exit, String::from_utf8(out).expect("text"))
    };
    assert_eq!(make(1), (Exit::Done, hex::encode(key(1).public()) + "\n"));
    assert_eq!(make(2), (Exit::Failed, String::new()));
    assert_eq!(std::fs::read_to_string(&path).expect("there"), hex::encode([1; 32]) + "\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
