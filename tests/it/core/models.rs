//! Tests: what a worker does with active models while the store of versions answers, errs, or is away.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use riskfleet::domain::audit::{Hash, sha256};
use riskfleet::domain::version::{Artifact, Review, Verdict, Version, VersionKey};
use riskfleet::domain::{Decision, Outcome, TenantId, time};
use riskfleet::lifecycle::SystemClock;
use riskfleet::ports::intake::{Intake, Taken};
use riskfleet::ports::versions::{Activation, ActiveVersions, StoredVersion};
use riskfleet::ports::{Clock, StoreError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::{Fleet, candidate};

const CARD: &str = r#"{"kind":"scorecard","base":42,"min":0,"max":100,"characteristics":[]}"#;

/// What the store answers when it is asked for a tenant's model.
#[derive(Debug, Clone, Copy)]
enum Holds {
    Good,
    Changed,
    Unapproved,
    Nothing,
    Unreadable,
}

/// Models of tenants that a test puts there.
#[derive(Default)]
struct Registered {
    away: AtomicBool,
    active: Mutex<Vec<Activation>>,
    holds: Mutex<BTreeMap<TenantId, Holds>>,
}

fn tenant(n: usize) -> TenantId {
    TenantId::parse(&format!("tenant-{n}")).expect("legal")
}

impl Registered {
    fn activate(&self, n: usize, holds: Holds) {
        self.holds.lock().expect("no panic inside").insert(tenant(n), holds);
        self.set(n, Some(("fraud@1".parse().expect("legal"), sha256(CARD.as_bytes()))));
    }

    fn set(&self, n: usize, active: Option<(riskfleet::domain::version::VersionRef, Hash)>) {
        let mut all = self.active.lock().expect("no panic inside");
        let generation = 1 + all.iter().map(|one| one.generation).max().unwrap_or(0);
        all.retain(|one| one.tenant != tenant(n));
        all.push(Activation { generation, tenant: tenant(n), artifact: Artifact::Model, active });
    }

    fn answers(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) { Err(StoreError::Away("on purpose".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl ActiveVersions for Registered {
    async fn activations_since(&self, generation: i64, limit: u32) -> Result<Vec<Activation>, StoreError> {
        self.answers()?;
        let all = self.active.lock().expect("no panic inside");
        Ok(all.iter().filter(|one| one.generation > generation).take(limit as usize).cloned().collect())
    }

    async fn version_content(&self, key: &VersionKey) -> Result<Option<StoredVersion>, StoreError> {
        self.answers()?;
        let holds = self.holds.lock().expect("no panic inside")[&key.tenant];
        let (review, content) = match holds {
            Holds::Good => (Review::Approved, CARD.to_owned()),
            Holds::Changed => (Review::Approved, CARD.replace("42", "0")),
            Holds::Unapproved => (Review::Pending, CARD.to_owned()),
            Holds::Nothing => return Ok(None),
            Holds::Unreadable => return Err(StoreError::Fault("a hash has not 32 bytes".into())),
        };
        let at = time::from_millis(0);
        let version = Version {
            key: key.clone(),
            sha256: sha256(CARD.as_bytes()),
            bytes: content.len() as u64,
            author: "ann".into(),
            reason: "x".into(),
            at,
            review,
            verdict: Some(Verdict { by: "ben".into(), at, reason: None }),
        };
        Ok(Some(StoredVersion { version, content: content.into() }))
    }
}

/// A clock whose stop watch a test can push on.
struct Pushed {
    inner: SystemClock,
    ahead_s: AtomicU64,
}

impl Clock for Pushed {
    fn now(&self) -> DateTime<Utc> {
        self.inner.now()
    }

    fn elapsed(&self) -> Duration {
        self.inner.elapsed() + Duration::from_secs(self.ahead_s.load(Ordering::SeqCst))
    }
}

impl Fleet {
    /// Sends event number `n`, of the tenant `n % 7`.
    async fn sent(&self, n: usize) -> Decision {
        let taken = self.door.submit(vec![candidate(n, true)]).await.expect("taken");
        let Taken::Accepted(receipt) = &taken[0] else { panic!("{taken:?}") };
        self.door.decision(receipt.event_id, Duration::from_secs(10)).await.expect("in time");
        let stored = self.store.decisions(&[receipt.event_id]).await.expect("in memory");
        let open = self.keyring.reveal_decisions(stored).await.expect("in memory");
        Decision::from_canonical(&open[0].2).expect("our own text")
    }

    /// Sends events of a tenant, numbered from `n`, until one is scored as wanted.
    async fn until_scored(&self, mut n: usize, score: f64) {
        for _ in 0..80 {
            if self.sent(n).await.risk_score == score {
                return;
            }
            n += 7;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no event of tenant {} is scored {score}", n % 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_decided_before_the_first_look_and_no_model_is_taken_on_trust() {
    let models = Arc::new(Registered::default());
    let fleet = Fleet { versions: models.clone(), ..Fleet::start().await };
    models.away.store(true, Ordering::SeqCst);
    for (n, holds) in
        [Holds::Good, Holds::Changed, Holds::Unapproved, Holds::Nothing, Holds::Unreadable].into_iter().enumerate()
    {
        models.activate(n, holds);
    }
    super::submit(&fleet, 0, 70).await;
    let stop = CancellationToken::new();
    let worker = fleet.worker(&stop).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(fleet.store.ledger().await.expect("in memory").decided, 0, "who has not looked decides nothing");
    models.away.store(false, Ordering::SeqCst);
    fleet.all_decided(70).await;
    fleet.audit_is_whole(70).await;
    for n in 71..77 {
        let (decision, model) = (fleet.sent(n).await, if n % 7 < 5 { "fraud@1" } else { "baseline@1" });
        let unavailable = decision.reasons.iter().any(|reason| reason.code == "MODEL_UNAVAILABLE");
        assert_eq!((decision.model_version.as_str(), unavailable), (model, (1..5).contains(&(n % 7))), "{n}");
        assert!(!unavailable || decision.outcome == Outcome::RequireApproval, "{n}");
    }
    assert_eq!(fleet.sent(77).await.risk_score, 42.0);

    // Away again: what is known decides on, and what changed meanwhile is seen afterwards.
    models.away.store(true, Ordering::SeqCst);
    models.set(0, None);
    models.activate(6, Holds::Good);
    assert_eq!(fleet.sent(84).await.risk_score, 42.0);
    models.away.store(false, Ordering::SeqCst);
    fleet.until_scored(91, 30.0).await;
    fleet.until_scored(97, 42.0).await;
    stop.cancel();
    worker.await.expect("drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_was_mended_is_used_again_without_being_made_active_anew() {
    let models = Arc::new(Registered::default());
    let fleet = Fleet { versions: models.clone(), ..Fleet::start().await };
    models.activate(1, Holds::Changed);
    let stop = CancellationToken::new();
    let clock = Arc::new(Pushed { inner: SystemClock::new(), ahead_s: AtomicU64::new(0) });
    let worker = fleet.worker_with(clock.clone(), &stop).await;
    assert_eq!(fleet.sent(1).await.risk_score, 100.0, "without a score it is taken for the worst");
    models.holds.lock().expect("no panic inside").insert(tenant(1), Holds::Good);
    clock.ahead_s.store(31, Ordering::SeqCst);
    fleet.until_scored(8, 42.0).await;
    stop.cancel();
    worker.await.expect("drained");
}
