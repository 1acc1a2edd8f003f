//! Clauses: keys are made once, and destroyed for good.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use riskfleet::crypto::{Place, Revealed};
use riskfleet::domain::{AuditBody, Stream};
use riskfleet::ports::store::AuditCursor;
use riskfleet::ports::vault::{EraseAct, Tag};

use super::{Safe, erased, event, is_text, key_of, opened, tag_of, tenant};

pub(super) async fn keys_are_made_once_whoever_asks(safe: &Safe) {
    let acme = tenant("acme");
    let ask = |_| {
        let (keys, acme) = (safe.process(), acme.clone());
        async move {
            let subjects: Vec<String> = (0..40).map(|n| format!("acct-{n}")).collect();
            let wanted: Vec<_> = subjects.iter().map(|s| (&acme, Some(s.as_str()))).chain([(&acme, None)]).collect();
            let found = keys.keys_for(&wanted).await.expect("the vault is there");
            let ids = found.iter().map(|key| match key {
                riskfleet::crypto::Key::Live(key) => key.id,
                riskfleet::crypto::Key::Erased => panic!("nobody was erased"),
            });
            ids.collect::<Vec<_>>()
        }
    };
    let answers = futures::future::join_all((0..8).map(ask)).await;
    assert_eq!(answers[0].iter().collect::<BTreeSet<_>>().len(), 41, "everybody has a key of its own");
    assert!(answers.iter().all(|ids| *ids == answers[0]), "and all processes the same");
}

pub(super) async fn an_erased_subject_is_erased_for_everybody_and_for_good(safe: &Safe) {
    let (acme, ours, theirs) = (tenant("acme"), safe.process(), safe.process());
    let key = key_of(&ours, &acme, Some("ann")).await.expect("a new key");
    let other = key_of(&ours, &acme, Some("bob")).await.expect("a new key");
    let sealed = ours.seal(&key, Place::event(&acme, event(1)), b"{\"ann\":1}");
    let kept = ours.seal(&other, Place::event(&acme, event(2)), b"{\"bob\":1}");
    assert!(is_text(&opened(&theirs, &acme, event(1), &sealed).await, b"{\"ann\":1}"));

    let tag = tag_of(&ours, &acme, "ann").await;
    let survey = ours.survey(&acme, tag).await.expect("counted");
    assert_eq!((survey.keys, survey.erased), (1, false));
    assert_eq!(ours.erase(&acme, tag, &erased(&acme)).await.expect("erased"), EraseAct::Done(1));
    let since = Instant::now();
    assert!(matches!(opened(&ours, &acme, event(1), &sealed).await, Revealed::Erased), "here at once");
    assert!(key_of(&ours, &acme, Some("ann")).await.is_none());
    // Another process looks for itself.
    while !matches!(opened(&theirs, &acme, event(1), &sealed).await, Revealed::Erased) {
        assert!(since.elapsed() < Duration::from_secs(2), "an erased key was used for {:?}", since.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(key_of(&theirs, &acme, Some("ann")).await.is_none());
    assert!(key_of(&safe.process(), &acme, Some("ann")).await.is_none(), "and who comes later");
    assert!(is_text(&opened(&theirs, &acme, event(2), &kept).await, b"{\"bob\":1}"), "nobody else is");
    assert_eq!(ours.erase(&acme, tag, &erased(&acme)).await.expect("answers"), EraseAct::Already);
    assert!(ours.survey(&acme, tag).await.expect("counted").erased);

    // One that was never seen is refused as well when it comes.
    let tag = tag_of(&ours, &acme, "zoe").await;
    assert_eq!(ours.erase(&acme, tag, &erased(&acme)).await.expect("erased"), EraseAct::Done(0));
    assert!(key_of(&safe.process(), &acme, Some("zoe")).await.is_none());
}

pub(super) async fn an_erased_tenant_takes_its_subjects_along(safe: &Safe) {
    let (acme, globex, keys) = (tenant("acme"), tenant("globex"), safe.process());
    let mut sealed = Vec::new();
    for (n, (whose, subject)) in [(&acme, Some("ann")), (&acme, None), (&globex, Some("ann"))].into_iter().enumerate() {
        let key = key_of(&keys, whose, subject).await.expect("a new key");
        sealed.push(keys.seal(&key, Place::event(whose, event(n as u64)), b"{}"));
    }
    assert_eq!(keys.erase(&acme, Tag::OWN, &erased(&acme)).await.expect("erased"), EraseAct::Done(2));
    for keys in [&keys, &safe.process()] {
        assert!(matches!(opened(keys, &acme, event(0), &sealed[0]).await, Revealed::Erased));
        assert!(matches!(opened(keys, &acme, event(1), &sealed[1]).await, Revealed::Erased));
        assert!(is_text(&opened(keys, &globex, event(2), &sealed[2]).await, b"{}"));
        for subject in [None, Some("ann"), Some("new")] {
            assert!(key_of(keys, &acme, subject).await.is_none(), "{subject:?}");
        }
        assert_eq!(keys.tag(&acme, "ann").await.expect("answers"), None, "its subjects have no name any more");
    }
    // A tenant that never sent anything.
    let new = tenant("new");
    assert_eq!(keys.erase(&new, Tag::OWN, &erased(&new)).await.expect("erased"), EraseAct::Done(0));
    assert!(key_of(&safe.process(), &new, Some("ann")).await.is_none());
}

pub(super) async fn an_erasure_beside_new_keys_leaves_none(safe: &Safe) {
    for round in 0..6 {
        let whose = tenant(&format!("t{round}"));
        let eraser = safe.process();
        let tag = if round % 2 == 0 { tag_of(&eraser, &whose, "ann").await } else { Tag::OWN };
        let makers = (0..4).map(|_| {
            let (keys, whose) = (safe.process(), whose.clone());
            tokio::spawn(async move { key_of(&keys, &whose, Some("ann")).await.is_some() })
        });
        let makers: Vec<_> = makers.collect();
        eraser.erase(&whose, tag, &erased(&whose)).await.expect("erased");
        for maker in makers {
            // With the key or without: it may have been before.
            maker.await.expect("no panic");
        }
        assert!(key_of(&safe.process(), &whose, Some("ann")).await.is_none(), "round {round}");
        let rows = safe.vault.keys_of(&[(whose.clone(), tag)]).await.expect("reads");
        assert!(rows.iter().all(|row| row.wrapped.is_none()) && !rows.is_empty(), "round {round}");
    }
}

pub(super) async fn what_was_read_before_an_erasure_is_not_kept_behind_it(safe: &Safe) {
    let (acme, eraser) = (tenant("acme"), safe.process());
    for round in 0..20 {
        let subject = format!("acct-{round}");
        let key = key_of(&eraser, &acme, Some(&subject)).await.expect("a new key");
        let sealed = eraser.seal(&key, Place::event(&acme, event(round)), b"{}");
        let reader = safe.process();
        reader.look().await.expect("looks");
        let reading = {
            let (reader, acme, sealed) = (Arc::clone(&reader), acme.clone(), sealed.clone());
            tokio::spawn(async move { opened(&reader, &acme, event(round), &sealed).await })
        };
        let tag = tag_of(&eraser, &acme, &subject).await;
        eraser.erase(&acme, tag, &erased(&acme)).await.expect("erased");
        reader.look().await.expect("looks");
        reading.await.expect("no panic");
        reader.look().await.expect("looks");
        assert!(matches!(opened(&reader, &acme, event(round), &sealed).await, Revealed::Erased), "round {round}");
    }
}

pub(super) async fn a_hold_keeps_every_key_and_an_erasure_is_in_the_chain(safe: &Safe) {
    let (acme, keys) = (tenant("acme"), safe.process());
    let registry = safe.registry.as_ref().expect("a store that is governed");
    key_of(&keys, &acme, Some("ann")).await.expect("a new key");
    let tag = tag_of(&keys, &acme, "ann").await;
    let hold = AuditBody { reason: Some("case 7".into()), action: "tenant_held".into(), ..erased(&acme) };
    registry.hold(&acme, &hold).await.expect("held");
    for tag in [tag, Tag::OWN] {
        assert_eq!(keys.erase(&acme, tag, &erased(&acme)).await.expect("answers"), EraseAct::Held);
    }
    assert!(key_of(&safe.process(), &acme, Some("ann")).await.is_some());
    registry.release(&acme, &AuditBody { action: "tenant_released".into(), ..hold }).await.expect("released");
    assert_eq!(keys.erase(&acme, tag, &erased(&acme)).await.expect("answers"), EraseAct::Done(1));

    let mut after: Option<AuditCursor> = None;
    let mut actions = Vec::new();
    for line in safe.store.audit_page(after.take().as_ref(), 100).await.expect("reads") {
        assert_eq!((&line.record.tenant, line.record.stream), (&acme, Stream::Control));
        let body: AuditBody = serde_json::from_str(&line.record.body).expect("a body");
        actions.push(body.action);
    }
    assert_eq!(actions, ["tenant_held", "tenant_released", "subject_erased"]);
    let foreign = erased(&tenant("globex"));
    keys.erase(&acme, Tag::OWN, &foreign).await.expect_err("a record of another chain");
    assert!(key_of(&safe.process(), &acme, Some("bob")).await.is_some(), "and nothing was destroyed");
}
