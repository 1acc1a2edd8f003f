//! The contract of `Leases`, on Redis and in process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use riskfleet::adapters::memory::leases::MemoryLeases;
use riskfleet::adapters::redis::{RedisConfig, RedisLeases};
use riskfleet::domain::{PartitionId, WorkerId};
use riskfleet::ports::leases::{Beat, Renewal};
use riskfleet::ports::{Clock, LeaseTtls, Leases, Member};

use crate::context_contract::delete_keys;
use crate::harness::{namespace, redis_url};

/// Short, so that expiry on a real server is waited for and not believed.
const TTLS: LeaseTtls = LeaseTtls { member: Duration::from_millis(1000), lease: Duration::from_millis(1200) };
const P: PartitionId = PartitionId(3);

/// What the tests need beside the port: that time passes, and that the server forgets.
#[async_trait]
trait Bench {
    fn leases(&self) -> &dyn Leases;
    async fn pass(&self, time: Duration);
    async fn forget(&self);
}

/// Runs a test of the contract on both adapters.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::InProcess::new()).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let server = super::Server::new();
                super::$name(&server).await;
                super::delete_keys(&server.namespace).await;
            })*
        }
    };
}

on_both!(
    a_lease_is_exclusive,
    a_lease_runs_out_unless_renewed,
    release_is_by_compare,
    a_forgotten_lease_is_taken_again,
    a_beat_tells_whether_the_server_knew,
    members_are_ordered_and_run_out,
    leaving_is_at_once,
);

#[derive(Default)]
struct HandClock(Mutex<Duration>);

impl Clock for HandClock {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::UNIX_EPOCH + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().expect("no test panics while it holds the clock")
    }
}

struct InProcess {
    clock: Arc<HandClock>,
    leases: MemoryLeases,
}

impl InProcess {
    fn new() -> Self {
        let clock = Arc::new(HandClock::default());
        Self { leases: MemoryLeases::new(TTLS, clock.clone()), clock }
    }
}

#[async_trait]
impl Bench for InProcess {
    fn leases(&self) -> &dyn Leases {
        &self.leases
    }

    async fn pass(&self, time: Duration) {
        *self.clock.0.lock().expect("no test panics while it holds the clock") += time;
    }

    async fn forget(&self) {
        self.leases.forget();
    }
}

struct Server {
    namespace: String,
    leases: RedisLeases,
}

impl Server {
    fn new() -> Self {
        let namespace = namespace();
        let config = RedisConfig { url: redis_url().into(), namespace: namespace.clone() };
        Self { leases: RedisLeases::new(&config, TTLS).expect("an address"), namespace }
    }
}

#[async_trait]
impl Bench for Server {
    fn leases(&self) -> &dyn Leases {
        &self.leases
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn forget(&self) {
        delete_keys(&self.namespace).await;
    }
}

fn worker(n: u128) -> WorkerId {
    WorkerId(uuid::Uuid::from_u128(n))
}

fn member(n: u128) -> Member {
    Member { id: worker(n), version: "0.1.0".to_owned(), weight: 1, draining: false, settling: false }
}

async fn a_lease_is_exclusive(bench: &dyn Bench) {
    let leases = bench.leases();
    assert!(leases.acquire(P, worker(1)).await.expect("an answer"));
    assert!(!leases.acquire(P, worker(2)).await.expect("an answer"));
    // Asked again, as after an answer that was lost: still mine.
    assert!(leases.acquire(P, worker(1)).await.expect("an answer"));
    assert!(leases.acquire(PartitionId(0), worker(2)).await.expect("an answer"));
    assert_eq!(leases.renew(P, worker(2)).await.expect("an answer"), Renewal::Lost);
    let holders = leases.holders(4).await.expect("an answer");
    assert_eq!(holders, [Some(worker(2)), None, None, Some(worker(1))]);
    assert!(leases.holders(0).await.expect("an answer").is_empty());
}

async fn a_lease_runs_out_unless_renewed(bench: &dyn Bench) {
    let leases = bench.leases();
    assert!(leases.acquire(P, worker(1)).await.expect("an answer"));
    for _ in 0..3 {
        bench.pass(TTLS.lease / 2).await;
        assert_eq!(leases.renew(P, worker(1)).await.expect("an answer"), Renewal::Kept);
    }
    bench.pass(TTLS.lease + Duration::from_millis(50)).await;
    assert_eq!(leases.holders(4).await.expect("an answer")[3], None);
    assert!(leases.acquire(P, worker(2)).await.expect("an answer"));
    assert_eq!(leases.renew(P, worker(1)).await.expect("an answer"), Renewal::Lost);
}

async fn release_is_by_compare(bench: &dyn Bench) {
    let leases = bench.leases();
    assert!(leases.acquire(P, worker(1)).await.expect("an answer"));
    leases.release(P, worker(2)).await.expect("an answer");
    assert!(!leases.acquire(P, worker(2)).await.expect("an answer"));
    leases.release(P, worker(1)).await.expect("an answer");
    assert!(leases.acquire(P, worker(2)).await.expect("an answer"));
}

async fn a_forgotten_lease_is_taken_again(bench: &dyn Bench) {
    let leases = bench.leases();
    assert!(leases.acquire(P, worker(1)).await.expect("an answer"));
    bench.forget().await;
    assert_eq!(leases.renew(P, worker(1)).await.expect("an answer"), Renewal::Kept);
    assert!(!leases.acquire(P, worker(2)).await.expect("an answer"));
    bench.forget().await;
    assert!(leases.acquire(P, worker(2)).await.expect("an answer"));
    assert_eq!(leases.renew(P, worker(1)).await.expect("an answer"), Renewal::Lost);
}

async fn a_beat_tells_whether_the_server_knew(bench: &dyn Bench) {
    let leases = bench.leases();
    assert_eq!(leases.beat(&member(1)).await.expect("an answer"), Beat::Missing);
    for _ in 0..3 {
        bench.pass(TTLS.member / 2).await;
        assert_eq!(leases.beat(&member(1)).await.expect("an answer"), Beat::Kept);
    }
    bench.forget().await;
    assert_eq!(leases.beat(&member(1)).await.expect("an answer"), Beat::Missing);
    bench.pass(TTLS.member + Duration::from_millis(50)).await;
    assert_eq!(leases.beat(&member(1)).await.expect("an answer"), Beat::Missing);
}

async fn members_are_ordered_and_run_out(bench: &dyn Bench) {
    let leases = bench.leases();
    assert!(leases.members().await.expect("an answer").is_empty());
    let leaving = Member { draining: true, weight: 3, ..member(2) };
    for m in [&member(9), &member(1), &member(2)] {
        leases.beat(m).await.expect("an answer");
    }
    leases.beat(&leaving).await.expect("an answer");
    assert_eq!(leases.members().await.expect("an answer"), [member(1), leaving.clone(), member(9)]);
    bench.pass(TTLS.member * 3 / 4).await;
    leases.beat(&leaving).await.expect("an answer");
    bench.pass(TTLS.member * 3 / 4).await;
    assert_eq!(leases.members().await.expect("an answer"), [leaving]);
}

async fn leaving_is_at_once(bench: &dyn Bench) {
    let leases = bench.leases();
    leases.beat(&member(1)).await.expect("an answer");
    leases.beat(&member(2)).await.expect("an answer");
    leases.leave(worker(1)).await.expect("an answer");
    assert_eq!(leases.members().await.expect("an answer"), [member(2)]);
    assert_eq!(leases.beat(&member(1)).await.expect("an answer"), Beat::Missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_is_an_error_in_time_and_not_at_the_start() {
    let config = RedisConfig { url: "redis://127.0.0.1:9".into(), namespace: namespace() };
    let leases = RedisLeases::new(&config, LeaseTtls::default()).expect("an address");
    let start = std::time::Instant::now();
    assert!(leases.beat(&member(1)).await.is_err());
    assert!(leases.acquire(P, worker(1)).await.is_err());
    assert!(start.elapsed().as_secs() < 8);
    let bad = RedisConfig { url: "redis://user:secret@host:port".into(), namespace: namespace() };
    let error = RedisLeases::new(&bad, LeaseTtls::default()).err().expect("no address").to_string();
    assert!(!error.contains("secret"), "{error}");
}
