//! Tests: which checkpoints are believed, with which key, and what is said of the others.

use super::*;
use crate::domain::time;

fn key(n: u8) -> AuditKey {
    AuditKey::from_seed(&[n; 32])
}

/// Two checkpoints by key 1, a hand-over, two by key 2, a hand-over, one by key 3.
fn chain() -> Vec<Signed> {
    let keys = [1, 1, 1, 2, 2, 2, 3].map(key);
    let mut signed: Vec<Signed> = Vec::new();
    for (n, own) in keys.iter().enumerate() {
        let next = keys.get(n + 1).filter(|next| next.id() != own.id());
        let checkpoint = Checkpoint {
            number: n as i64 + 1,
            at: time::from_millis(1_700_000_000_000),
            prev: signed.last().map_or([0; 32], |before| sha256(before.text.as_bytes())),
            key_id: own.id(),
            heads: Vec::new(),
            key: next.map(|_| own.public()),
            next_key: next.map(AuditKey::public),
        };
        signed.push(own.sign(checkpoint.text()));
    }
    signed
}

fn checked(given: Option<u8>, whole: Completeness, chain: &[Signed]) -> Checked {
    let trust = given.map(|n| Trust::of(&key(n).public()).expect("a key"));
    let mut check = CheckpointCheck::new(trust, whole);
    chain.iter().for_each(|signed| _ = check.take(signed));
    check.finish()
}

fn whys(checked: &Checked) -> Vec<(i64, &str)> {
    checked.findings.kept.iter().map(|f| (f.seq, f.why.as_str())).collect()
}

#[test]
fn any_one_of_the_keys_verifies_every_checkpoint() {
    for given in [1, 2, 3] {
        let checked = checked(Some(given), Completeness::Whole, &chain());
        assert_eq!((whys(&checked), checked.signatures.checked), (vec![], 7), "key {given}");
        let trust = checked.trust.expect("given");
        for known in 1..=3 {
            let signed = key(known).sign("anchor".into());
            assert_eq!(trust.worth(&key(known).id(), "anchor", &signed.signature), Worth::Holds, "{given} {known}");
        }
    }
    let without = checked(None, Completeness::Whole, &chain());
    assert_eq!((whys(&without), without.signatures), (vec![], Signatures { checked: 0, unchecked: 7 }));
}

#[test]
fn a_strangers_key_verifies_nothing() {
    let checked = checked(Some(9), Completeness::Whole, &chain());
    assert_eq!(whys(&checked), [(1, "wrong signature: 7 from here on are signed by a key that is not known")]);
}

#[test]
fn a_changed_text_is_a_wrong_signature_and_breaks_the_chain_behind_it() {
    let mut changed = chain();
    changed[3].text = changed[3].text.replace("2023-11-14", "2023-11-15");
    let found = checked(Some(1), Completeness::Whole, &changed);
    let kinds: Vec<(i64, &str)> =
        whys(&found).into_iter().map(|(n, why)| (n, why.split(':').next().unwrap_or_default())).collect();
    assert_eq!(kinds, [(4, "wrong signature"), (5, "checkpoint chain broken")]);
    let unsigned = checked(None, Completeness::Whole, &changed);
    assert_eq!(whys(&unsigned), [(5, "checkpoint chain broken: its prev is not the hash of the text before")]);
}

#[test]
fn a_checkpoint_that_an_enemy_signs_is_found_wherever_it_stands() {
    for n in 0..7 {
        let mut forged = chain();
        forged[n] = key(8).sign(forged[n].text.clone());
        let found = checked(Some(1), Completeness::Whole, &forged);
        // A hand-over that is not signed leaves what follows without a known key.
        let hand_over = n == 2 || n == 5;
        assert_eq!(whys(&found).len(), 1 + usize::from(hand_over), "{n}: {:?}", whys(&found));
        assert!(whys(&found).iter().all(|(_, why)| why.starts_with("wrong signature")), "{n}");
        assert!(whys(&found).iter().any(|(at, _)| *at == n as i64 + 1), "{n}");
    }
}

#[test]
fn a_missing_one_breaks_the_chain_but_not_a_file_that_a_person_keeps() {
    let mut parts = chain();
    parts.remove(1);
    let whole = checked(Some(1), Completeness::Whole, &parts);
    assert_eq!(whys(&whole), [(3, "checkpoint chain broken: expected number 2 here")]);
    assert_eq!(whys(&checked(Some(1), Completeness::Parts, &parts)), []);
}

#[test]
fn a_text_that_is_another_elsewhere_is_found() {
    let mut check = CheckpointCheck::new(None, Completeness::Whole).keeping_texts();
    chain().iter().for_each(|signed| _ = check.take(signed));
    let mut elsewhere = check.finish().texts;
    assert_eq!(elsewhere.len(), 7);
    elsewhere.insert(5, [0; 32]);
    let mut check = CheckpointCheck::new(None, Completeness::Whole).against(elsewhere);
    chain().iter().for_each(|signed| _ = check.take(signed));
    assert_eq!(whys(&check.finish()), [(5, "checkpoint chain broken: the anchor file has another text of it")]);
}

#[test]
fn the_key_never_shows_its_seed() {
    assert_eq!(format!("{:?}", key(7)), format!("AuditKey({})", key(7).id()));
}
