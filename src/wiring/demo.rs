//! `riskfleet up --demo`: a seeded stream of events, so that there is something to look at.

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::single::Fleet;
use super::summary::{redraws, say};
use crate::cli::args::Up;
use crate::domain::parse::{self, Given};
use crate::domain::time::to_millis;
use crate::domain::{CorrelationId, Decision, IdempotencyKey, Outcome};
use crate::ports::intake::{Candidate, Intake, IntakeError};
use crate::ports::{Clock, OutcomeMessage};

/// The same stream for everybody.
const SEED: u64 = 7;
/// Decisions shown one by one before the running summary.
const SHOWN: u64 = 8;
/// How often the summary is told.
const TICK: Duration = Duration::from_secs(1);
/// How often events are sent.
const SEND_EVERY: Duration = Duration::from_millis(50);

const TENANTS: [&str; 4] = ["acme", "globex", "initech", "umbrella.eu"];

/// Feeds events and tells what becomes of them, until stopped or enough are decided.
pub(super) async fn run(fleet: &Fleet, args: &Up, stop: &CancellationToken) {
    let enough = CancellationToken::new();
    let feeding = feed(fleet, args, &enough);
    let telling = async {
        tell(fleet, args.demo_events, stop).await;
        enough.cancel();
    };
    tokio::join!(stop_or(stop, &enough, feeding), telling);
}

/// Runs until it is done, or until either is cancelled.
async fn stop_or(stop: &CancellationToken, enough: &CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        () = stop.cancelled() => {}
        () = enough.cancelled() => {}
    }
}

async fn feed(fleet: &Fleet, args: &Up, enough: &CancellationToken) {
    let mut stream = Stream::new(to_millis(fleet.clock.now()));
    let mut tick = tokio::time::interval(SEND_EVERY);
    let mut owed = 0.0;
    let mut left = args.demo_events.unwrap_or(u64::MAX);
    while left > 0 && !enough.is_cancelled() {
        tick.tick().await;
        owed += f64::from(args.demo_rate) * SEND_EVERY.as_secs_f64();
        let now = (owed as u64).min(left);
        owed -= owed.floor();
        left -= now;
        let mut candidates: Vec<Candidate> = (0..now).filter_map(|_| stream.next_event()).collect();
        // The stream is seeded and its keys are this run's: a refusal for want of room is repeated.
        while let Err(e) = fleet.door.submit(std::mem::take(&mut candidates)).await {
            if e == IntakeError::Stopping {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Invents events: payments, some of high or low risk, some sensitive, some compliance checks.
struct Stream {
    rng: StdRng,
    run: u64,
    count: u64,
}

impl Stream {
    fn new(run: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(SEED), run, count: 0 }
    }

    fn next_event(&mut self) -> Option<Candidate> {
        self.count += 1;
        let tenant = TENANTS[self.rng.random_range(0..TENANTS.len())];
        let mut event = json!({
            "version": "1.0",
            "tenant_id": tenant,
            "subject": format!("acct-{}", self.rng.random_range(1..40)),
            "amount": self.rng.random_range(100..500_000),
            "currency": "EUR",
        });
        self.season(&mut event);
        let parsed = parse::event(event.to_string().as_bytes(), Given::default()).ok()?;
        Some(Candidate {
            key: IdempotencyKey::parse(&format!("demo-{}-{}", self.run, self.count)).ok()?,
            correlation_id: CorrelationId::parse(&format!("demo-{}", self.count)).ok()?,
            traceparent: None,
            body: parsed.body,
            wait: false,
        })
    }

    fn season(&mut self, event: &mut Value) {
        let dice = self.rng.random_range(0..100);
        let set: &[(&str, Value)] = match dice {
            0..=59 => &[("kind", json!("risk")), ("event_type", json!("payment"))],
            60..=71 => &[("kind", json!("risk")), ("event_type", json!("low_risk"))],
            72..=77 => &[("kind", json!("risk")), ("event_type", json!("high_risk"))],
            78..=81 => &[("kind", json!("risk")), ("metadata", json!({ "category": "sensitive" }))],
            82..=83 => &[("kind", json!("risk")), ("metadata", json!({ "blocked_pattern": true }))],
            84..=95 => &[("kind", json!("compliance")), ("compliance_type", json!("kyc_check"))],
            _ => &[("kind", json!("compliance")), ("regulatory_flags", json!(["AML"]))],
        };
        for (name, value) in set {
            event[name] = value.clone();
        }
    }
}

/// What was heard so far.
struct Heard {
    outcomes: BTreeMap<Outcome, u64>,
    millis: Histogram<u64>,
    total: u64,
}

impl Heard {
    fn new() -> Option<Self> {
        // 1 ms to 10 minutes, three digits.
        let millis = Histogram::new_with_bounds(1, 600_000, 3).ok()?;
        Some(Self { outcomes: BTreeMap::new(), millis, total: 0 })
    }

    fn count(&mut self, decision: &Decision, clock: &dyn Clock) {
        self.total += 1;
        *self.outcomes.entry(decision.outcome).or_default() += 1;
        let waited = to_millis(clock.now()).saturating_sub(decision.event_id.millis());
        self.millis.saturating_record(waited.max(1));
    }

    fn line(&self, accepted: i64) -> String {
        let of = |outcome| self.outcomes.get(&outcome).copied().unwrap_or(0);
        format!(
            "accepted {accepted}   approved {}   rejected {}   waiting for a person {}   p50 {} ms   p99 {} ms",
            of(Outcome::Approved),
            of(Outcome::Rejected),
            of(Outcome::RequireApproval),
            self.millis.value_at_quantile(0.5),
            self.millis.value_at_quantile(0.99),
        )
    }
}

async fn tell(fleet: &Fleet, enough: Option<u64>, stop: &CancellationToken) {
    let mut outcomes = fleet.broker.outcomes();
    let Some(mut heard) = Heard::new() else { return };
    let mut tick = tokio::time::interval(TICK);
    let mut ticks = 0_u64;
    say("The first decisions of a seeded stream:\n");
    while !stop.is_cancelled() && enough.is_none_or(|n| heard.total < n) {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = tick.tick() => {
                ticks += 1;
                // Redrawn every second for a person, told every five to a file.
                if heard.total >= SHOWN && (redraws() || ticks.is_multiple_of(5)) {
                    summarise(fleet, &heard).await;
                }
            }
            message = outcomes.recv() => match message {
                Ok(message) => hear(&message, &mut heard, &*fleet.clock),
                Err(RecvError::Lagged(missed)) => heard.total += missed,
                Err(RecvError::Closed) => break,
            }
        }
    }
    summarise(fleet, &heard).await;
    if redraws() {
        say("");
    }
}

async fn summarise(fleet: &Fleet, heard: &Heard) {
    use std::io::Write;
    let accepted = fleet.store.ledger().await.map_or(-1, |l| l.accepted);
    let line = heard.line(accepted);
    if redraws() {
        let mut out = std::io::stdout().lock();
        // A person who has closed it no longer wants to be told.
        _ = write!(out, "\r\x1b[2K{line}");
        _ = out.flush();
    } else {
        say(&line);
    }
}

fn hear(message: &OutcomeMessage, heard: &mut Heard, clock: &dyn Clock) {
    let decisions: Vec<Decision> = serde_json::from_slice(&message.body).unwrap_or_default();
    for decision in decisions {
        heard.count(&decision, clock);
        if heard.total <= SHOWN {
            say(&shown(&decision));
        }
        if heard.total == SHOWN {
            say("");
        }
    }
}

fn shown(d: &Decision) -> String {
    let reasons: Vec<&str> = d.reasons.iter().map(|r| r.message.as_str()).collect();
    let seen = d.context.subject_24h.map_or(String::new(), |s| format!(" (event {} of its subject in 24 h)", s.count));
    format!(
        "  {:<16} {:<12} {:<10} score {:>4.1}  {}{seen}",
        d.outcome.as_str(),
        d.tenant_id.as_str(),
        d.kind.as_str(),
        d.risk_score,
        reasons.join("; "),
    )
}
