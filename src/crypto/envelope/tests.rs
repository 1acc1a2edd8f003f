//! Tests: an envelope opens with its key in its place, and in no other case.

use proptest::prelude::*;

use super::*;
use crate::domain::{CorrelationId, IdempotencyKey, PartitionId};

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("legal")
}

fn key(n: u8) -> DataKey {
    DataKey::new(Uuid::from_bytes([n; 16]), Tag([n; 16]), Zeroizing::new([n; 32]))
}

fn event(n: u64) -> EventId {
    EventId::mint(1_700_000_000_000 + n, [0; 10])
}

fn new_event(text: &[u8], body: Bytes) -> NewEvent {
    NewEvent {
        id: event(1),
        tenant: tenant("acme"),
        key: IdempotencyKey::parse("k").expect("legal"),
        correlation_id: CorrelationId::parse("c").expect("legal"),
        partition: PartitionId(0),
        body,
        payload_hash: sha256(text),
    }
}

proptest! {
    #[test]
    fn what_was_sealed_opens_in_its_place_alone(text in proptest::collection::vec(any::<u8>(), 0..600), nonce: [u8; 12]) {
        let (acme, other) = (tenant("acme"), tenant("acmf"));
        let place = Place::event(&acme, event(1));
        let sealed = key(1).seal(place, nonce, &text);
        prop_assert_eq!(sealed.len(), text.len() + OVERHEAD);
        prop_assert_eq!(key(1).open(place, &sealed), Ok(Bytes::from(text)));
        prop_assert_eq!(key(2).open(place, &sealed), Err(Broken));
        // The same id, and other bytes for a key.
        let false_key = DataKey::new(Uuid::from_bytes([1; 16]), Tag([1; 16]), Zeroizing::new([2; 32]));
        prop_assert_eq!(false_key.open(place, &sealed), Err(Broken));
        for elsewhere in [Place::decision(&acme, event(1)), Place::event(&acme, event(2)), Place::event(&other, event(1))] {
            prop_assert_eq!(key(1).open(elsewhere, &sealed), Err(Broken));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let acme = tenant("acme");
        _ = key_id(&bytes);
        prop_assert_eq!(key(1).open(Place::event(&acme, event(1)), &bytes), Err(Broken));
    }

    #[test]
    fn the_same_payload_is_known_without_a_key(text in "[a-z]{0,40}", other in "[a-z]{0,40}", nonce: [u8; 12]) {
        let acme = tenant("acme");
        let seal = |n: u8, id, text: &str| key(n).seal(Place::event(&acme, event(id)), nonce, text.as_bytes());
        let stored = seal(1, 1, &text);
        let again = |sealed| new_event(text.as_bytes(), sealed);
        prop_assert!(same_payload(&stored, &again(seal(1, 2, &text))));
        prop_assert!(!same_payload(&stored, &again(seal(2, 2, &text))));
        prop_assert_eq!(same_payload(&stored, &again(seal(1, 2, &other))), text == other);
        prop_assert!(same_payload(text.as_bytes(), &again(seal(1, 2, &text))), "stored before texts were sealed");
    }
}

#[test]
fn every_changed_bit_is_refused_and_every_shorter_one() {
    let acme = tenant("acme");
    let place = Place::event(&acme, event(1));
    let sealed = key(1).seal(place, [7; 12], br#"{"kind":"risk"}"#);
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(key(1).open(place, &changed), Err(Broken), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert_eq!(key(1).open(place, &sealed[..length]), Err(Broken), "{length} bytes");
    }
}

#[test]
fn no_json_text_is_taken_for_an_envelope() {
    assert!(!is_sealed(b"{}") && !is_sealed(b"") && is_sealed(&[FORMAT]));
    assert_eq!(key_id(b"{}"), None);
}

#[test]
fn a_subject_is_called_otherwise_under_every_key() {
    assert_eq!(key(1).tag_of("acct-1"), key(1).tag_of("acct-1"));
    assert_ne!(key(1).tag_of("acct-1"), key(2).tag_of("acct-1"));
    assert_ne!(key(1).tag_of("acct-1"), key(1).tag_of("acct-2"));
}
