//! Clauses: the master key holds everything, and changes without a stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use riskfleet::adapters::master::{LocalMaster, NoMaster};
use riskfleet::crypto::{Keyring, Place, Revealed};
use riskfleet::domain::{AuditBody, TenantId};
use riskfleet::lifecycle::{SystemClock, SystemEntropy};
use riskfleet::ports::vault::EraseAct;
use riskfleet::ports::{KeyWrap, StoreError};

use super::{Safe, erased, event, is_text, key_of, opened, tag_of, tenant};
use crate::vaults::MASTER;

const NEW: [u8; 32] = [0x4e; 32];

fn process(safe: &Safe, wrap: impl KeyWrap + 'static) -> Arc<Keyring> {
    let sources = (Arc::new(SystemClock::new()) as _, Arc::new(SystemEntropy) as _);
    Arc::new(Keyring::new(safe.vault.clone(), Arc::new(wrap), sources, 1_000))
}

fn changed() -> AuditBody {
    AuditBody { action: "master_key_changed".into(), ..erased(&TenantId::platform()) }
}

pub(super) async fn a_wrong_master_key_is_told_in_one_sentence(safe: &Safe) {
    let (acme, right) = (tenant("acme"), safe.process());
    let key = key_of(&right, &acme, Some("ann")).await.expect("a new key");
    let sealed = right.seal(&key, Place::event(&acme, event(1)), b"{}");
    let wrong = process(safe, LocalMaster::new(&NEW, None));
    let none = process(safe, NoMaster("RISKFLEET_MASTER_KEY is not set".into()));
    for (keys, says) in [(wrong, "RISKFLEET_MASTER_KEY is the wrong key"), (none, "RISKFLEET_MASTER_KEY is not set")] {
        let stored = [(Place::event(&acme, event(1)), &sealed)];
        let refusals = [
            keys.look().await.expect_err("not this fleet's key"),
            keys.keys_for(&[(&acme, Some("ann"))]).await.expect_err("not this fleet's key"),
            keys.open(&stored).await.expect_err("not this fleet's key"),
        ];
        for refused in refusals {
            assert!(matches!(refused, StoreError::Misfit(_)), "{refused:?}");
            let said = refused.to_string();
            assert!(said.contains(says) && !said.contains('\n'), "{said}");
            assert!(!said.contains(&hex::encode(MASTER)) && !said.contains(&hex::encode(NEW)));
        }
    }
    assert!(is_text(&opened(&right, &acme, event(1), &sealed).await, b"{}"));
}

pub(super) async fn the_master_key_changes_while_keys_are_made(safe: &Safe) {
    let old = safe.process();
    let mut sealed = Vec::new();
    for n in 0..10 {
        let whose = tenant(&format!("t{n}"));
        let key = key_of(&old, &whose, Some("ann")).await.expect("a new key");
        sealed.push((whose.clone(), old.seal(&key, Place::event(&whose, event(n)), b"{}")));
    }
    // Every process knows both by now; they go on meanwhile.
    let (ended, others) = (Arc::new(AtomicBool::new(false)), process(safe, LocalMaster::new(&NEW, Some(&MASTER))));
    let making = {
        let (others, ended) = (Arc::clone(&others), Arc::clone(&ended));
        tokio::spawn(async move {
            let mut n = 0;
            while !ended.load(Ordering::SeqCst) || n < 5 {
                key_of(&others, &tenant(&format!("u{n}")), None).await.expect("a new key");
                n += 1;
            }
            n
        })
    };
    let console = process(safe, LocalMaster::new(&NEW, Some(&MASTER)));
    let mut turned = 0;
    loop {
        let step = console.rewrap(&changed()).await.expect("wraps anew");
        turned += step.keys;
        if !step.more && step.keys == 0 {
            break;
        }
    }
    ended.store(true, Ordering::SeqCst);
    let made = making.await.expect("no panic");
    assert!(turned >= 10, "{turned}");
    let new = process(safe, LocalMaster::new(&NEW, None));
    for (n, (whose, sealed)) in sealed.iter().enumerate() {
        assert!(is_text(&opened(&new, whose, event(n as u64), sealed).await, b"{}"), "{n}");
    }
    for n in 0..made {
        assert!(key_of(&new, &tenant(&format!("u{n}")), None).await.is_some(), "{n}");
    }
    assert!(safe.process().look().await.is_err(), "the key before opens nothing any more");
}

pub(super) async fn a_key_that_was_destroyed_is_not_wrapped_anew(safe: &Safe) {
    let (acme, keys) = (tenant("acme"), safe.process());
    let key = key_of(&keys, &acme, Some("ann")).await.expect("a new key");
    let sealed = keys.seal(&key, Place::event(&acme, event(1)), b"{}");
    let before = safe.vault.keys_of(&[(acme.clone(), riskfleet::ports::vault::Tag::OWN)]).await.expect("reads");
    let tag = tag_of(&keys, &acme, "ann").await;
    assert_eq!(keys.erase(&acme, tag, &erased(&acme)).await.expect("erased"), EraseAct::Done(1));
    let own = riskfleet::ports::vault::Tag::OWN;
    assert_eq!(keys.erase(&acme, own, &erased(&acme)).await.expect("erased"), EraseAct::Done(1));
    let turn = (before[0].clone(), before[0].clone());
    assert_eq!(safe.vault.rewrap(&[turn]).await.expect("answers"), 0, "what was read before it does not come back");
    assert!(matches!(opened(&safe.process(), &acme, event(1), &sealed).await, Revealed::Erased));
}
