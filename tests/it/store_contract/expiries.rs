//! Clauses of retention: what lets a day go, what keeps it, and what is true afterwards.

use riskfleet::domain::retention::{Day, Stay};
use riskfleet::domain::{AuditBody, Outcome, Scope, Stream, TenantId, time};
use riskfleet::ports::retention::{DropAct, Fate, Sweep, Swept};
use riskfleet::ports::store::{Accepted, Committed, DeadAct, Ledger, NewEvent};
use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::deaths::{discard, replay};
use super::fixture::{Fixture, Owner, approved, dead, decided, retry, tenant};
use super::tenancy::change;

fn drop_record() -> AuditBody {
    let (chain, at) = ((TenantId::platform(), Stream::Control), time::from_millis(1_700_000_000_000));
    AuditBody::new(chain, at, "retention", "day_dropped", ("day", "retention"))
}

/// The day that was `ago` days before today.
async fn day(f: &Fixture, ago: u32) -> Day {
    let today = Day::at(f.store.now().await.expect("reads"));
    Day::numbered(today.number() - ago)
}

async fn sweep(f: &Fixture, fleet_days: u32, drops_max: u32) -> Swept {
    let audit = drop_record();
    f.governed().sweep(Sweep { fleet_days, drops_max, audit: &audit }).await.expect("sweeps")
}

/// The days that went, and the codes of why the others stay.
fn told(swept: &Swept) -> BTreeMap<Day, Vec<&'static str>> {
    let codes = |fate: &Fate| match fate {
        Fate::Dropped(_) => vec!["dropped"],
        Fate::Goes => vec!["goes"],
        Fate::Stays(reasons) => reasons.iter().map(Stay::code).collect(),
    };
    swept.days.iter().map(|swept| (swept.facts.day, codes(&swept.fate))).collect()
}

async fn drop_day(f: &Fixture, day: Day, fleet_days: u32) -> DropAct {
    f.governed().drop_day(day, fleet_days, &drop_record()).await.expect("answers")
}

/// Everything of the day is decided, published and below the mark.
async fn quiet(f: &Fixture, owner: &mut Owner, events: &[NewEvent]) {
    let written = owner.commit(f, events.iter().map(approved).collect()).await;
    assert_eq!(written, vec![Committed::Written; events.len()]);
    f.settle().await;
    f.advance().await;
}

async fn stored(f: &Fixture, events: &[NewEvent]) -> usize {
    f.store.events(&events.iter().map(|event| event.id).collect::<Vec<_>>()).await.expect("reads").len()
}

pub(super) async fn a_day_goes_with_all_that_hangs_on_it_and_the_ledger_balances(f: &Fixture) {
    let mut owner = f.owner().await;
    let (old, young) = (day(f, 40).await, day(f, 20).await);
    let first = f.accepted_on(old, &tenant(1), 4).await;
    let second = f.accepted_on(old, &tenant(2), 2).await;
    let kept = f.accepted_on(young, &tenant(1), 3).await;
    let now = f.accepted(&tenant(1), 1).await;
    let ends =
        vec![approved(&first[0]), dead(&first[1]), decided(&first[2], Outcome::RequireApproval), approved(&first[3])];
    owner.commit(f, ends).await;
    assert!(f.give_verdict(&first[2], Outcome::Rejected).await);
    assert_eq!(discard(f, &first[1]).await, DeadAct::Done);
    owner.commit(f, second.iter().chain(&kept).map(approved).collect()).await;
    f.settle().await;
    f.advance().await;
    let before = f.ledger().await;
    assert_eq!(before, Ledger { accepted: 10, decided: 8, dead: 1, pending: 1 });
    let dry = sweep(f, 30, 0).await;
    assert_eq!(told(&dry), [(old, vec!["goes"]), (young, vec!["young"])].into());
    assert_eq!((dry.days[0].facts.events, dry.oldest_kept()), (Some(6), Some(old)));

    let swept = sweep(f, 30, 10).await;
    assert_eq!(told(&swept), [(old, vec!["dropped"]), (young, vec!["young"])].into());
    assert_eq!((swept.more, swept.oldest_kept()), (false, Some(young)));
    assert_eq!(f.ledger().await, before, "what is gone stays counted");
    assert_eq!((stored(f, &first).await, stored(f, &second).await), (0, 0));
    assert_eq!((stored(f, &kept).await, stored(f, &now).await), (3, 1));
    assert_eq!(f.store.event(&Scope::Fleet, first[2].id).await.expect("reads"), None);
    let gone = f.store.expired_day(old).await.expect("reads").expect("it is gone");
    assert_eq!((gone.events, gone.decisions), (6, 6));
    assert_eq!(f.store.expired_day(young).await.expect("reads"), None);
    let ranges = f.store.expired_ranges().await.expect("reads");
    assert!(ranges.of(first[0].id).is_some() && ranges.of(kept[0].id).is_none());

    // A key is remembered as long as its event, and no longer.
    let mut again = f.request(&tenant(1), first[0].key.as_str(), "another").await;
    assert_eq!(f.accept(std::slice::from_ref(&again)).await, [Accepted::Fresh]);
    again.key = kept[0].key.clone();
    again.id = f.mint().await;
    assert_eq!(f.accept(&[again]).await, [Accepted::Conflict { id: kept[0].id }]);

    // The audit keeps every record; what it speaks of is gone by right.
    let (mut missing, mut platform) = (0, Vec::new());
    for line in f.audit(100).await {
        let body: AuditBody = serde_json::from_str(&line.record.body).expect("readable");
        if line.record.tenant == TenantId::platform() {
            platform.push(body.new.expect("counts"));
        } else if line.event.is_none() {
            missing += 1;
            assert!(ranges.of(body.event_id.expect("an event")).is_some());
        }
    }
    assert_eq!(missing, 7, "six ends and a discard");
    let want = serde_json::json!({"day": old.to_string(), "events": 6, "decisions": 6});
    assert_eq!(platform, [want]);
    assert_eq!(told(&sweep(f, 30, 10).await), [(young, vec!["young"])].into());
    assert_eq!(drop_day(f, old, 30).await, DropAct::Gone);
}

pub(super) async fn each_reason_keeps_a_day_and_its_end_lets_it_go(f: &Fixture) {
    let mut owner = f.owner().await;
    let codes = ["dead_letters", "approvals", "unpublished", "held", "waiting", "above_mark"];
    let (mut days, mut events) = (Vec::new(), Vec::new());
    for n in 0..codes.len() {
        days.push(day(f, 60 - n as u32).await);
        events.extend(f.accepted_on(days[n], &tenant(n), 1).await);
    }
    let young = day(f, 10).await;
    f.settle().await;
    owner.commit(f, vec![dead(&events[0]), decided(&events[1], Outcome::RequireApproval)]).await;
    owner.commit(f, vec![approved(&events[3])]).await;
    f.settle().await;
    owner.commit(f, vec![approved(&events[2])]).await;
    owner.postpone(vec![retry(&events[4], Duration::ZERO)]).await;
    f.governed().hold(&tenant(3), &change(&tenant(3), "hold_set", "case 7")).await.expect("holds");
    f.advance().await;
    let before = f.ledger().await;

    let want: BTreeMap<Day, Vec<&str>> = days.iter().zip(codes).map(|(day, code)| (*day, vec![code])).collect();
    assert_eq!(told(&sweep(f, 30, 10).await), want);
    for (day, code) in days.iter().zip(codes) {
        let DropAct::Stays(reasons) = drop_day(f, *day, 30).await else { panic!("{code}: it went") };
        assert_eq!(reasons.iter().map(Stay::code).collect::<Vec<_>>(), [code]);
        // A day is not let go by a wrong retention either.
        assert!(matches!(drop_day(f, *day, 0).await, DropAct::Stays(_)));
    }
    assert!(matches!(drop_day(f, young, 30).await, DropAct::Stays(_)));
    assert_eq!((stored(f, &events).await, f.ledger().await), (6, before));

    assert_eq!(discard(f, &events[0]).await, DeadAct::Done);
    assert!(f.give_verdict(&events[1], Outcome::Approved).await);
    f.governed().release(&tenant(3), &change(&tenant(3), "hold_released", "settled")).await.expect("releases");
    owner.commit(f, vec![approved(&events[4]), approved(&events[5])]).await;
    f.settle().await;
    f.advance().await;
    let before = f.ledger().await;
    let want: BTreeMap<Day, Vec<&str>> = days.iter().map(|day| (*day, vec!["dropped"])).collect();
    assert_eq!(told(&sweep(f, 30, 10).await), want);
    assert_eq!((stored(f, &events).await, f.ledger().await), (0, before));
    assert_eq!(f.ledger().await, Ledger { accepted: 6, decided: 5, dead: 1, pending: 0 });
    assert_eq!(replay(f, &events[0]).await, DeadAct::Unknown, "what is gone is not replayed");
}

pub(super) async fn the_longest_retention_of_a_days_tenants_counts(f: &Fixture) {
    let mut owner = f.owner().await;
    let (alone, shared) = (day(f, 50).await, day(f, 40).await);
    let mut events = f.accepted_on(alone, &tenant(1), 2).await;
    events.extend(f.accepted_on(shared, &tenant(1), 1).await);
    events.extend(f.accepted_on(shared, &tenant(2), 1).await);
    quiet(f, &mut owner, &events).await;
    let set = async |n, days| {
        let act = f.governed().set_retention(&tenant(n), days, &change(&tenant(n), "retention_set", "x")).await;
        act.expect("sets");
    };
    assert_eq!(told(&sweep(f, 0, 0).await), [(alone, vec!["for_ever"]), (shared, vec!["for_ever"])].into());
    set(1, Some(10)).await;
    assert_eq!(told(&sweep(f, 0, 0).await), [(alone, vec!["goes"]), (shared, vec!["for_ever"])].into());
    assert_eq!(told(&sweep(f, 100, 0).await), [(alone, vec!["goes"]), (shared, vec!["young"])].into());
    set(2, Some(39)).await;
    assert_eq!(told(&sweep(f, 0, 0).await), [(alone, vec!["goes"]), (shared, vec!["goes"])].into());
    set(2, Some(40)).await;
    let dry = sweep(f, 30, 0).await;
    assert_eq!(dry.days[1].fate, Fate::Stays(vec![Stay::Young(shared.plus(41))]));
    set(1, Some(0)).await;
    assert_eq!(told(&sweep(f, 30, 5).await), [(alone, vec!["for_ever"]), (shared, vec!["for_ever"])].into());
    set(1, None).await;
    set(2, None).await;
    let one = sweep(f, 30, 1).await;
    assert_eq!((told(&one), one.more), ([(alone, vec!["dropped"]), (shared, vec!["goes"])].into(), true));
}

pub(super) async fn a_hold_between_the_look_and_the_drop_is_kept(f: &Fixture) {
    let mut owner = f.owner().await;
    let old = day(f, 40).await;
    let events = f.accepted_on(old, &tenant(1), 3).await;
    quiet(f, &mut owner, &events).await;
    assert_eq!(told(&sweep(f, 30, 0).await), [(old, vec!["goes"])].into());
    f.governed().hold(&tenant(1), &change(&tenant(1), "hold_set", "case 7")).await.expect("holds");
    assert_eq!(drop_day(f, old, 30).await, DropAct::Stays(vec![Stay::Held(vec![tenant(1)])]));
    assert_eq!(stored(f, &events).await, 3);
    assert_eq!(f.control(&TenantId::platform()).await, 0, "what stays is no record");
    f.governed().release(&tenant(1), &change(&tenant(1), "hold_released", "over")).await.expect("releases");
    assert!(matches!(drop_day(f, old, 30).await, DropAct::Dropped(_)));
    assert_eq!(stored(f, &events).await, 0);
}

pub(super) async fn a_hold_beside_a_drop_is_kept_or_comes_too_late(f: &Fixture) {
    let mut owner = f.owner().await;
    let mut days = Vec::new();
    for n in 0..6 {
        let old = day(f, 40 + n).await;
        days.push((old, f.accepted_on(old, &tenant(n as usize), 3).await));
    }
    let all: Vec<NewEvent> = days.iter().flat_map(|(_, events)| events.clone()).collect();
    quiet(f, &mut owner, &all).await;
    for (n, (old, events)) in (0_u64..).zip(&days) {
        let of = events[0].tenant.clone();
        let holding = async {
            tokio::time::sleep(Duration::from_millis(n * 4)).await;
            f.governed().hold(&of, &change(&of, "hold_set", "case 7")).await.expect("holds");
            stored(f, events).await
        };
        let (there, act) = tokio::join!(holding, drop_day(f, *old, 30));
        let left = stored(f, events).await;
        match act {
            DropAct::Stays(reasons) => assert_eq!((reasons, left), (vec![Stay::Held(vec![of.clone()])], 3)),
            // SQLite deletes the rows of a day that is gone bit by bit.
            DropAct::Dropped(_) => assert!(left == 0 && (there == 0 || f.clock().is_some()), "{there} after the hold"),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) async fn accepts_and_commits_go_on_while_a_day_goes(f: &Fixture) {
    let mut owner = f.owner().await;
    let days = [day(f, 45).await, day(f, 44).await, day(f, 43).await];
    let mut old = Vec::new();
    for day in days {
        old.extend(f.accepted_on(day, &tenant(1), 1_500).await);
    }
    for part in old.chunks(500) {
        owner.commit(f, part.iter().map(approved).collect()).await;
    }
    f.settle().await;
    f.advance().await;
    let over = AtomicBool::new(false);
    let load = async {
        let (mut worst, mut rounds) = (Duration::ZERO, 0);
        while !over.load(Ordering::Relaxed) || rounds == 0 {
            let began = Instant::now();
            let events = f.accepted(&tenant(2), 20).await;
            let written = owner.commit(f, events.iter().map(approved).collect()).await;
            assert_eq!(written, vec![Committed::Written; 20]);
            worst = worst.max(began.elapsed());
            rounds += 1;
        }
        (worst, rounds)
    };
    let dropping = async {
        let mut took = Vec::new();
        for day in days {
            let began = Instant::now();
            assert!(matches!(drop_day(f, day, 30).await, DropAct::Dropped(_)));
            took.push(began.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        took
    };
    let ((worst, rounds), took) = tokio::join!(load, dropping);
    eprintln!("drops took {took:?}; of {rounds} accepts with their commits the longest took {worst:?}");
    // Three tries of 100 ms each are what an accept may wait behind, and the machine is shared.
    assert!(worst < Duration::from_secs(3), "{worst:?}");
    let ledger = f.ledger().await;
    assert_eq!((ledger.accepted, ledger.pending), (4_500 + 20 * rounds, 0));
    assert_eq!(stored(f, &old).await, 0);
}

pub(super) async fn of_many_sweeps_at_once_each_day_goes_once(f: &Fixture) {
    let mut owner = f.owner().await;
    let mut events = Vec::new();
    for ago in 40..44 {
        events.extend(f.accepted_on(day(f, ago).await, &tenant(1), 5).await);
    }
    quiet(f, &mut owner, &events).await;
    let swept = tokio::join!(sweep(f, 30, 9), sweep(f, 30, 9), sweep(f, 30, 9));
    let dropped = [&swept.0, &swept.1, &swept.2].into_iter().map(|swept| swept.dropped().count()).sum::<usize>();
    let rest = sweep(f, 30, 9).await.dropped().count();
    assert_eq!((dropped + rest, f.control(&TenantId::platform()).await), (4, 4));
    assert_eq!(stored(f, &events).await, 0);
}

/// Small numbers in an order that a seed fixes (Marsaglia, "Xorshift RNGs", 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// How an event of the model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Decided,
    Discarded,
    Dead,
    Judged,
    Escalated,
    Waiting,
}

impl State {
    const ALL: [Self; 6] = [Self::Decided, Self::Discarded, Self::Dead, Self::Judged, Self::Escalated, Self::Waiting];

    fn open(self) -> bool {
        matches!(self, Self::Dead | Self::Escalated | Self::Waiting)
    }

    async fn bring_about(self, f: &Fixture, owner: &mut Owner, event: &NewEvent) {
        let end = match self {
            Self::Decided => approved(event),
            Self::Discarded | Self::Dead => dead(event),
            Self::Judged | Self::Escalated => decided(event, Outcome::RequireApproval),
            Self::Waiting => {
                owner.postpone(vec![retry(event, Duration::ZERO)]).await;
                return;
            }
        };
        owner.commit(f, vec![end]).await;
        match self {
            Self::Discarded => assert_eq!(discard(f, event).await, DeadAct::Done),
            Self::Judged => assert!(f.give_verdict(event, Outcome::Approved).await),
            Self::Decided | Self::Dead | Self::Escalated | Self::Waiting => {}
        }
    }
}

pub(super) async fn a_sweep_takes_what_a_naive_model_takes(f: &Fixture) {
    let (mut owner, mut dice) = (f.owner().await, Dice(0x5eed_2026_1122));
    let mut model: Vec<(u32, usize, State, NewEvent)> = Vec::new();
    for ago in 20..44 {
        for _ in 0..1 + dice.below(2) {
            let of = dice.below(4) as usize;
            // Mostly quiet, or nothing would ever go.
            let state = if dice.below(4) > 0 { State::Decided } else { State::ALL[dice.below(6) as usize] };
            let event = f.accepted_on(day(f, ago).await, &tenant(of), 1).await.remove(0);
            state.bring_about(f, &mut owner, &event).await;
            model.push((ago, of, state, event));
        }
    }
    f.settle().await;
    f.advance().await;
    let (mut holds, mut own) = ([false; 4], [None; 4]);
    for round in 0..6 {
        let n = dice.below(4) as usize;
        let days = [None, Some(0), Some(22), Some(30)][dice.below(4) as usize];
        let act = f.governed().set_retention(&tenant(n), days, &change(&tenant(n), "retention_set", "x")).await;
        act.expect("sets");
        own[n] = days;
        let held = dice.below(4) as usize;
        holds[held] = !holds[held];
        let audit = change(&tenant(held), "hold", "x");
        let registry = f.governed();
        let act = if holds[held] {
            registry.hold(&tenant(held), &audit).await
        } else {
            registry.release(&tenant(held), &audit).await
        };
        act.expect("changes");
        let fleet_days = [0, 20, 25, 35][dice.below(4) as usize];
        let before = f.ledger().await;
        sweep(f, fleet_days, 3).await;
        assert_eq!(f.ledger().await, before, "round {round}");
        let mut gone = Vec::new();
        for ago in (20..44).rev() {
            let of_day = || model.iter().filter(|event| event.0 == ago);
            let kept = |of: usize| own[of].unwrap_or(fleet_days);
            let protected =
                of_day().any(|(ago, of, state, _)| state.open() || holds[*of] || kept(*of) == 0 || *ago <= kept(*of));
            if of_day().next().is_some() && !protected && gone.len() < 3 {
                gone.push(ago);
            }
        }
        model.retain(|event| {
            let goes = gone.contains(&event.0);
            !goes || event.2.open()
        });
        let ids: Vec<NewEvent> = model.iter().map(|event| event.3.clone()).collect();
        assert_eq!(stored(f, &ids).await, ids.len(), "round {round}: nothing that a rule protects is gone");
        for ago in gone {
            let day = day(f, ago).await;
            assert!(f.store.expired_day(day).await.expect("reads").is_some(), "round {round}: {day} is gone");
        }
    }
}

/// The one way in which a day goes runs in its owner's name: it must find its own tables, whatever
/// its caller's search path says, and nobody may call it to whom it was not given.
#[tokio::test]
async fn the_function_that_drops_trusts_no_caller() {
    let f = super::fixture::postgres().await;
    super::fixture::run(f, async |f| {
        let (url, namespace) = f.schema();
        let mut caller = PgConnection::connect(url).await.expect("connects");
        let decoy = "CREATE TEMP TABLE fleet (mark uuid); CREATE TEMP TABLE expired_days (day date);
                     SET search_path = pg_temp, pg_catalog;";
        sqlx::raw_sql(decoy).execute(&mut caller).await.expect("prepares");
        let call = format!("SELECT {namespace}.drop_day('2020-01-01', 30)");
        let refused = sqlx::query(AssertSqlSafe(call)).execute(&mut caller).await.expect_err("the mark is at 0");
        let code = refused.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned);
        assert_eq!(code.as_deref(), Some("RF007"), "{refused}");
        let public = format!(
            "SELECT count(*) FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a
             WHERE p.oid = '{namespace}.drop_day(date, integer)'::regprocedure AND a.grantee = 0"
        );
        let public: i64 = sqlx::query_scalar(AssertSqlSafe(public)).fetch_one(&mut caller).await.expect("reads");
        assert_eq!(public, 0, "only its owner may call it");
    })
    .await;
}
