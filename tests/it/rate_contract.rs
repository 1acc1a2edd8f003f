//! The contract of `RateMeter`, on Redis and in process; what holds for any sequence of asks; and
//! the process's own count stepping in for the shared one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use riskfleet::adapters::redis::{RedisConfig, RedisRate};
use riskfleet::domain::TenantId;
use riskfleet::ports::rate::{RateError, WINDOW};
use riskfleet::ports::{Clock, Pace, RateLimits, RateMeter};
use riskfleet::resilience::{LocalRate, SharedRate};

use crate::context_contract::delete_keys;
use crate::harness::{namespace, redis_url};

/// Within 100 normal, within 300 bulk, in any two seconds.
const LIMITS: RateLimits = RateLimits { bulk_above: 100, refuse_above: Some(300) };

/// What the tests need beside the port: meters with limits of their own, and that time passes.
#[async_trait]
trait Bench {
    fn meter(&self, limits: RateLimits) -> Box<dyn RateMeter>;
    async fn pass(&self, time: Duration);
}

/// Runs a test of the contract on both meters.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod in_process {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::InProcess::default()).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let server = super::Server(super::namespace());
                super::$name(&server).await;
                super::delete_keys(&server.0).await;
            })*
        }
    };
}

on_both!(
    rates_are_judged_by_both_thresholds,
    what_is_refused_is_not_counted,
    asks_of_a_batch_are_judged_in_order_and_whole,
    no_tenant_changes_anothers_answers,
    what_would_never_fit_is_taken_alone,
    without_a_bound_nobody_is_refused,
    retry_after_suffices_and_nothing_less_does,
    a_batch_of_a_great_many_tenants_is_answered,
);

#[derive(Default)]
struct HandClock(Mutex<Duration>);

impl HandClock {
    fn pass(&self, time: Duration) {
        *self.0.lock().expect("no test panics while it holds the clock") += time;
    }
}

impl Clock for HandClock {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::UNIX_EPOCH + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().expect("no test panics while it holds the clock")
    }
}

#[derive(Default)]
struct InProcess(Arc<HandClock>);

#[async_trait]
impl Bench for InProcess {
    fn meter(&self, limits: RateLimits) -> Box<dyn RateMeter> {
        Box::new(LocalRate::new(limits, LocalRate::TENANTS_MAX, self.0.clone()))
    }

    async fn pass(&self, time: Duration) {
        self.0.pass(time);
    }
}

struct Server(String);

#[async_trait]
impl Bench for Server {
    fn meter(&self, limits: RateLimits) -> Box<dyn RateMeter> {
        let config = RedisConfig { url: redis_url().into(), namespace: self.0.clone() };
        Box::new(RedisRate::new(&config, limits).expect("an address"))
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

fn tenant(n: usize) -> TenantId {
    TenantId::parse(&format!("tenant-{n}")).expect("legal")
}

/// Asks for tenants by number, in one batch.
async fn ask(meter: &dyn RateMeter, wanted: &[(usize, u32)]) -> Vec<Pace> {
    let wanted: Vec<(TenantId, u32)> = wanted.iter().map(|(n, events)| (tenant(*n), *events)).collect();
    let paces = meter.take(&wanted).await.expect("an answer");
    assert_eq!(paces.len(), wanted.len());
    paces
}

/// The answer without its time.
fn kind(pace: &Pace) -> char {
    match pace {
        Pace::Normal => 'n',
        Pace::Bulk => 'b',
        Pace::Refused { retry_after } => {
            assert!(
                *retry_after > Duration::ZERO && *retry_after <= WINDOW + Duration::from_secs(1),
                "{retry_after:?}"
            );
            'r'
        }
    }
}

async fn kinds(meter: &dyn RateMeter, wanted: &[(usize, u32)]) -> String {
    ask(meter, wanted).await.iter().map(kind).collect()
}

async fn rates_are_judged_by_both_thresholds(bench: &dyn Bench) {
    let meter = bench.meter(LIMITS);
    assert_eq!(kinds(&*meter, &[(0, 100)]).await, "n");
    assert_eq!(kinds(&*meter, &[(0, 1)]).await, "b");
    assert_eq!(kinds(&*meter, &[(0, 199)]).await, "b");
    assert_eq!(kinds(&*meter, &[(0, 1)]).await, "r");
    assert_eq!(kinds(&*meter, &[]).await, "");
}

async fn what_is_refused_is_not_counted(bench: &dyn Bench) {
    let meter = bench.meter(LIMITS);
    assert_eq!(kinds(&*meter, &[(0, 50)]).await, "n");
    for _ in 0..20 {
        assert_eq!(kinds(&*meter, &[(0, 251)]).await, "r");
    }
    assert_eq!(kinds(&*meter, &[(0, 50)]).await, "n");
    assert_eq!(kinds(&*meter, &[(0, 200)]).await, "b");
}

async fn asks_of_a_batch_are_judged_in_order_and_whole(bench: &dyn Bench) {
    let meter = bench.meter(LIMITS);
    let batch = [(0, 90), (1, 10), (0, 20), (0, 191), (0, 190), (1, 90), (0, 1)];
    assert_eq!(kinds(&*meter, &batch).await, "nnbrbnr");
}

async fn no_tenant_changes_anothers_answers(bench: &dyn Bench) {
    let meter = bench.meter(LIMITS);
    for _ in 0..10 {
        let paces = kinds(&*meter, &[(0, 150), (1, 10), (0, 150)]).await;
        assert_eq!(paces.chars().nth(1), Some('n'), "{paces}");
    }
    assert_eq!(kinds(&*meter, &[(1, 1), (2, 100), (0, 1)]).await, "bnr");
}

async fn what_would_never_fit_is_taken_alone(bench: &dyn Bench) {
    let meter = bench.meter(LIMITS);
    assert_eq!(kinds(&*meter, &[(0, 1), (0, 5_000)]).await, "nr");
    assert_eq!(kinds(&*meter, &[(1, 5_000), (1, 1)]).await, "br");
}

async fn without_a_bound_nobody_is_refused(bench: &dyn Bench) {
    let meter = bench.meter(RateLimits { bulk_above: 100, refuse_above: None });
    assert_eq!(kinds(&*meter, &[(0, 100), (0, 4_000_000_000), (0, 4_000_000_000)]).await, "nbb");
}

async fn retry_after_suffices_and_nothing_less_does(bench: &dyn Bench) {
    let meter = bench.meter(LIMITS);
    assert_eq!(kinds(&*meter, &[(0, 200)]).await, "b");
    bench.pass(Duration::from_millis(1_100)).await;
    assert_eq!(kinds(&*meter, &[(0, 100)]).await, "b");
    let refused = ask(&*meter, &[(0, 150)]).await;
    let Pace::Refused { retry_after } = refused[0] else { panic!("{refused:?}") };
    // The first 200 have to leave, not the 100 after them.
    assert!(retry_after > Duration::from_millis(800) && retry_after < Duration::from_secs(2), "{retry_after:?}");
    let early = Duration::from_millis(500);
    bench.pass(retry_after - early).await;
    assert_eq!(kinds(&*meter, &[(0, 150)]).await, "r");
    bench.pass(early).await;
    assert_eq!(kinds(&*meter, &[(0, 150)]).await, "b");
    assert_eq!(kinds(&*meter, &[(0, 51)]).await, "r", "the 100 are still there");
}

async fn a_batch_of_a_great_many_tenants_is_answered(bench: &dyn Bench) {
    let meter = bench.meter(LIMITS);
    let many: Vec<(usize, u32)> = (0..2_500).map(|n| (n, 101)).collect();
    assert_eq!(kinds(&*meter, &many).await, "b".repeat(2_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_redis_share_the_limit() {
    let server = Server(namespace());
    let (one, other) = (server.meter(LIMITS), server.meter(LIMITS));
    assert_eq!(kinds(&*one, &[(0, 100)]).await, "n");
    assert_eq!(kinds(&*other, &[(0, 150)]).await, "b");
    assert_eq!((kinds(&*one, &[(0, 51)]).await, kinds(&*other, &[(0, 50)]).await), ("r".into(), "b".into()));
    delete_keys(&server.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_as_the_process_would() {
    let server = Server(namespace());
    let (shared, local) = (server.meter(LIMITS), InProcess::default().meter(LIMITS));
    // Pseudo-random by Knuth's multiplier, the same in every run.
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for _ in 0..60 {
        let batch: Vec<(usize, u32)> = (0..next(20)).map(|_| (next(30) as usize, next(80) as u32)).collect();
        assert_eq!(kinds(&*shared, &batch).await, kinds(&*local, &batch).await, "{batch:?}");
    }
    delete_keys(&server.0).await;
}

/// One step of a sequence: so much later, this tenant asks for so many.
type Step = (u64, usize, u32);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..2_500_u64, 0..3_usize, 1..=300_u32), 1..60)
}

struct Asked {
    at: Duration,
    tenant: usize,
    events: u32,
    pace: Pace,
}

/// Runs a sequence on a new meter; gives the answers, the meter and its clock.
fn run(steps: &[Step]) -> (Vec<Asked>, LocalRate, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    let meter = LocalRate::new(LIMITS, LocalRate::TENANTS_MAX, clock.clone());
    let mut asked = Vec::new();
    for (later, tenant, events) in steps {
        clock.pass(Duration::from_millis(*later));
        let pace = now(&meter, *tenant, *events);
        asked.push(Asked { at: clock.elapsed(), tenant: *tenant, events: *events, pace });
    }
    (asked, meter, clock)
}

fn now(meter: &LocalRate, who: usize, events: u32) -> Pace {
    meter.take(&[(tenant(who), events)]).now_or_never().expect("at once").expect("in process")[0]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        // The same sequences on every machine: what is red here is red everywhere.
        rng_seed: RngSeed::Fixed(20_261_122),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_window_holds_more_than_the_limit(steps in steps()) {
        let (asked, _, _) = run(&steps);
        let taken: Vec<&Asked> = asked.iter().filter(|a| !matches!(a.pace, Pace::Refused { .. })).collect();
        for last in &taken {
            let window = taken.iter().filter(|a| a.tenant == last.tenant && a.at <= last.at && a.at + WINDOW > last.at);
            let events: u64 = window.map(|a| u64::from(a.events)).sum();
            prop_assert!(events <= 300, "{events} in the window that ends at {:?}", last.at);
        }
    }

    #[test]
    fn a_tenant_is_answered_as_if_it_were_alone(steps in steps()) {
        let (mixed, _, _) = run(&steps);
        for who in 0..3 {
            let mut alone: Vec<Step> = Vec::new();
            let mut later = 0;
            for (wait, tenant, events) in &steps {
                later += wait;
                if *tenant == who {
                    alone.push((later, who, *events));
                    later = 0;
                }
            }
            let own: Vec<Pace> = mixed.iter().filter(|a| a.tenant == who).map(|a| a.pace).collect();
            let want: Vec<Pace> = run(&alone).0.iter().map(|a| a.pace).collect();
            prop_assert_eq!(own, want);
        }
    }

    #[test]
    fn who_waits_as_told_is_taken(steps in steps()) {
        for until in 1..=steps.len() {
            let (asked, meter, clock) = run(&steps[..until]);
            let last = &asked[until - 1];
            if let Pace::Refused { retry_after } = last.pace {
                clock.pass(retry_after);
                let again = now(&meter, last.tenant, last.events);
                prop_assert!(!matches!(again, Pace::Refused { .. }), "after {retry_after:?}: {again:?}");
            }
        }
    }
}

#[tokio::test]
async fn tenants_in_the_process_are_bounded_and_idle_ones_make_room() {
    let clock = Arc::new(HandClock::default());
    clock.pass(Duration::from_secs(100));
    let meter = LocalRate::new(LIMITS, 2, clock.clone());
    assert_eq!(kinds(&meter, &[(0, 1), (1, 1), (2, 1), (2, 1_000), (2, 1_000)]).await, "nnbbb");
    assert_eq!(kinds(&meter, &[(0, 100)]).await, "b", "those that have a place are counted");
    clock.pass(Duration::from_secs(11));
    assert_eq!(kinds(&meter, &[(2, 1), (3, 1), (4, 1)]).await, "nnb");
}

/// A shared meter that answers, fails or hangs.
#[derive(Default)]
struct Moody {
    fails: AtomicBool,
    hangs: AtomicBool,
    asked: AtomicUsize,
}

#[async_trait]
impl RateMeter for Moody {
    async fn take(&self, wanted: &[(TenantId, u32)]) -> Result<Vec<Pace>, RateError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            futures::future::pending::<()>().await;
        }
        match self.fails.load(Ordering::SeqCst) {
            true => Err(RateError("no connection".into())),
            false => Ok(vec![Pace::Normal; wanted.len()]),
        }
    }
}

#[tokio::test]
async fn the_process_counts_by_itself_while_the_shared_meter_is_away() {
    let (clock, moody) = (Arc::new(HandClock::default()), Arc::new(Moody::default()));
    let local = LocalRate::new(LIMITS, 10, clock.clone());
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let tell = Box::new(move |shared| hears.lock().expect("held").push(shared));
    let meter = SharedRate::new(moody.clone(), local, clock.clone(), tell);
    let asked = || moody.asked.load(Ordering::SeqCst);
    assert_eq!(kinds(&meter, &[(0, 250)]).await, "n", "as the shared one says");
    moody.fails.store(true, Ordering::SeqCst);
    assert_eq!(kinds(&meter, &[(0, 250)]).await, "b", "as the process counts");
    for _ in 0..50 {
        assert_eq!(kinds(&meter, &[(0, 250)]).await, "r");
    }
    assert_eq!(asked(), 2, "one that is away is left alone");
    clock.pass(Duration::from_secs(3));
    moody.hangs.store(true, Ordering::SeqCst);
    let began = std::time::Instant::now();
    assert_eq!(kinds(&meter, &[(1, 1)]).await, "n");
    assert!(began.elapsed() < Duration::from_secs(2), "a caller waits for the answer");
    clock.pass(Duration::from_secs(3));
    moody.hangs.store(false, Ordering::SeqCst);
    moody.fails.store(false, Ordering::SeqCst);
    assert_eq!(kinds(&meter, &[(0, 250)]).await, "n", "it is back");
    assert_eq!(asked(), 4);
    assert_eq!(*told.lock().expect("held"), [true, false, true], "each change once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_not_there_is_an_error_in_time() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let config = RedisConfig { url: format!("redis://{free}").into(), namespace: namespace() };
    let meter = RedisRate::new(&config, LIMITS).expect("an address");
    let began = std::time::Instant::now();
    assert!(meter.take(&[(tenant(0), 1)]).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
