//! Clauses: what the notary signs, under which key, and the file outside.

use super::fixture::{Fixture, key};
use riskfleet::domain::Stream;
use riskfleet::domain::checkpoint::{Checkpoint, Signed};
use riskfleet::governance::{Keys, Notary, NotaryError, Outside, Rules};
use std::sync::Arc;
use std::time::Duration;

const RULES: Rules = Rules { every: Duration::from_secs(60), records: 100 };

async fn notary(f: &Fixture, own: u8, previous: Option<u8>, file: Option<&str>) -> Result<Notary, NotaryError> {
    let keys = Keys { current: key(own), previous: previous.map(key) };
    let outside = file.map(|name| Outside::new(f.folder.join(name)));
    Notary::begin(Arc::clone(&f.registry), f.clock.clone(), keys, RULES, outside).await
}

async fn signed(f: &Fixture) -> Vec<Checkpoint> {
    let page = f.registry.checkpoints_page(0, 100).await.expect("read");
    page.iter().map(|kept| Checkpoint::parse(&kept.signed.text).expect("its own")).collect()
}

/// What each checkpoint names, as `tenant/seq`.
async fn named(f: &Fixture) -> Vec<Vec<String>> {
    let name = |c: &Checkpoint| c.heads.iter().map(|h| format!("{}/{}", h.tenant_id, h.seq)).collect();
    signed(f).await.iter().map(name).collect()
}

pub(super) async fn what_has_grown_is_signed_and_nothing_else(f: &Fixture) {
    let mut notary = notary(f, 1, None, None).await.expect("a new fleet");
    notary.look(false).await.expect("looks");
    assert_eq!(named(f).await, Vec::<Vec<String>>::new(), "nothing has grown");
    f.grow("acme", Stream::Workflow, 3).await;
    f.grow("globex", Stream::Control, 2).await;
    notary.look(false).await.expect("looks");
    assert_eq!(named(f).await, [["acme/3", "globex/2"]]);
    f.grow("acme", Stream::Workflow, 1).await;
    notary.look(false).await.expect("looks");
    assert_eq!(named(f).await.len(), 1, "not due");
    f.clock.pass(60);
    notary.look(false).await.expect("looks");
    assert_eq!(named(f).await[1], ["acme/4"]);
    f.grow("globex", Stream::Control, 100).await;
    notary.look(false).await.expect("looks");
    assert_eq!(named(f).await[2], ["globex/102"], "enough records");
    f.grow("acme", Stream::Workflow, 1).await;
    notary.look(true).await.expect("looks for the last time");
    assert_eq!(named(f).await[3], ["acme/5"]);
    f.clock.pass(60);
    notary.look(false).await.expect("looks");
    assert_eq!(named(f).await.len(), 4, "nothing has grown");
}

pub(super) async fn two_notaries_share_one_chain_of_checkpoints(f: &Fixture) {
    let mut one = notary(f, 1, None, None).await.expect("begins");
    let mut other = notary(f, 1, None, None).await.expect("begins");
    for _ in 0..5 {
        f.grow("acme", Stream::Workflow, 1).await;
        f.clock.pass(60);
        let (a, b) = tokio::join!(one.look(false), other.look(false));
        a.and(b).expect("both look");
        f.clock.pass(60);
        other.look(false).await.expect("looks");
    }
    assert_eq!(named(f).await, [["acme/1"], ["acme/2"], ["acme/3"], ["acme/4"], ["acme/5"]]);
    // Who begins anew knows what was noted.
    let mut third = notary(f, 1, None, None).await.expect("begins");
    third.look(true).await.expect("looks");
    assert_eq!(named(f).await.len(), 5);
}

pub(super) async fn a_key_is_handed_over_once_and_a_strangers_is_refused(f: &Fixture) {
    f.grow("acme", Stream::Workflow, 1).await;
    let mut old = notary(f, 1, None, None).await.expect("begins");
    old.look(false).await.expect("looks");
    let refused = notary(f, 2, None, None).await.err().expect("no hand-over").to_string();
    assert!(refused.contains(&key(1).id()) && refused.contains("RISKFLEET_AUDIT_KEY_PREVIOUS"), "{refused}");
    assert!(notary(f, 2, Some(3), None).await.is_err());
    let mut new = notary(f, 2, Some(1), None).await.expect("takes over");
    notary(f, 2, Some(1), None).await.expect("it has taken over");
    f.grow("acme", Stream::Workflow, 1).await;
    f.clock.pass(60);
    assert!(old.look(false).await.is_err(), "whose key was handed over signs no more");
    new.look(false).await.expect("looks");
    let signed = signed(f).await;
    let (one, two) = (key(1), key(2));
    let ids: Vec<&str> = signed.iter().map(|c| c.key_id.as_str()).collect();
    assert_eq!(ids, [one.id(), one.id(), two.id()]);
    assert_eq!((signed[1].key, signed[1].next_key), (Some(one.public()), Some(two.public())));
    assert!(notary(f, 1, Some(9), None).await.is_err(), "the old key does not come back by itself");
}

fn lines(f: &Fixture, name: &str) -> Vec<Signed> {
    let text = std::fs::read_to_string(f.folder.join(name)).expect("it is there");
    text.lines().map(|line| serde_json::from_str(line).expect("a signed text")).collect()
}

pub(super) async fn the_file_outside_has_every_checkpoint_whoever_signed_it(f: &Fixture) {
    f.grow("acme", Stream::Workflow, 1).await;
    let mut first = notary(f, 1, None, Some("first.jsonl")).await.expect("begins");
    first.look(false).await.expect("looks");
    f.grow("acme", Stream::Workflow, 1).await;
    let mut second = notary(f, 1, None, Some("second.jsonl")).await.expect("begins");
    second.look(false).await.expect("looks");
    first.look(false).await.expect("looks");
    let stored: Vec<Signed> =
        f.registry.checkpoints_page(0, 10).await.expect("read").into_iter().map(|kept| kept.signed).collect();
    assert_eq!(stored.len(), 2);
    assert_eq!((lines(f, "first.jsonl"), lines(f, "second.jsonl")), (stored.clone(), stored.clone()));
    // A crash in the middle of a line.
    let path = f.folder.join("second.jsonl");
    let torn = std::fs::read_to_string(&path).expect("there") + "{\"text\":\"{\\\"check";
    std::fs::write(&path, torn).expect("written");
    f.grow("acme", Stream::Workflow, 1).await;
    let mut again = notary(f, 1, None, Some("second.jsonl")).await.expect("begins");
    again.look(false).await.expect("looks");
    assert_eq!(lines(f, "second.jsonl").len(), 3);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}

pub(super) async fn a_file_that_the_store_does_not_agree_with_is_left_alone(f: &Fixture) {
    let foreign = Checkpoint {
        number: 7,
        at: riskfleet::domain::time::from_millis(super::fixture::T0),
        prev: [1; 32],
        key_id: key(1).id(),
        heads: Vec::new(),
        key: None,
        next_key: None,
    };
    let line = key(1).sign(foreign.text()).line() + "\n";
    std::fs::write(f.folder.join("kept.jsonl"), &line).expect("written");
    let mut outside = Outside::new(f.folder.join("kept.jsonl"));
    let refused = outside.follow(&*f.registry).await.expect_err("the store was cut").to_string();
    assert!(refused.contains("checkpoint 7") && refused.contains("audit verify --anchor"), "{refused}");
    f.grow("acme", Stream::Workflow, 1).await;
    let mut notary = notary(f, 1, None, Some("kept.jsonl")).await.expect("begins");
    notary.look(false).await.expect("it signs all the same");
    assert_eq!(signed(f).await.len(), 1);
    assert_eq!(std::fs::read_to_string(f.folder.join("kept.jsonl")).expect("there"), line);
}
