//! Any sequence of acts on a request, held against a model that is too simple to be wrong.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use riskfleet::domain::approval::{Level, Refusal, Verdict};
use riskfleet::domain::{EventId, Outcome};
use riskfleet::ports::approvals::{Acted, ApprovalAct};

use crate::office::{ADMIN_POWERS, Office, PLAIN_POWERS, act, after};

/// The last of them is an administrator.
const PEOPLE: [&str; 3] = ["ann", "bob", "root"];

#[derive(Debug, Clone, Copy)]
enum Do {
    Claim { who: usize, minutes: i64 },
    Release { who: usize },
    Decide { who: usize, approve: bool },
    Comment { who: usize },
    Escalate,
    Pass { minutes: i64 },
}

fn doing() -> impl Strategy<Value = Do> {
    let who = || 0..PEOPLE.len();
    prop_oneof![
        4 => (who(), 1..30_i64).prop_map(|(who, minutes)| Do::Claim { who, minutes }),
        2 => who().prop_map(|who| Do::Release { who }),
        1 => (who(), any::<bool>()).prop_map(|(who, approve)| Do::Decide { who, approve }),
        2 => who().prop_map(|who| Do::Comment { who }),
        1 => Just(Do::Escalate),
        3 => (0..20_i64).prop_map(|minutes| Do::Pass { minutes }),
    ]
}

/// What is known without looking.
struct Model {
    now: DateTime<Utc>,
    second: bool,
    claim: Option<(usize, DateTime<Utc>)>,
    verdict: Option<(Outcome, usize)>,
    /// Records in the control chain.
    written: usize,
    steps: Vec<&'static str>,
}

impl Model {
    /// Who else holds a claim now.
    fn foreign(&self, who: usize) -> bool {
        who != 2 && self.claim.is_some_and(|(holder, until)| until > self.now && holder != who)
    }

    fn may(&self, who: usize, decides: bool) -> &'static str {
        if self.verdict.is_some() {
            "decided"
        } else if decides && self.second && who != 2 {
            "second"
        } else if self.foreign(who) {
            "claimed"
        } else {
            "done"
        }
    }

    fn expect(&mut self, doing: Do) -> &'static str {
        let want = match doing {
            Do::Claim { who, .. } | Do::Decide { who, .. } => self.may(who, true),
            Do::Release { who } => match self.may(who, false) {
                "done" if self.claim.is_none_or(|(_, until)| until <= self.now) => "free",
                other => other,
            },
            Do::Comment { .. } => "done",
            Do::Escalate if self.verdict.is_some() || self.second => "nothing",
            Do::Escalate | Do::Pass { .. } => "done",
        };
        if want == "done" {
            self.apply(doing);
        }
        want
    }

    fn apply(&mut self, doing: Do) {
        self.written += usize::from(!matches!(doing, Do::Pass { .. }));
        match doing {
            Do::Claim { who, minutes } => {
                self.claim = Some((who, self.now + TimeDelta::minutes(minutes)));
                self.steps.push("claimed");
            }
            Do::Release { .. } => {
                self.claim = None;
                self.steps.push("released");
            }
            Do::Decide { who, approve } => self.verdict = Some((verdict(approve).outcome(), who)),
            Do::Comment { .. } => self.steps.push("commented"),
            Do::Escalate => {
                (self.second, self.claim) = (true, None);
                self.steps.push("escalated");
            }
            Do::Pass { minutes } => self.now += TimeDelta::minutes(minutes),
        }
    }
}

fn verdict(approve: bool) -> Verdict {
    if approve { Verdict::Approved } else { Verdict::Rejected }
}

fn word(acted: &Acted) -> &'static str {
    match acted {
        Ok(()) => "done",
        Err(Refusal::AlreadyDecided { .. }) => "decided",
        Err(Refusal::Claimed { .. }) => "claimed",
        Err(Refusal::SecondLevel) => "second",
        Err(Refusal::NotClaimed) => "free",
        Err(Refusal::NotEscalated) => "none",
        Err(Refusal::Full(_)) => "full",
    }
}

async fn perform(o: &Office, event: EventId, now: DateTime<Utc>, doing: Do) -> &'static str {
    let by = |who: usize| -> ApprovalAct {
        act("acme", event, PEOPLE[who], if who == 2 { ADMIN_POWERS } else { PLAIN_POWERS }, now)
    };
    let registry = &o.registry;
    match doing {
        Do::Claim { who, minutes } => {
            word(&registry.claim_approval(&by(who), now + TimeDelta::minutes(minutes)).await.expect("acts"))
        }
        Do::Release { who } => word(&registry.release_approval(&by(who)).await.expect("acts")),
        Do::Decide { who, approve } => word(&o.decide(&by(who), verdict(approve)).await),
        Do::Comment { who } => word(&registry.comment_approval(&by(who), "so it is").await.expect("acts")),
        Do::Escalate => {
            let act = by(0);
            match registry.escalate_approval(&act.tenant, event, now, &act.audit).await.expect("acts") {
                true => "done",
                false => "nothing",
            }
        }
        Do::Pass { .. } => "done",
    }
}

async fn agrees(o: &Office, doings: &[Do]) {
    let (event, before) = (o.escalated("acme").await, o.control("acme").await.len());
    let mut model = Model { now: after(0), second: false, claim: None, verdict: None, written: 0, steps: Vec::new() };
    for doing in doings {
        let now = model.now;
        let want = model.expect(*doing);
        assert_eq!(perform(o, event, now, *doing).await, want, "{doing:?} at {now}");
    }
    let approval = o.approval(event).await;
    let given = approval.verdict.zip(approval.decided_by);
    assert_eq!(given, model.verdict.map(|(outcome, who)| (outcome, PEOPLE[who].to_owned())));
    assert_eq!(approval.level == Level::Second, model.second);
    let claim = approval.claim.map(|claim| (claim.by, claim.until));
    assert_eq!(claim, model.claim.map(|(who, until)| (PEOPLE[who].to_owned(), until)));
    let steps: Vec<&str> = approval.history.iter().map(|past| past.step.as_str()).collect();
    assert_eq!(steps, model.steps);
    assert_eq!(o.control("acme").await.len() - before, model.written, "a record an act, and none without");
}

/// Runs seeded sequences against the model; the shortest one that disagrees is shown.
pub(super) fn any_sequence_agrees(open: impl AsyncFnOnce() -> Office) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let office = runtime.block_on(open());
    let config =
        Config { cases: 40, rng_seed: RngSeed::Fixed(20_261_122), failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&prop::collection::vec(doing(), 1..30), |doings| {
        let agreed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(agrees(&office, &doings));
        }));
        agreed.map_err(|_| TestCaseError::fail("store and model disagree; the panic above says where"))
    });
    checked.unwrap_or_else(|e| panic!("{e}"));
}
