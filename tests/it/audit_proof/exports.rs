//! An export in parts that a test can change, and its file.

use riskfleet::cli::{FileCheck, Report, verify_file};
use riskfleet::crypto::AuditKey;
use riskfleet::domain::audit::{AuditRecord, sha256};
use riskfleet::domain::checkpoint::{Anchor, Checkpoint, EXPORT_FORMAT, Manifest, ManifestLine, NotedHead, Signed};
use riskfleet::domain::export::write_record;
use riskfleet::domain::{AuditBody, ChainHead, Stream, TenantId, time};
use std::collections::BTreeMap;
use std::path::PathBuf;
use uuid::Uuid;

/// 2026-11-21T10:00:00Z.
pub(super) const T0: u64 = 1_795_255_200_000;

pub(super) fn key(n: u8) -> AuditKey {
    AuditKey::from_seed(&[n; 32])
}

/// A folder that is gone after the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("riskfleet-audit-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        Self(folder)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file for the test");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The parts of an export.
#[derive(Clone)]
pub(super) struct Export {
    pub(super) records: Vec<AuditRecord>,
    pub(super) checkpoints: Vec<Signed>,
    pub(super) anchors: Vec<Signed>,
    pub(super) manifest: ManifestLine,
}

pub(super) fn noted(r: &AuditRecord) -> NotedHead {
    NotedHead { tenant_id: r.tenant.clone(), stream: r.stream, seq: r.seq, hash: r.hash }
}

pub(super) fn record(head: &mut ChainHead, (tenant, stream): (&str, Stream), actor: &str) -> AuditRecord {
    let tenant = TenantId::parse(tenant).expect("legal");
    let body = AuditBody {
        reason: Some("Größe \"5\" – ✓ \\ \u{1}".into()),
        reason_codes: vec!["WITHIN_LIMITS".into()],
        ..AuditBody::new((tenant, stream), time::from_millis(T0), actor, "decision_made", ("event", "e-1"))
    };
    head.append(body)
}

pub(super) fn sign_all(key: &AuditKey, moments: &[Vec<NotedHead>]) -> Vec<Signed> {
    let mut signed: Vec<Signed> = Vec::new();
    for (n, heads) in moments.iter().enumerate() {
        let checkpoint = Checkpoint {
            number: n as i64 + 1,
            at: time::from_millis(T0 + n as u64),
            prev: signed.last().map_or([0; 32], |before| sha256(before.text.as_bytes())),
            key_id: key.id(),
            heads: heads.clone(),
            key: None,
            next_key: None,
        };
        signed.push(key.sign(checkpoint.text()));
    }
    signed
}

pub(super) fn anchor(record: &AuditRecord, key: &AuditKey) -> Signed {
    let anchor = Anchor {
        anchor: 1,
        tenant_id: record.tenant.clone(),
        stream: record.stream,
        seq: record.seq,
        hash: record.hash,
        at: time::from_millis(T0),
        reason: "retention of 90 days".into(),
        key_id: key.id(),
    };
    key.sign(anchor.text())
}

impl Export {
    /// Chains of three tenants, `length` records each, with a checkpoint over their halves and one
    /// over their ends, signed by key 1.
    pub(super) fn new(length: usize) -> Self {
        let mut records = Vec::new();
        for chain in [("acme", Stream::Workflow), ("acme", Stream::Control), ("globex", Stream::Workflow)] {
            let mut head = ChainHead::EMPTY;
            records.extend((0..length).map(|_| record(&mut head, chain, "worker:1")));
        }
        let half = |at: usize| (0..3).map(|n| noted(&records[n * length + at])).collect();
        let checkpoints = sign_all(&key(1), &[half(length / 2), half(length - 1)]);
        let mut export = Self {
            records,
            checkpoints,
            anchors: Vec::new(),
            manifest: ManifestLine { manifest: String::new(), signature: None, public_key: None },
        };
        export.close(Some(&key(1)));
        export
    }

    /// Makes the manifest agree with the rest.
    pub(super) fn close(&mut self, key: Option<&AuditKey>) {
        let mut ends = BTreeMap::new();
        for r in &self.records {
            ends.insert((r.tenant.clone(), r.stream), noted(r));
        }
        let manifest = Manifest {
            manifest: EXPORT_FORMAT,
            at: time::from_millis(T0 + 1_000),
            tenant_id: None,
            records: self.records.len() as u64,
            checkpoints: self.checkpoints.len() as u64,
            chains: ends.into_values().collect(),
        };
        let signed = key.map(|key| key.sign(manifest.text()));
        self.manifest = ManifestLine {
            manifest: manifest.text(),
            signature: signed.map(|s| s.signature),
            public_key: key.map(AuditKey::public),
        };
    }

    pub(super) fn text(&self) -> String {
        let mut text = Vec::new();
        for r in &self.records {
            write_record(r, &mut text).expect("memory takes it");
        }
        let mut text = String::from_utf8(text).expect("JSON is text");
        for line in self.checkpoints.iter().chain(&self.anchors).map(Signed::line).chain([self.manifest.line()]) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// Verifies a text, with the key of this number where there is one.
pub(super) fn verified(text: &str, key_number: Option<u8>, outside: Option<&[Signed]>) -> Report {
    let folder = Folder::new();
    let path = folder.write("audit.jsonl", text);
    let lines = |signed: &[Signed]| signed.iter().map(|s| s.line() + "\n").collect::<String>();
    let check = FileCheck {
        public_key: key_number.map(|n| key(n).public()),
        anchor: outside.map(|signed| folder.write("outside.jsonl", &lines(signed))),
    };
    verify_file(&path, &check, &|_| {}).expect("the file is read")
}

/// Findings as `tenant/stream/seq kind`.
pub(super) fn short(report: &Report) -> Vec<String> {
    let kind = |why: &str| why.split(':').next().unwrap_or_default().to_owned();
    report.bad.iter().map(|f| format!("{}/{}/{} {}", f.tenant, f.stream, f.seq, kind(&f.why))).collect()
}
