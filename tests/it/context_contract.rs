//! The contract of `ContextSource`, on Redis and in process.

use std::collections::BTreeMap;

use riskfleet::adapters::memory::context::{ContextLimits, MemoryContext};
use riskfleet::adapters::redis::{RedisConfig, RedisContext};
use riskfleet::domain::context::{Observation, SLACK_MS, SUBJECT_EVENTS_MAX, Subject24h, WINDOW_MS};
use riskfleet::domain::event::AMOUNT_MAX;
use riskfleet::domain::time::from_millis;
use riskfleet::domain::{EventId, TenantId};
use riskfleet::ports::ContextSource;

use crate::harness::{namespace, redis_url};

const NOON: u64 = 1_763_726_400_000;
const HOUR: u64 = 3_600_000;

/// Runs a test of the contract on both adapters.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&super::MemoryContext::new(super::ContextLimits::default())).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let server = super::Server::new();
                super::$name(&server.context).await;
                server.clean().await;
            })*
        }
    };
}

on_both!(
    counts_itself_and_what_came_before,
    batch_mates_with_smaller_ids_count,
    an_event_counts_once,
    the_window_is_open_at_its_start,
    tenants_and_subjects_are_apart,
    late_and_early_events_are_exact,
    what_is_too_old_is_said_to_be_truncated,
    great_sums_are_exact,
    a_time_in_the_far_future_harms_nobody,
    random_histories_agree_with_the_definition,
);

struct Server {
    namespace: String,
    context: RedisContext,
}

impl Server {
    fn new() -> Self {
        let namespace = namespace();
        let config = RedisConfig { url: redis_url().into(), namespace: namespace.clone() };
        Self { context: RedisContext::new(&config).expect("an address"), namespace }
    }

    async fn clean(self) {
        delete_keys(&self.namespace).await;
    }
}

/// Deletes every key of a namespace.
pub(crate) async fn delete_keys(namespace: &str) {
    let client = ::redis::Client::open(redis_url()).expect("an address");
    let mut server = client.get_multiplexed_async_connection().await.expect("Redis");
    let keys: Vec<String> =
        ::redis::cmd("KEYS").arg(format!("{namespace}:*")).query_async(&mut server).await.expect("keys");
    for key in keys {
        let _: i64 = ::redis::cmd("DEL").arg(key).query_async(&mut server).await.expect("a deletion");
    }
}

fn observation(id: u64, at: u64, amount: i64) -> Observation {
    Observation {
        event: EventId::mint(NOON + id, [7; 10]),
        tenant: TenantId::parse("acme").expect("legal"),
        subject: "acct:42".to_owned(),
        amount,
        at: from_millis(at),
    }
}

async fn one(context: &dyn ContextSource, event: &Observation) -> Subject24h {
    context.observe(std::slice::from_ref(event)).await.expect("figures")[0]
}

fn exactly(count: u64, amount_sum: i64) -> Subject24h {
    Subject24h { count, amount_sum, truncated: false }
}

async fn counts_itself_and_what_came_before(context: &dyn ContextSource) {
    assert!(context.observe(&[]).await.expect("nothing").is_empty());
    assert_eq!(one(context, &observation(1, NOON + 1, 5)).await, exactly(1, 5));
    assert_eq!(one(context, &observation(2, NOON + 2, -7)).await, exactly(2, -2));
}

async fn batch_mates_with_smaller_ids_count(context: &dyn ContextSource) {
    let at = NOON + 10;
    // In no order; the same time, so that only ids tell them apart.
    let batch = [observation(3, at, 4), observation(1, at, 1), observation(2, at, 2)];
    let figures = context.observe(&batch).await.expect("figures");
    assert_eq!(figures, [exactly(3, 7), exactly(1, 1), exactly(2, 3)]);
}

async fn an_event_counts_once(context: &dyn ContextSource) {
    let (first, second) = (observation(1, NOON, 5), observation(2, NOON + 5, 6));
    for _ in 0..3 {
        let figures = context.observe(&[first.clone(), second.clone(), first.clone()]).await.expect("figures");
        assert_eq!(figures, [exactly(1, 5), exactly(2, 11), exactly(1, 5)]);
    }
}

async fn the_window_is_open_at_its_start(context: &dyn ContextSource) {
    one(context, &observation(1, NOON, 1)).await;
    one(context, &observation(2, NOON + 1, 10)).await;
    assert_eq!(one(context, &observation(3, NOON + WINDOW_MS, 100)).await, exactly(2, 110));
}

async fn tenants_and_subjects_are_apart(context: &dyn ContextSource) {
    let of = |id, tenant: &str, subject: &str| Observation {
        tenant: TenantId::parse(tenant).expect("legal"),
        subject: subject.to_owned(),
        ..observation(id, NOON, 1)
    };
    let batch = [of(1, "a", "b:c"), of(2, "a", "b"), of(3, "a.b", "c"), of(4, "a", "ä\n:x"), of(5, "a", "b")];
    let counts: Vec<u64> = context.observe(&batch).await.expect("figures").iter().map(|f| f.count).collect();
    assert_eq!(counts, [1, 1, 1, 1, 2]);
}

async fn late_and_early_events_are_exact(context: &dyn ContextSource) {
    // Accepted in order of id, but of other times: 2 h ago, now, 30 min ago.
    let day = NOON + WINDOW_MS;
    let events = [observation(1, day - 2 * HOUR, 1), observation(2, day, 10), observation(3, day - HOUR / 2, 100)];
    assert_eq!(one(context, &events[1]).await, exactly(1, 10));
    assert_eq!(one(context, &events[0]).await, exactly(1, 1));
    assert_eq!(one(context, &events[2]).await, exactly(2, 101));
    // Asked again now that all are known: 2 sees 1, but not 3, whose id is later.
    assert_eq!(one(context, &events[1]).await, exactly(2, 11));
    // 25 h back, within the slack: still counted for an event that is late itself.
    let late = [observation(4, day - WINDOW_MS - HOUR / 2, 1000), observation(5, day - HOUR, 10_000)];
    let figures = context.observe(&late).await.expect("figures");
    assert_eq!(figures, [exactly(1, 1000), exactly(3, 11_001)]);
}

async fn what_is_too_old_is_said_to_be_truncated(context: &dyn ContextSource) {
    let day = NOON + 2 * WINDOW_MS;
    // Ids of that day too: an accept time before the event's time would make it "from the future".
    let id = |n| 2 * WINDOW_MS + n;
    one(context, &observation(id(1), day, 1)).await;
    let old = one(context, &observation(id(2), day - WINDOW_MS - SLACK_MS - 1, 5)).await;
    assert_eq!(old, Subject24h { count: 1, amount_sum: 5, truncated: true });
    // What was not kept is outside the newest event's window: that one is exact.
    assert_eq!(one(context, &observation(id(3), day + 1, 1)).await, exactly(2, 2));
}

async fn great_sums_are_exact(context: &dyn ContextSource) {
    let events: Vec<Observation> = (0..300).map(|n| observation(n, NOON + n, AMOUNT_MAX - n as i64)).collect();
    for page in events.chunks(100) {
        context.observe(page).await.expect("figures");
    }
    let sum: i64 = events.iter().map(|event| event.amount).sum();
    assert_eq!(one(context, &events[299]).await, exactly(300, sum));
    // A day later all of them leave the totals in one go.
    assert_eq!(one(context, &observation(WINDOW_MS + 500, NOON + WINDOW_MS + 500, -3)).await, exactly(1, -3));
    assert_eq!(
        one(context, &observation(WINDOW_MS + 501, NOON + WINDOW_MS + 100, 0)).await,
        exactly(200, events[101..].iter().map(|event| event.amount).sum())
    );
}

async fn a_time_in_the_far_future_harms_nobody(context: &dyn ContextSource) {
    let batch = [observation(1, NOON, 1), observation(2, NOON + 1000 * WINDOW_MS, 10), observation(3, NOON + 3, 100)];
    let figures = context.observe(&batch).await.expect("figures");
    assert_eq!(figures, [exactly(1, 1), exactly(1, 10), exactly(2, 101)]);
}

/// A small generator (Steele, Lea, Flood, "SplitMix", 2014): the same histories on every run.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// The definition, word for word, over everything that was ever observed.
fn by_definition(seen: &BTreeMap<EventId, Observation>, event: &Observation) -> (u64, i64) {
    let at = event.at.timestamp_millis();
    let counted = seen.values().filter(|other| {
        let time = other.at.timestamp_millis();
        other.subject == event.subject && other.event <= event.event && time <= at && time > at - WINDOW_MS as i64
    });
    counted.fold((0, 0), |(count, sum), other| (count + 1, sum + other.amount))
}

async fn random_histories_agree_with_the_definition(context: &dyn ContextSource) {
    let mut exact = 0_u64;
    for seed in 0..30 {
        let mut random = SplitMix(seed);
        // From histories that all fit to histories of which much is too old.
        let spread = HOUR * [1, 24, 30, 60][seed as usize % 4];
        let events: Vec<Observation> = (0..120)
            .map(|n| {
                let at = NOON + random.below(spread);
                let amount = random.below(2 * AMOUNT_MAX as u64) as i64 - AMOUNT_MAX;
                let id = at - NOON + random.below(HOUR) * (n % 3);
                let subject = format!("s{seed}.{}", random.below(2));
                Observation { subject, event: EventId::mint(NOON + id, [n as u8; 10]), ..observation(0, at, amount) }
            })
            .collect();
        let mut seen = BTreeMap::new();
        for _ in 0..40 {
            let batch: Vec<Observation> =
                (0..1 + random.below(12)).map(|_| events[random.below(120) as usize].clone()).collect();
            seen.extend(batch.iter().map(|event| (event.event, event.clone())));
            let figures = context.observe(&batch).await.expect("figures");
            for (event, got) in batch.iter().zip(&figures) {
                let (count, sum) = by_definition(&seen, event);
                if got.truncated {
                    assert!(
                        spread > 25 * HOUR && got.count >= 1 && got.count <= count,
                        "seed {seed}: {event:?} {got:?}"
                    );
                } else {
                    assert_eq!((got.count, got.amount_sum), (count, sum), "seed {seed}: {event:?}");
                    exact += 1;
                }
            }
        }
    }
    assert!(exact > 3000, "only {exact} figures were exact");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_a_hot_subjects_newest_events_and_stays_quick() {
    let server = Server::new();
    let events: Vec<Observation> = (0..SUBJECT_EVENTS_MAX as u64 + 500).map(|n| observation(n, NOON + n, 1)).collect();
    for page in events.chunks(500) {
        server.context.observe(page).await.expect("figures");
    }
    let last = one(&server.context, &events[events.len() - 1]).await;
    assert_eq!(
        last,
        Subject24h { count: SUBJECT_EVENTS_MAX as u64, amount_sum: SUBJECT_EVENTS_MAX as i64, truncated: true }
    );
    let start = std::time::Instant::now();
    for n in 0..100 {
        one(&server.context, &observation(60_000 + n, NOON + 60_000 + n, 1)).await;
    }
    // A generous bound for a busy machine: reading the window through would take seconds.
    assert!(start.elapsed().as_millis() < 1500, "100 events took {:?}", start.elapsed());
    server.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_is_an_error_in_time() {
    let config = RedisConfig { url: "redis://127.0.0.1:9".into(), namespace: namespace() };
    let context = RedisContext::new(&config).expect("an address");
    let start = std::time::Instant::now();
    assert!(context.observe(&[observation(1, NOON, 1)]).await.is_err());
    assert!(start.elapsed().as_secs() < 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_lost_some_of_a_subjects_keys_counts_anew() {
    let server = Server::new();
    one(&server.context, &observation(1, NOON, 1)).await;
    one(&server.context, &observation(2, NOON + 1, 1)).await;
    let client = ::redis::Client::open(redis_url()).expect("an address");
    let mut raw = client.get_multiplexed_async_connection().await.expect("Redis");
    let key = format!("{}:ctx:acme:acct:42", server.namespace);
    let gone: i64 = ::redis::cmd("DEL").arg(key).query_async(&mut raw).await.expect("a deletion");
    assert_eq!(gone, 1);
    assert_eq!(one(&server.context, &observation(3, NOON + 2, 1)).await, exactly(1, 1));
    server.clean().await;
}
