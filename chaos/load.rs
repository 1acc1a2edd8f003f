//! Owns the load: an open loop of batches over many tenants to several ingests, at a set rate,
//! whatever the answers take. What got no answer is sent again with the same key, for a bounded
//! time; a few batches are sent twice though they were answered, as careful producers do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::history::{Answer, History};

/// Batches that wait for an answer at once: beyond it the load waits, as a producer's memory would.
const IN_FLIGHT_MAX: usize = 256;
/// How long an unanswered batch is sent again.
const RESEND_FOR: Duration = Duration::from_secs(90);
/// One batch in so many is sent twice.
const TWICE_EVERY: u64 = 20;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Events a second, in all.
    pub(crate) rate: u32,
    /// Events at least; more while the load is not told that it may end.
    pub(crate) events: usize,
    /// Events in a batch, at most.
    pub(crate) batch_max: usize,
    pub(crate) seed: u64,
}

/// Where the load may be sent; changes as ingests come and go.
#[derive(Default)]
pub(crate) struct Targets(Mutex<Vec<String>>);

impl Targets {
    pub(crate) fn set(&self, urls: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    fn pick(&self, n: usize) -> Option<String> {
        let urls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!urls.is_empty()).then(|| urls[n % urls.len()].clone())
    }
}

/// A load under way.
pub(crate) struct Load {
    may_end: Arc<AtomicBool>,
    driver: Option<JoinHandle<()>>,
    flood: Arc<AtomicUsize>,
}

/// What a sender needs.
#[derive(Clone)]
struct Sender {
    history: Arc<History>,
    targets: Arc<Targets>,
    http: reqwest::Client,
    turn: Arc<AtomicUsize>,
    poison: Option<String>,
}

impl Load {
    /// Starts to send.
    pub(crate) fn start(history: Arc<History>, targets: Arc<Targets>, plan: Plan) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(12)).pool_max_idle_per_host(64).build()?;
        let (may_end, flood) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicUsize>::default());
        let sender = Sender { history, targets, http, turn: Arc::default(), poison: None };
        let driver = tokio::spawn(drive(sender, plan, Arc::clone(&may_end), Arc::clone(&flood)));
        Ok(Self { may_end, driver: Some(driver), flood })
    }

    /// From now on tenant 0 sends so many times its share on top; 0 ends it.
    pub(crate) fn flood(&self, times: usize) {
        self.flood.store(times, Ordering::Relaxed);
    }

    /// Lets the load end once it has sent what was planned, and waits for its last answer.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.may_end.store(true, Ordering::Relaxed);
        match self.driver.take() {
            Some(driver) => Ok(driver.await?),
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

/// Sends events one by one, each when the one before is taken: so each is an accept and a pack of its
/// own. `poison` ends whoever decides them (`riskfleet::mutants::poison`).
pub(crate) async fn send_each(
    history: &Arc<History>,
    targets: &Arc<Targets>,
    tenant: usize,
    count: usize,
    poison: Option<&str>,
) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(12)).build()?;
    let (history, targets) = (Arc::clone(history), Arc::clone(targets));
    let sender = Sender { history, targets, http, turn: Arc::default(), poison: poison.map(str::to_owned) };
    for _ in 0..count {
        let numbers = sender.history.attempt(tenant, 1);
        sender.deliver(tenant, numbers, false).await;
    }
    Ok(())
}

async fn drive(sender: Sender, plan: Plan, may_end: Arc<AtomicBool>, flood: Arc<AtomicUsize>) {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let flooding = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut senders = tokio::task::JoinSet::new();
    let (mut sent, mut batches, mut due) = (0_usize, 0_u64, Instant::now());
    while sent < plan.events || !may_end.load(Ordering::Relaxed) {
        let count = random.random_range(1..=plan.batch_max);
        let tenant = random.random_range(0..sender.history.tenants.len());
        // Open: the next batch is due by the plan, not by the last answer.
        due += Duration::from_secs_f64(count as f64 / f64::from(plan.rate));
        tokio::time::sleep_until(due).await;
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        batches += 1;
        let (own, twice) = (sender.clone(), batches.is_multiple_of(TWICE_EVERY));
        let numbers = sender.history.attempt(tenant, count);
        senders.spawn(async move {
            own.deliver(tenant, numbers, twice).await;
            drop(permit);
        });
        sent += count;
        let extra = flood.load(Ordering::Relaxed) / sender.history.tenants.len();
        for _ in 0..extra {
            // The flood takes what answers it gets: what it is refused, it does not send again.
            let Ok(permit) = Arc::clone(&flooding).try_acquire_owned() else { break };
            let (own, numbers) = (sender.clone(), sender.history.attempt(0, count));
            senders.spawn(async move {
                own.send(0, numbers).await;
                drop(permit);
            });
        }
        while senders.try_join_next().is_some() {}
    }
    while senders.join_next().await.is_some() {}
}

impl Sender {
    /// Sends until every event is answered, for a bounded time.
    async fn deliver(&self, tenant: usize, numbers: std::ops::Range<usize>, twice: bool) {
        let until = Instant::now() + RESEND_FOR;
        let mut pause = Duration::from_millis(100);
        while !self.send(tenant, numbers.clone()).await && Instant::now() < until {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        if twice {
            self.send(tenant, numbers).await;
        }
    }

    /// Sends once; true when every event was answered for good.
    async fn send(&self, tenant: usize, numbers: std::ops::Range<usize>) -> bool {
        let Some(url) = self.targets.pick(self.turn.fetch_add(1, Ordering::Relaxed)) else { return false };
        let events: Vec<Value> = numbers.clone().map(|n| self.event(tenant, n)).collect();
        let name = &self.history.tenants[tenant].name;
        let request = self.http.post(format!("{url}/v1/events")).header("x-tenant-id", name).json(&events);
        let Ok(answer) = request.send().await else { return false };
        let status = answer.status().as_u16();
        let Ok(body) = answer.json::<Value>().await else { return false };
        match (status, body["items"].as_array()) {
            (202 | 207, Some(items)) if items.len() == events.len() => {
                let mut open = false;
                for (n, answer) in numbers.zip(items.iter().map(item_answer)) {
                    self.history.answer(tenant, n, answer);
                    open |= answer == Answer::Unknown;
                }
                !open
            }
            // No room, or a server is away: whether an earlier try was stored is open.
            (429 | 500..=599, _) => false,
            (other, _) => {
                eprintln!("a good batch was answered with {other}: {body}");
                numbers.for_each(|n| self.history.answer(tenant, n, Answer::Refused));
                true
            }
        }
    }

    fn event(&self, tenant: usize, n: usize) -> Value {
        let own = &self.history.tenants[tenant];
        let key = self.history.key(tenant, n);
        let mut event = json!({
            "kind": "risk", "version": "1", "tenant_id": own.name, "idempotency_key": key, "correlation_id": key,
            "subject": format!("account-{}", n % 97), "amount": n % 10_000, "currency": "EUR",
            "metadata": {"canary": own.canary, "n": n},
        });
        if let Some(poison) = &self.poison {
            event["metadata"]["poison"] = json!(poison);
        }
        match n % 13 {
            3 => event["event_type"] = json!("high_risk"),
            7 => event["metadata"]["category"] = json!("sensitive"),
            9 => event["kind"] = json!("compliance"),
            _ => {}
        }
        event
    }
}

fn item_answer(item: &Value) -> Answer {
    match (item["event_id"].as_str().and_then(|id| id.parse::<Uuid>().ok()), item["status"].as_u64()) {
        (Some(id), None) => Answer::Acknowledged(id),
        (_, Some(429 | 500..=599)) => Answer::Unknown,
        _ => Answer::Refused,
    }
}
