//! Properties: no single change of an export goes unnoticed, and no bytes bring the verifier down.

use super::exports::{Export, Folder, key, verified};
use proptest::prelude::*;
use riskfleet::cli::{FileCheck, verify_file};
use riskfleet::domain::{Stream, TenantId};

/// One deed to the records of an export.
#[derive(Debug, Clone)]
enum Deed {
    Remove(prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Body(prop::sample::Index, prop::sample::Index),
    Hash(prop::sample::Index, u8),
    Prev(prop::sample::Index, u8),
    Seq(prop::sample::Index, i64),
    Tenant(prop::sample::Index),
    Stream(prop::sample::Index),
}

fn deeds() -> impl Strategy<Value = Deed> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        at().prop_map(Deed::Remove),
        (at(), at()).prop_map(|(a, b)| Deed::Copy(a, b)),
        (at(), at()).prop_map(|(a, b)| Deed::Swap(a, b)),
        (at(), at()).prop_map(|(a, b)| Deed::Body(a, b)),
        (at(), any::<u8>()).prop_map(|(a, n)| Deed::Hash(a, n)),
        (at(), any::<u8>()).prop_map(|(a, n)| Deed::Prev(a, n)),
        (at(), -3_i64..40).prop_map(|(a, n)| Deed::Seq(a, n)),
        at().prop_map(Deed::Tenant),
        at().prop_map(Deed::Stream),
    ]
}

fn apply(deed: &Deed, export: &mut Export) {
    let records = &mut export.records;
    let length = records.len();
    match deed {
        Deed::Remove(at) => drop(records.remove(at.index(length))),
        Deed::Copy(from, to) => {
            let copy = records[from.index(length)].clone();
            records.insert(to.index(length + 1), copy);
        }
        Deed::Swap(a, b) => records.swap(a.index(length), b.index(length)),
        Deed::Body(at, byte) => {
            let body = &mut records[at.index(length)].body;
            let mut bytes = std::mem::take(body).into_bytes();
            let byte = byte.index(bytes.len());
            bytes[byte] = if bytes[byte] == b'x' { b'y' } else { b'x' };
            *body = String::from_utf8_lossy(&bytes).into_owned();
        }
        Deed::Hash(at, n) => records[at.index(length)].hash[usize::from(n % 32)] ^= 1 << (n / 32),
        Deed::Prev(at, n) => records[at.index(length)].prev_hash[usize::from(n % 32)] ^= 1 << (n / 32),
        Deed::Seq(at, n) => records[at.index(length)].seq = *n,
        Deed::Tenant(at) => records[at.index(length)].tenant = TenantId::parse("initech").expect("legal"),
        Deed::Stream(at) => {
            let stream = &mut records[at.index(length)].stream;
            *stream = if *stream == Stream::Workflow { Stream::Control } else { Stream::Workflow };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_single_deed_is_found(length in 2_usize..30, deed in deeds(), with_key in any::<bool>()) {
        let mut whole = Export::new(length);
        let mut changed = whole.clone();
        apply(&deed, &mut changed);
        let report = verified(&changed.text(), with_key.then_some(1), None);
        // Whose chain stands first in the file says nothing.
        for export in [&mut changed, &mut whole] {
            export.records.sort_by_key(|r| (r.tenant.clone(), r.stream));
        }
        prop_assert_eq!(report.ok, changed.records == whole.records, "{:?} {:?}", deed, report.bad);
        prop_assert!(report.bad_total <= 4, "a storm: {:?}", report.bad);
    }

    #[test]
    fn every_changed_byte_is_found_with_the_key(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let whole = Export::new(3).text();
        let mut bytes = whole.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let folder = Folder::new();
        let path = folder.write("audit.jsonl", "");
        std::fs::write(&path, &bytes).expect("written");
        let check = FileCheck { public_key: Some(key(1).public()), anchor: None };
        let report = verify_file(&path, &check, &|_| {}).expect("read");
        // The two other forms of the same text: an escape in capitals, and no end of the last line.
        let same = bytes == whole.as_bytes()
            || bytes[at].eq_ignore_ascii_case(&whole.as_bytes()[at]) && whole[..at].ends_with("\\u000")
            || at + 1 == bytes.len() && to.is_ascii_whitespace();
        prop_assert!(same || !report.ok, "byte {} of {} became {}", at, bytes.len(), to);
    }

    #[test]
    fn no_bytes_bring_the_verifier_down(lines in prop::collection::vec("(\\{\"(tenant_id|text|manifest)\":)?.{0,80}", 0..20)) {
        let report = verified(&lines.join("\n"), Some(1), None);
        prop_assert!(!report.ok);
    }
}
