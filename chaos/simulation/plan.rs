//! Owns the shape of a run: how large the fleet is, how it is set, what is sent to it.

use std::time::Duration;

use riskfleet::domain::parse::{self, Given};
use riskfleet::domain::{CorrelationId, IdempotencyKey, TenantId};
use riskfleet::ingest::IngestLimits;
use riskfleet::ports::intake::Candidate;
use riskfleet::resilience::BulkheadRules;
use riskfleet::worker::WorkerLimits;

use crate::dice::Rng;
use crate::model::RequestKey;

/// Tenants of a fleet at most; their partitions are all there are.
const TENANTS: u64 = 8;

/// The smallest number of starts after which an event is buried.
pub(crate) const ATTEMPTS_LEAST: u32 = 3;

/// What a producer wants decided.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) key: RequestKey,
    pub(crate) text: String,
}

/// What is wrong with an event that can't be decided like all others; said in its `category`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poison {
    /// The store never holds its decision: it is buried after some tries.
    Refused,
    /// The store does not hold its decision during the storm.
    Passing,
    /// It brings down every worker that decides it: it is quarantined.
    Looper,
}

impl Poison {
    /// Read from the canonical text of an event.
    pub(crate) fn of(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (_, category) = text.split_once(r#""category":""#)?;
        match category.split('"').next()? {
            "refused" => Some(Self::Refused),
            "passing" => Some(Self::Passing),
            "looper" => Some(Self::Looper),
            _ => None,
        }
    }
}

impl Request {
    /// As the API hands it to ingest.
    pub(crate) fn candidate(&self, wait: bool) -> Candidate {
        Candidate {
            key: self.key.1.clone(),
            correlation_id: CorrelationId::parse(self.key.1.as_str()).expect("printable"),
            traceparent: None,
            body: parse::event(self.text.as_bytes(), Given::default()).expect("a valid event").body,
            wait,
        }
    }

    /// The same key with something else in it.
    pub(crate) fn changed(&self) -> Self {
        Self { key: self.key.clone(), text: self.text.replace(r#""version":"1""#, r#""version":"2""#) }
    }
}

/// The shape of one run.
pub(crate) struct Plan {
    pub(crate) workers: usize,
    /// When further workers join.
    pub(crate) joins: Vec<Duration>,
    pub(crate) ingests: usize,
    pub(crate) worker_limits: WorkerLimits,
    pub(crate) ingest_limits: IngestLimits,
    /// What each producer sends, in order.
    pub(crate) producers: Vec<Vec<Request>>,
    /// One request of every tenant, to be sent in the end.
    pub(crate) epilogue: Vec<Request>,
    /// The share of calls that go through the inbox.
    pub(crate) inbox: f64,
    /// The longest wait of a producer between two calls, in milliseconds.
    pub(crate) pace_ms: u64,
    /// How long faults happen.
    pub(crate) storm: Duration,
    /// Whether hosts' clocks are wrong, and jump.
    pub(crate) bad_clocks: bool,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let workers = 1 + rng.index(3);
        let worker_limits = WorkerLimits {
            lanes: rng.between(1, 3) as u16,
            weight: 1,
            prefetch: rng.between(1, 16) as u16,
            commit_batch_max: [1, 5, 50][rng.index(3)],
            pack_bytes_max: [600, 2_000, 16_384][rng.index(3)],
            attempts_max: [ATTEMPTS_LEAST, 5][rng.index(2)],
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(rng.between(2, 10)),
            settle: Duration::from_secs(6),
            turn: Duration::from_millis([500, 1_000, 2_000][rng.index(3)]),
        };
        let ingest_limits = IngestLimits {
            queue_events: [20, 1_000][rng.index(2)],
            tenant_events: [10, 1_000][rng.index(2)],
            tenant_calls: BulkheadRules { concurrent: [1, 10][rng.index(2)], queued: [2, 100][rng.index(2)] },
            batch_max: [3, 20, 200][rng.index(3)],
            unpublished_max: [30, 10_000][rng.index(2)],
            pack_bytes_max: worker_limits.pack_bytes_max,
        };
        // Some last so long that the mark W passes events that are still in the queues.
        let storm = Duration::from_secs(if rng.chance(0.1) { rng.between(100, 200) } else { rng.between(10, 50) });
        let producers = producers(rng);
        // All at once, or all through the storm: a call has three requests on average, and a wait is
        // half of the longest on average.
        let calls = producers.iter().map(Vec::len).max().unwrap_or(0) as u64 / 3 + 1;
        let pace_ms = [20, storm.as_millis() as u64 * 2 / calls][usize::from(rng.chance(0.8))];
        let joins = if rng.chance(0.3) { vec![storm.mul_f64(rng.fraction())] } else { Vec::new() };
        Self {
            workers,
            joins,
            ingests: 1 + rng.index(2),
            worker_limits,
            ingest_limits,
            producers,
            epilogue: (0..TENANTS).map(|n| request(rng, 1_000 + n, &format!("tenant-{n}"))).collect(),
            inbox: [0.0, 0.0, 0.3][rng.index(3)],
            pace_ms,
            storm,
            bad_clocks: rng.chance(0.3),
        }
    }
}

impl Plan {
    /// Two workers, one ingest, and a steady stream over every partition: nothing happens but what a
    /// test makes happen.
    pub(crate) fn steady(rng: &mut Rng, storm: Duration) -> Self {
        let mut plan = Self::draw(rng);
        let tenant = |n: u64| format!("tenant-{}", n % TENANTS);
        let stream = (0..storm.as_millis() as u64 / 100).map(|n| request(rng, n, &tenant(n))).collect();
        plan.worker_limits = WorkerLimits {
            lanes: 2,
            weight: 1,
            prefetch: 16,
            commit_batch_max: 50,
            pack_bytes_max: 16_384,
            turn: Duration::from_millis(500),
            ..WorkerLimits::default()
        };
        plan.ingest_limits =
            IngestLimits { queue_events: 1_000, batch_max: 200, pack_bytes_max: 16_384, ..IngestLimits::default() };
        Self {
            workers: 2,
            joins: Vec::new(),
            ingests: 1,
            producers: vec![stream],
            inbox: 0.0,
            pace_ms: 400,
            storm,
            bad_clocks: false,
            ..plan
        }
    }
}

/// Several producers over several tenants; some requests are sent by two of them, as a retrying
/// gateway does.
fn producers(rng: &mut Rng) -> Vec<Vec<Request>> {
    let (count, tenants, requests) = (1 + rng.index(4), rng.between(1, TENANTS), rng.between(20, 80));
    let poisoned = [0.0, 0.0, 0.05][rng.index(3)];
    let looper = if rng.chance(0.1) { Some(rng.between(0, requests - 1)) } else { None };
    let mut producers: Vec<Vec<Request>> = vec![Vec::new(); count];
    for n in 0..requests {
        let tenant = rng.between(0, tenants - 1);
        let mut request = request(rng, n, &format!("tenant-{tenant}"));
        if rng.chance(poisoned) {
            let category = ["refused", "passing"][rng.index(2)];
            request.text = request.text.replacen('{', &format!(r#"{{"category":"{category}","#), 1);
        } else if looper == Some(n) {
            // Only what is about somebody is looked up, which is where it strikes.
            let subject = if request.text.contains("subject") { "" } else { r#""subject":"s0","# };
            request.text = request.text.replacen('{', &format!(r#"{{"category":"looper",{subject}"#), 1);
        }
        if rng.chance(0.1) {
            producers[rng.index(count)].push(request.clone());
        }
        producers[rng.index(count)].push(request);
    }
    producers
}

fn request(rng: &mut Rng, n: u64, tenant: &str) -> Request {
    let kind = ["payment", "high_risk", "low_risk"][rng.index(3)];
    let subject = if rng.chance(0.8) { format!(r#","subject":"s{}""#, rng.index(3)) } else { String::new() };
    let metadata = if rng.chance(0.1) { r#","metadata":{"blocked_pattern":true}"# } else { "" };
    let text = format!(
        r#"{{"kind":"risk","version":"1","tenant_id":"{tenant}","event_type":"{kind}","amount":{n}{subject}{metadata}}}"#
    );
    let key = IdempotencyKey::parse(&format!("k{n}")).expect("printable");
    Request { key: (TenantId::parse(tenant).expect("legal"), key), text }
}
