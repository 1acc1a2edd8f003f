//! The clauses.

use riskfleet::domain::approval::{CLAIMS_MAX, COMMENTS_MAX, Claim, Level, PastStep, Refusal, Step, Verdict};
use riskfleet::domain::{ApprovalRules, AuditBody, EventId, Outcome, Role, Status, Stream};
use riskfleet::governance::overdue::look;
use riskfleet::ports::StoreError;
use riskfleet::ports::approvals::{ApprovalCounts, ApprovalFilter, ApprovalState};
use riskfleet::ports::store::{Approval, OutboxKind};
use std::time::Duration;
use uuid::Uuid;

use crate::office::{ADMIN_POWERS, At, Office, PLAIN, PLAIN_POWERS, act, after, quarter, tenant};

const HOLD: Duration = Duration::from_secs(3_600);

pub(super) async fn a_request_is_open_until_its_verdict(o: &Office) {
    let event = o.escalated("acme").await;
    assert_eq!(o.approval(event).await, Approval::opened(after(0)));
    assert_eq!(o.store.verdicts(&[event]).await.expect("reads"), []);
    let ann = act("acme", event, "ann", PLAIN_POWERS, after(5));
    assert_eq!(o.decide(&ann, Verdict::Rejected).await, Ok(()));
    let record = o.record(event).await;
    assert_eq!((record.status(), record.unpublished.as_slice()), (Status::Rejected, &[OutboxKind::Outcome][..]));
    let want = Approval {
        verdict: Some(Outcome::Rejected),
        decided_at: Some(after(5)),
        decided_by: Some("ann".into()),
        reason: Some("seen the papers".into()),
        ..Approval::opened(after(0))
    };
    assert_eq!(record.approval, Some(want));
    assert_eq!(o.store.verdicts(&[event]).await.expect("reads"), [(event, Outcome::Rejected)]);
    assert_eq!(o.control("acme").await.len(), 1);
}

pub(super) async fn of_twenty_verdicts_at_once_one_stands(o: &Office) {
    let event = o.escalated("acme").await;
    let people: Vec<_> = (0..20)
        .map(|n| {
            let (registry, ann) = (o.registry.clone(), act("acme", event, &format!("p{n}"), PLAIN_POWERS, after(n)));
            let verdict = Verdict::ALL[n as usize % 2];
            tokio::spawn(async move { (verdict, registry.decide_approval(&ann, verdict, Uuid::new_v4()).await, ann) })
        })
        .collect();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for person in people {
        let (verdict, acted, ann) = person.await.expect("no panic");
        match acted.expect("acts") {
            Ok(()) => won.push((verdict.outcome(), ann.audit.actor, ann.audit.at)),
            Err(Refusal::AlreadyDecided { outcome, by, at }) => lost.push((outcome, by, at)),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((won.len(), lost.len()), (1, 19));
    assert!(lost.iter().all(|told| *told == won[0]), "each is told who was first");
    assert_eq!(o.approval(event).await.verdict, Some(won[0].0));
    let chain = o.control("acme").await;
    assert_eq!((chain.len(), &chain[0].actor), (1, &won[0].1));
    assert_eq!(o.store.take_outbox(OutboxKind::Outcome, HOLD, 100).await.expect("takes").len(), 1);
}

pub(super) async fn a_verdict_is_due_for_publication_at_once_and_once_in_its_hold(o: &Office) {
    let event = o.escalated("acme").await;
    let row = Uuid::new_v4();
    let ann = act("acme", event, "ann", PLAIN_POWERS, after(5));
    let acted = o.registry.decide_approval(&ann, Verdict::Approved, row).await.expect("acts");
    assert_eq!(acted, Ok(()));
    let taken = o.store.take_outbox(OutboxKind::Outcome, HOLD, 100).await.expect("takes");
    assert_eq!(taken.iter().map(|row| (row.id, row.events.as_slice())).collect::<Vec<_>>(), [(row, &[event][..])]);
    assert_eq!(o.store.take_outbox(OutboxKind::Outcome, HOLD, 100).await.expect("takes"), []);
    o.store.settle_outbox(&[row]).await.expect("settles");
    assert_eq!(o.record(event).await.unpublished, []);
}

pub(super) async fn a_live_claim_holds_others_back(o: &Office) {
    let event = o.escalated("acme").await;
    let by = |who: &str, at| act("acme", event, who, PLAIN_POWERS, after(at));
    assert_eq!(o.registry.claim_approval(&by("ann", 0), quarter(after(0))).await.expect("acts"), Ok(()));
    let claim = Claim { by: "ann".into(), until: quarter(after(0)) };
    assert_eq!(o.approval(event).await.claim, Some(claim.clone()));
    let refused = Err(Refusal::Claimed { by: claim.by, until: claim.until });
    let bob = by("bob", 10);
    assert_eq!(o.registry.claim_approval(&bob, quarter(after(10))).await.expect("acts"), refused);
    assert_eq!(o.registry.release_approval(&bob).await.expect("acts"), refused);
    assert_eq!(o.decide(&bob, Verdict::Approved).await, refused);
    assert_eq!(o.registry.release_approval(&by("ann", 20)).await.expect("acts"), Ok(()));
    assert_eq!(o.approval(event).await.claim, None);
    assert_eq!(o.registry.release_approval(&by("ann", 21)).await.expect("acts"), Err(Refusal::NotClaimed));
    // A claim that has ended is none; an administrator passes over one that holds.
    assert_eq!(o.registry.claim_approval(&by("ann", 30), after(40)).await.expect("acts"), Ok(()));
    assert_eq!(o.registry.claim_approval(&by("bob", 40), quarter(after(40))).await.expect("acts"), Ok(()));
    let root = act("acme", event, "root", ADMIN_POWERS, after(50));
    assert_eq!(o.decide(&root, Verdict::Approved).await, Ok(()));
    let steps: Vec<(String, &str)> =
        o.approval(event).await.history.iter().map(|past| (past.by.clone(), past.step.as_str())).collect();
    let want = [("ann", "claimed"), ("ann", "released"), ("ann", "claimed"), ("bob", "claimed")];
    assert_eq!(steps, want.map(|(by, step)| (by.to_owned(), step)));
    let actors: Vec<String> = o.control("acme").await.into_iter().map(|body| body.actor).collect();
    assert_eq!(actors, ["ann", "ann", "ann", "bob", "root"]);
}

pub(super) async fn comments_are_kept_and_the_audit_holds_none_of_their_text(o: &Office) {
    let event = o.escalated("acme").await;
    let text = "Größe: Frau Meier\nrief an ✓";
    let ann = act("acme", event, "ann", PLAIN_POWERS, after(5));
    assert_eq!(o.registry.comment_approval(&ann, text).await.expect("acts"), Ok(()));
    assert_eq!(o.decide(&ann, Verdict::Approved).await, Ok(()));
    let bob = act("acme", event, "bob", PLAIN_POWERS, after(6));
    assert_eq!(o.registry.comment_approval(&bob, "late").await.expect("acts"), Ok(()), "also behind the verdict");
    let said = |at, by: &str, text: &str| PastStep {
        at: after(at),
        by: by.into(),
        step: Step::Commented { text: text.into() },
    };
    assert_eq!(o.approval(event).await.history, [said(5, "ann", text), said(6, "bob", "late")]);
    let chain = serde_json::to_string(&o.control("acme").await).expect("JSON");
    assert!(!chain.contains("Meier"), "{chain}");
}

pub(super) async fn comments_and_claims_are_bounded(o: &Office) {
    let event = o.escalated("acme").await;
    let ann = act("acme", event, "ann", PLAIN_POWERS, after(5));
    for _ in 0..COMMENTS_MAX {
        assert_eq!(o.registry.comment_approval(&ann, "again").await.expect("acts"), Ok(()));
    }
    assert_eq!(o.registry.comment_approval(&ann, "again").await.expect("acts"), Err(Refusal::Full(COMMENTS_MAX)));
    for _ in 0..CLAIMS_MAX {
        assert_eq!(o.registry.claim_approval(&ann, quarter(after(5))).await.expect("acts"), Ok(()));
    }
    let more = o.registry.claim_approval(&ann, quarter(after(5))).await.expect("acts");
    assert_eq!(more, Err(Refusal::Full(CLAIMS_MAX)));
    assert_eq!(o.decide(&ann, Verdict::Approved).await, Ok(()));
    assert_eq!(o.control("acme").await.len(), (COMMENTS_MAX + CLAIMS_MAX) as usize + 1);
}

pub(super) async fn what_is_overdue_rises_once_whoever_looks(o: &Office) {
    let (late, decided, early) = (o.escalated("acme").await, o.escalated("globex").await, o.escalated("acme").await);
    o.decided("acme", crate::office::HIGH, after(60_000)).await;
    let ann = |event| act("acme", event, "ann", PLAIN_POWERS, after(5));
    assert_eq!(o.registry.claim_approval(&ann(late), quarter(after(5))).await.expect("acts"), Ok(()));
    assert_eq!(o.decide(&act("globex", decided, "ann", PLAIN_POWERS, after(5)), Verdict::Approved).await, Ok(()));
    let rules = ApprovalRules { due_after: Some(Duration::from_secs(60)), second_role: Role::Admin };
    let counts = async |at| o.registry.count_approvals(rules.overdue_by(after(at))).await.expect("counts");
    assert_eq!(look(&*o.registry, &At(after(59_999)), &rules).await.expect("looks"), 0);
    assert_eq!(counts(59_999).await, ApprovalCounts { open: 3, ..ApprovalCounts::default() });
    assert_eq!(counts(60_000).await, ApprovalCounts { open: 3, overdue: 2, to_escalate: 2 });
    let looks: Vec<_> = (0..8)
        .map(|_| {
            let registry = o.registry.clone();
            tokio::spawn(async move { look(&*registry, &At(after(60_000)), &rules).await.expect("looks") })
        })
        .collect();
    let mut risen = 0;
    for looked in looks {
        risen += looked.await.expect("no panic");
    }
    assert_eq!(risen, 2);
    assert_eq!(counts(60_000).await, ApprovalCounts { open: 3, overdue: 2, to_escalate: 0 });
    let approval = o.approval(late).await;
    assert_eq!((approval.level, approval.claim), (Level::Second, None));
    let escalated = PastStep { at: after(60_000), by: "system:console".into(), step: Step::Escalated };
    assert_eq!(approval.history[1..], [escalated]);
    assert_eq!(o.approval(decided).await.level, Level::First);
    assert_eq!(o.decide(&ann(late), Verdict::Approved).await, Err(Refusal::SecondLevel));
    let root = act("acme", late, "root", ADMIN_POWERS, after(60_001));
    assert_eq!(o.decide(&root, Verdict::Approved).await, Ok(()));
    let chain = o.control("acme").await;
    let escalations = chain.iter().filter(|body| body.action == "approval_escalated");
    let mut named: Vec<EventId> = escalations.filter_map(|body| body.event_id).collect();
    named.sort_unstable();
    assert_eq!(named, [late, early]);
    // Where nothing is ever due, only the numbers are looked at.
    let never = ApprovalRules { due_after: None, ..rules };
    assert_eq!(look(&*o.registry, &At(after(u64::from(u32::MAX))), &never).await.expect("looks"), 0);
}

pub(super) async fn what_was_not_escalated_or_is_anothers_is_refused(o: &Office) {
    let (plain, event) = (o.decided("acme", PLAIN, after(0)).await, o.escalated("acme").await);
    for (of, event) in [("acme", plain), ("globex", event)] {
        let ann = act(of, event, "ann", ADMIN_POWERS, after(5));
        let refused = Err(Refusal::NotEscalated);
        assert_eq!(o.decide(&ann, Verdict::Approved).await, refused);
        assert_eq!(o.registry.claim_approval(&ann, quarter(after(5))).await.expect("acts"), refused);
        assert_eq!(o.registry.release_approval(&ann).await.expect("acts"), refused);
        assert_eq!(o.registry.comment_approval(&ann, "no").await.expect("acts"), refused);
        let risen = o.registry.escalate_approval(&ann.tenant, event, after(9), &ann.audit).await.expect("acts");
        assert!(!risen, "of {of}");
    }
    assert_eq!(o.record(plain).await.status(), Status::Approved);
    assert_eq!(o.approval(event).await, Approval::opened(after(0)));
    assert_eq!((o.control("acme").await.len(), o.control("globex").await.len()), (0, 0));
}

pub(super) async fn nothing_is_done_without_its_record(o: &Office) {
    let event = o.escalated("acme").await;
    let ann = act("acme", event, "ann", PLAIN_POWERS, after(5));
    let with = |audit: AuditBody| riskfleet::ports::approvals::ApprovalAct { audit, ..ann.clone() };
    let other_tenant = with(AuditBody { tenant_id: tenant("globex"), ..ann.audit.clone() });
    let other_stream = with(AuditBody { stream: Stream::Workflow, ..ann.audit.clone() });
    for wrong in [&other_tenant, &other_stream] {
        let decided = o.registry.decide_approval(wrong, Verdict::Approved, Uuid::new_v4()).await;
        assert!(matches!(decided, Err(StoreError::Fault(_))), "{decided:?}");
        let claimed = o.registry.claim_approval(wrong, quarter(after(5))).await;
        assert!(matches!(claimed, Err(StoreError::Fault(_))), "{claimed:?}");
    }
    let unreasoned = with(AuditBody { reason: None, ..ann.audit.clone() });
    let decided = o.registry.decide_approval(&unreasoned, Verdict::Approved, Uuid::new_v4()).await;
    assert!(matches!(decided, Err(StoreError::Fault(_))), "{decided:?}");
    assert_eq!(o.approval(event).await, Approval::opened(after(0)));
    assert_eq!(o.record(event).await.unpublished, []);
    assert_eq!(o.decide(&ann, Verdict::Approved).await, Ok(()));
}

pub(super) async fn lists_are_newest_first_and_filtered(o: &Office) {
    let mut events = Vec::new();
    for n in 0..6 {
        events.push(o.decided(if n == 3 { "globex" } else { "acme" }, crate::office::HIGH, after(n * 1_000)).await);
    }
    o.decided("acme", PLAIN, after(0)).await;
    let ann = |n: usize| act("acme", events[n], "ann", PLAIN_POWERS, after(9_000));
    assert_eq!(o.decide(&ann(1), Verdict::Rejected).await, Ok(()));
    assert_eq!(o.registry.claim_approval(&ann(2), quarter(after(9_000))).await.expect("acts"), Ok(()));
    let list = async |of: Option<&str>, state, before: Option<usize>, limit| {
        let filter = ApprovalFilter { tenant: of.map(tenant), state, before: before.map(|n: usize| events[n]), limit };
        let lines = o.registry.list_approvals(&filter).await.expect("lists");
        let place = |line: &riskfleet::ports::approvals::ApprovalLine| {
            events.iter().position(|event| *event == line.event).expect("escalated here")
        };
        lines.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(list(None, ApprovalState::Open, None, 10).await, [5, 4, 3, 2, 0]);
    assert_eq!(list(Some("acme"), ApprovalState::Open, None, 2).await, [5, 4]);
    assert_eq!(list(Some("acme"), ApprovalState::Open, Some(4), 2).await, [2, 0]);
    assert_eq!(list(Some("globex"), ApprovalState::Open, None, 10).await, [3]);
    assert_eq!(list(None, ApprovalState::Claimed(after(9_001)), None, 10).await, [2]);
    assert!(list(None, ApprovalState::Claimed(quarter(after(9_000))), None, 10).await.is_empty());
    assert_eq!(list(None, ApprovalState::Overdue(Some(after(3_000))), None, 10).await, [3, 2, 0]);
    assert!(list(None, ApprovalState::Overdue(None), None, 10).await.is_empty());
    assert_eq!(list(Some("acme"), ApprovalState::Decided, None, 10).await, [1]);
    assert!(list(Some("globex"), ApprovalState::Decided, None, 10).await.is_empty());
    let decided = ApprovalFilter { tenant: None, state: ApprovalState::Decided, before: None, limit: 1 };
    let line = o.registry.list_approvals(&decided).await.expect("lists").remove(0);
    assert_eq!(line.approval, Approval { history: Vec::new(), ..o.approval(events[1]).await });
    let risen = o.registry.escalate_approval(&tenant("acme"), events[4], after(9_000), &ann(4).audit).await;
    assert!(risen.expect("acts"));
    assert_eq!(list(None, ApprovalState::Overdue(None), None, 10).await, [4], "what has risen stays overdue");
}

pub(super) async fn the_database_itself_keeps_verdicts_to_open_requests(o: &Office) {
    let (plain, event) = (o.decided("acme", PLAIN, after(0)).await, o.escalated("acme").await);
    let (columns, values, at) = match o.names_tenants() {
        true => (", tenant_id", ", 'acme'", "now()"),
        false => ("", "", "1700000000000"),
    };
    let insert = |values: &str| {
        format!(
            "INSERT INTO verdicts ({{events}}{columns}, verdict, decided_at, decided_by, reason) \
                 VALUES ({{event}}{values}, 0, {at}, 'eve', 'quietly')"
        )
    };
    assert!(o.sql(&insert(values), plain).await.is_err(), "no request was opened");
    if o.names_tenants() {
        assert!(o.sql(&insert(", 'globex'"), event).await.is_err(), "the request is another tenant's");
    }
    assert_eq!(o.decide(&act("acme", event, "ann", PLAIN_POWERS, after(5)), Verdict::Rejected).await, Ok(()));
    assert!(o.sql(&insert(values), event).await.is_err(), "it has its verdict");
    assert!(o.sql("UPDATE verdicts SET verdict = 0", event).await.is_err(), "a verdict is final");
    assert_eq!(o.approval(event).await.verdict, Some(Outcome::Rejected));
}
