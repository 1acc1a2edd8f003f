//! What people do with versions.

use riskfleet::domain::audit::sha256;
use riskfleet::domain::version::{
    Artifact, NewVersion, Refused, Review, Ruling, Verdict, Version, VersionKey, VersionName, VersionRef,
};
use riskfleet::domain::{AuditBody, Stream, TenantId};
use riskfleet::pipeline::{Scorer, Unfit};
use riskfleet::ports::StoreError;
use riskfleet::ports::versions::{Act, Activation, VersionFilter};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

use crate::office::{Office, after, tenant};

pub(super) const CARD: &str = r#"{"kind":"scorecard", "base":30,"min":0,"max":100,
  "characteristics":[{"field":"amount","bins":[{"from":10000,"points":60}]}]}"#;

pub(super) fn name(text: &str) -> VersionName {
    VersionName::parse(text).expect("legal")
}

pub(super) fn key(of: &str, artifact: Artifact, version: &str) -> VersionKey {
    VersionKey { tenant: tenant(of), artifact, version: version.parse().expect("legal") }
}

pub(super) fn model(of: &str, version: &str) -> VersionKey {
    key(of, Artifact::Model, version)
}

pub(super) fn audit(of: &TenantId, who: &str, action: &str) -> AuditBody {
    let chain = (of.clone(), Stream::Control);
    AuditBody { reason: Some("why".into()), ..AuditBody::new(chain, after(7), who, action, ("model", "")) }
}

pub(super) fn new(of: &str, artifact: Artifact, called: &str, content: &str) -> NewVersion {
    NewVersion {
        tenant: tenant(of),
        artifact,
        name: name(called),
        content: content.into(),
        author: "ann".into(),
        reason: "points for amounts".into(),
        at: after(5),
    }
}

pub(super) async fn register(o: &Office, new: &NewVersion) -> Act<Version> {
    let audit = audit(&new.tenant, &new.author, "model_registered");
    o.registry.register_version(new, &audit).await.expect("acts")
}

pub(super) async fn rule(o: &Office, key: &VersionKey, who: &str, ruling: Ruling) -> Act<Version> {
    o.registry.decide_version(key, ruling, &audit(&key.tenant, who, "model_ruled")).await.expect("acts")
}

pub(super) async fn activate(o: &Office, key: &VersionKey) -> Act<Activation> {
    o.registry.activate_version(key, &audit(&key.tenant, "ann", "model_activated")).await.expect("acts")
}

/// Registers a model and has somebody else approve it.
pub(super) async fn approved(o: &Office, of: &str, called: &str) -> VersionKey {
    let registered = register(o, &new(of, Artifact::Model, called, CARD)).await.expect("registers");
    rule(o, &registered.key, "ben", Ruling::Approve).await.expect("approves").key
}

pub(super) async fn a_version_reads_back_as_it_was_registered(o: &Office) {
    for (artifact, content) in [(Artifact::Model, CARD), (Artifact::Prompt, "Sag es kürzer.\n✓")] {
        let registered = register(o, &new("acme", artifact, "fraud", content)).await.expect("registers");
        let want = Version {
            key: key("acme", artifact, "fraud@1"),
            sha256: sha256(content.as_bytes()),
            bytes: content.len() as u64,
            author: "ann".into(),
            reason: "points for amounts".into(),
            at: after(5),
            review: Review::Pending,
            verdict: None,
        };
        assert_eq!(registered, want);
        assert_eq!(o.registry.version(&want.key).await.expect("reads"), Some(want.clone()));
        let stored = o.registry.version_content(&want.key).await.expect("reads").expect("is there");
        assert_eq!((stored.version, stored.content), (want.clone(), content.as_bytes().to_vec()));
        let decided = rule(o, &want.key, "ben", Ruling::Approve).await.expect("approves");
        let verdict = Verdict { by: "ben".into(), at: after(7), reason: Some("why".into()) };
        assert_eq!(decided, Version { review: Review::Approved, verdict: Some(verdict), ..want });
        assert_eq!(o.registry.version(&decided.key).await.expect("reads"), Some(decided));
    }
    assert_eq!(o.registry.version_content(&model("acme", "fraud@2")).await.expect("reads"), None);
}

pub(super) async fn versions_are_counted_without_gaps_also_at_once(o: &Office) {
    let people: Vec<_> = (0..24)
        .map(|n| {
            let registry = o.registry.clone();
            let (of, called) = (["acme", "globex"][n % 2], ["fraud", "credit", "aml"][n % 3]);
            let new = new(of, Artifact::ALL[n / 2 % 2], called, CARD);
            let audit = audit(&new.tenant, "ann", "model_registered");
            tokio::spawn(
                async move { registry.register_version(&new, &audit).await.expect("acts").expect("taken").key },
            )
        })
        .collect();
    let mut numbers: BTreeMap<(TenantId, Artifact, VersionName), BTreeSet<u32>> = BTreeMap::new();
    for person in people {
        let key = person.await.expect("no panic");
        let of_name = numbers.entry((key.tenant, key.artifact, key.version.name)).or_default();
        assert!(of_name.insert(key.version.number), "a number is given once");
    }
    for (of, given) in &numbers {
        let whole: BTreeSet<u32> = (1..=given.len() as u32).collect();
        assert_eq!(*given, whole, "{of:?}");
    }
    assert_eq!(o.control("acme").await.len() + o.control("globex").await.len(), 24);
}

pub(super) async fn an_author_never_decides_and_nobody_decides_twice(o: &Office) {
    for artifact in Artifact::ALL {
        let registered = register(o, &new("acme", artifact, "fraud", CARD)).await.expect("registers").key;
        for ruling in Ruling::ALL {
            assert_eq!(rule(o, &registered, "ann", ruling).await, Err(Refused::FourEyes));
        }
        let missing = VersionRef { number: 2, ..registered.version.clone() };
        let missing = VersionKey { version: missing, ..registered.clone() };
        assert_eq!(rule(o, &missing, "ben", Ruling::Approve).await, Err(Refused::Unknown));
        let at_once: Vec<_> = (0..8)
            .map(|n| {
                let (registry, key) = (o.registry.clone(), registered.clone());
                let audit = audit(&key.tenant, &format!("p{n}"), "model_ruled");
                tokio::spawn(async move { registry.decide_version(&key, Ruling::ALL[n % 2], &audit).await })
            })
            .collect();
        let (mut won, mut lost) = (Vec::new(), Vec::new());
        for person in at_once {
            match person.await.expect("no panic").expect("acts") {
                Ok(decided) => won.push(decided),
                Err(refused) => lost.push(refused),
            }
        }
        assert_eq!((won.len(), lost.len()), (1, 7));
        assert!(lost.iter().all(|refused| *refused == Refused::Decided(won[0].review)), "{lost:?}");
        assert_eq!(rule(o, &registered, "ann", Ruling::Approve).await, Err(Refused::Decided(won[0].review)));
        assert_eq!(o.registry.version(&registered).await.expect("reads").as_ref(), won.first());
    }
    assert_eq!(o.control("acme").await.len(), 4, "what was refused left nothing");
}

pub(super) async fn only_what_is_approved_becomes_active(o: &Office) {
    let card = new("acme", Artifact::Model, "fraud", CARD);
    let [first, second, third] = [register(o, &card).await, register(o, &card).await, register(o, &card).await];
    let [pending, rejected, good] = [first, second, third].map(|act| act.expect("registers").key);
    rule(o, &rejected, "ben", Ruling::Reject).await.expect("rejects");
    rule(o, &good, "ben", Ruling::Approve).await.expect("approves");
    assert_eq!(activate(o, &pending).await, Err(Refused::NotApproved(Review::Pending)));
    assert_eq!(activate(o, &rejected).await, Err(Refused::NotApproved(Review::Rejected)));
    assert_eq!(activate(o, &model("acme", "fraud@4")).await, Err(Refused::Unknown));
    assert_eq!(o.registry.activations_since(0, 10).await.expect("reads"), []);
    for (key, review) in [(&pending, Review::Pending), (&rejected, Review::Rejected)] {
        let stored = o.registry.version_content(key).await.expect("reads").expect("is there");
        assert_eq!(Scorer::load(&stored.version, &stored.content, None), Err(Unfit::NotApproved(review)));
    }
    let active = activate(o, &good).await.expect("activates");
    assert_eq!(active.active, Some((good.version.clone(), sha256(CARD.as_bytes()))));
    assert_eq!(
        o.registry.active_version(&good.tenant, Artifact::Model).await.expect("reads"),
        Some(good.version.clone())
    );
    assert_eq!(o.registry.active_version(&good.tenant, Artifact::Prompt).await.expect("reads"), None);
    let stored = o.registry.version_content(&good).await.expect("reads").expect("is there");
    let scorer = Scorer::load(&stored.version, &stored.content, active.active.as_ref().map(|(_, hash)| hash));
    assert!(matches!(scorer, Ok(Scorer::Scorecard(_))), "{scorer:?}");
}

pub(super) async fn what_was_made_active_is_told_in_its_order(o: &Office) {
    let mut keys = Vec::new();
    for n in 0..6 {
        keys.push(approved(o, &format!("t{n}"), "fraud").await);
    }
    // A reader that asks for what came since, while many tenants change theirs at once.
    let people: Vec<_> = (0..24)
        .map(|n| {
            let (registry, key) = (o.registry.clone(), keys[n % 6].clone());
            let audit = audit(&key.tenant, "ann", "model_activated");
            tokio::spawn(
                async move { registry.activate_version(&key, &audit).await.expect("acts").expect("activates") },
            )
        })
        .collect();
    let (mut seen, mut newest) = (0, BTreeMap::new());
    while !people.iter().all(tokio::task::JoinHandle::is_finished) {
        for told in o.registry.activations_since(seen, 100).await.expect("reads") {
            assert!(told.generation > seen, "told in their order");
            seen = told.generation;
            newest.insert(told.tenant, told.generation);
        }
    }
    let mut given = BTreeMap::new();
    for person in people {
        let active = person.await.expect("no panic");
        let of_tenant = given.entry(active.tenant).or_insert(0);
        *of_tenant = active.generation.max(*of_tenant);
    }
    for told in o.registry.activations_since(seen, 100).await.expect("reads") {
        newest.insert(told.tenant, told.generation);
    }
    assert_eq!(newest, given, "whoever has seen a generation has seen all before it");
    let pages = o.registry.activations_since(0, 2).await.expect("reads");
    let rest = o.registry.activations_since(pages[1].generation, 100).await.expect("reads");
    assert_eq!((pages.len(), rest.len()), (2, 4));
}

pub(super) async fn deactivating_leaves_nothing_and_is_told(o: &Office) {
    let fraud = approved(o, "acme", "fraud").await;
    let off = async || {
        let audit = audit(&fraud.tenant, "ann", "model_deactivated");
        o.registry.deactivate_version(&fraud.tenant, Artifact::Model, &audit).await.expect("acts")
    };
    assert_eq!(off().await, None, "nothing was active");
    let on = activate(o, &fraud).await.expect("activates");
    assert_eq!(off().await, Some(fraud.version.clone()));
    assert_eq!(off().await, None);
    let told = o.registry.activations_since(on.generation, 10).await.expect("reads");
    assert_eq!(told.iter().map(|a| (a.tenant.as_str(), a.active.clone())).collect::<Vec<_>>(), [("acme", None)]);
    assert_eq!(o.registry.active_version(&fraud.tenant, Artifact::Model).await.expect("reads"), None);
    assert_eq!(o.control("acme").await.len(), 4);
}

pub(super) async fn pages_are_by_name_and_number_and_filtered(o: &Office) {
    for called in ["fraud", "credit", "fraud", "a-b", "fraud"] {
        register(o, &new("acme", Artifact::Model, called, CARD)).await.expect("registers");
    }
    register(o, &new("acme", Artifact::Prompt, "explain", "x")).await.expect("registers");
    rule(o, &model("acme", "fraud@2"), "ben", Ruling::Approve).await.expect("approves");
    let all = VersionFilter {
        tenant: tenant("acme"),
        artifact: Artifact::Model,
        name: None,
        review: None,
        after: None,
        limit: 10,
    };
    let page = async |filter: VersionFilter| -> Vec<String> {
        let versions = o.registry.versions(&filter).await.expect("reads");
        versions.iter().map(|version| version.key.version.to_string()).collect()
    };
    assert_eq!(page(all.clone()).await, ["a-b@1", "credit@1", "fraud@1", "fraud@2", "fraud@3"]);
    let after = Some("credit@1".parse().expect("legal"));
    assert_eq!(page(VersionFilter { after: after.clone(), limit: 2, ..all.clone() }).await, ["fraud@1", "fraud@2"]);
    assert_eq!(page(VersionFilter { name: Some(name("credit")), ..all.clone() }).await, ["credit@1"]);
    assert_eq!(page(VersionFilter { name: Some(name("credit")), after, ..all.clone() }).await, [""; 0]);
    assert_eq!(page(VersionFilter { review: Some(Review::Approved), ..all.clone() }).await, ["fraud@2"]);
    assert_eq!(page(VersionFilter { review: Some(Review::Rejected), ..all.clone() }).await, [""; 0]);
    assert_eq!(page(VersionFilter { artifact: Artifact::Prompt, ..all }).await, ["explain@1"]);
}

pub(super) async fn every_act_stands_on_the_control_chain(o: &Office) {
    let first = approved(o, "acme", "fraud").await;
    let second = approved(o, "acme", "fraud").await;
    activate(o, &first).await.expect("activates");
    activate(o, &second).await.expect("activates");
    let off = audit(&first.tenant, "ann", "model_deactivated");
    o.registry.deactivate_version(&first.tenant, Artifact::Model, &off).await.expect("acts");
    // Whole, too: `control` holds every chain against its hashes.
    let chain = o.control("acme").await;
    let told: Vec<_> = chain.iter().map(|b| (b.actor.as_str(), b.action.as_str(), b.resource_id.as_str())).collect();
    let want = [
        ("ann", "model_registered", "fraud@1"),
        ("ben", "model_ruled", "fraud@1"),
        ("ann", "model_registered", "fraud@2"),
        ("ben", "model_ruled", "fraud@2"),
        ("ann", "model_activated", "fraud@1"),
        ("ann", "model_activated", "fraud@2"),
        ("ann", "model_deactivated", "fraud@2"),
    ];
    assert_eq!(told, want);
    let states: Vec<_> = chain.iter().map(|body| (body.previous.clone(), body.new.clone())).collect();
    let registered = json!({"state": "pending", "sha256": hex::encode(sha256(CARD.as_bytes()))});
    assert_eq!(states[0], (None, Some(registered)));
    assert_eq!(states[1], (Some(json!("pending")), Some(json!("approved"))));
    assert_eq!(states[4].1, Some(json!("fraud@1")));
    assert_eq!(states[5], (Some(json!("fraud@1")), Some(json!("fraud@2"))));
    assert_eq!(states[6].0, Some(json!("fraud@2")));
    assert!(chain.iter().all(|body| body.reason.as_deref() == Some("why")));
}

pub(super) async fn nothing_is_done_without_its_record(o: &Office) {
    let fraud = new("acme", Artifact::Model, "fraud", CARD);
    let elsewhere = audit(&tenant("globex"), "ben", "model_ruled");
    let failed = |what: &str, result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::Fault(_))), "{what}: {result:?}");
    };
    failed("register", o.registry.register_version(&fraud, &elsewhere).await.map(drop));
    let key = register(o, &fraud).await.expect("the number was not used up").key;
    assert_eq!(key.version.number, 1);
    failed("decide", o.registry.decide_version(&key, Ruling::Approve, &elsewhere).await.map(drop));
    rule(o, &key, "ben", Ruling::Approve).await.expect("still pending");
    failed("activate", o.registry.activate_version(&key, &elsewhere).await.map(drop));
    assert_eq!(o.registry.activations_since(0, 10).await.expect("reads"), []);
    activate(o, &key).await.expect("activates");
    failed("deactivate", o.registry.deactivate_version(&key.tenant, Artifact::Model, &elsewhere).await.map(drop));
    assert_eq!(o.registry.active_version(&key.tenant, Artifact::Model).await.expect("reads"), Some(key.version));
    assert_eq!((o.control("acme").await.len(), o.control("globex").await.len()), (3, 0));
}

pub(super) async fn another_tenants_versions_are_not_there(o: &Office) {
    let mine = approved(o, "acme", "fraud").await;
    activate(o, &mine).await.expect("activates");
    let theirs = model("globex", "fraud@1");
    assert_eq!(o.registry.version(&theirs).await.expect("reads"), None);
    assert_eq!(o.registry.version_content(&theirs).await.expect("reads"), None);
    assert_eq!(rule(o, &theirs, "ben", Ruling::Reject).await, Err(Refused::Unknown));
    assert_eq!(activate(o, &theirs).await, Err(Refused::Unknown));
    assert_eq!(o.registry.active_version(&theirs.tenant, Artifact::Model).await.expect("reads"), None);
    let registered = register(o, &new("globex", Artifact::Model, "fraud", CARD)).await.expect("registers");
    assert_eq!(registered.key, theirs, "each tenant counts for itself");
    if o.names_tenants() {
        // What answers a tenant's caller sees its rows alone, whatever it asks.
        let seen = "DO $$ BEGIN EXECUTE format('SET LOCAL ROLE %I', current_schema() || '_api'); \
            PERFORM set_config('riskfleet.tenant', 'globex', true); \
            IF EXISTS (SELECT FROM versions WHERE tenant_id = 'acme') OR EXISTS (SELECT FROM activations) \
            OR NOT EXISTS (SELECT FROM versions) THEN RAISE 'sees what is not its own, or nothing'; END IF; END $$";
        o.sql(seen, riskfleet::domain::EventId(uuid::Uuid::nil())).await.expect("only its own");
        let written = "DO $$ BEGIN EXECUTE format('SET LOCAL ROLE %I', current_schema() || '_api'); \
            PERFORM set_config('riskfleet.tenant', 'globex', true); \
            INSERT INTO versions (tenant_id, kind, name, version, sha256, content, author, reason, created_at) \
            VALUES ('acme', 0, 'mine', 1, sha256('x'), 'x', 'eve', 'x', now()); END $$";
        let refused = o.sql(written, riskfleet::domain::EventId(uuid::Uuid::nil())).await.expect_err("not its own");
        assert!(refused.to_string().contains("row-level security"), "{refused}");
    }
}
