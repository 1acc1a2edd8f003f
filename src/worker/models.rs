//! Owns which model decides for whom in this worker: reads what was made active, holds its content
//! against what was registered, and hands the whole to the lanes. Never scores by a model that it can't
//! vouch for: whoever has an active one that can't be used is decided by people, not by the baseline.
//!
//! # Decisions
//! What is in force is one immutable map behind an `Arc`, which a lane takes once a batch: no lock is
//! held while it decides, nothing is allocated for an event, and a batch is decided by one state of
//! the map. As many models as the store lets be active ([`crate::domain::version::ACTIVE_MAX`]) are in it.
//!
//! Lanes start behind the first look. A worker that has not looked can't tell a tenant without a
//! model from one whose model it has not seen.

use metrics::{counter, gauge};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::lane::{store_backoff, wait_out};
use crate::domain::TenantId;
use crate::domain::audit::Hash;
use crate::domain::version::{Artifact, VersionKey, VersionRef};
use crate::pipeline::{Policy, Scorer, Unfit};
use crate::ports::StoreError;
use crate::ports::versions::Activation;
use crate::telemetry::names;

/// How often the worker looks for what was made active; an activation is in force within twice that.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it looks again at models that could not be used.
const AGAIN_EVERY: Duration = Duration::from_secs(30);
/// Activations read at once.
const PAGE: u32 = 500;

/// What decides for each tenant, at one moment.
#[derive(Clone)]
pub(super) struct InForce {
    baseline: Arc<Policy>,
    of_tenants: HashMap<TenantId, Arc<Policy>>,
}

impl InForce {
    /// What decides for a tenant.
    pub(super) fn of(&self, tenant: &TenantId) -> &Policy {
        self.of_tenants.get(tenant).unwrap_or(&self.baseline)
    }
}

/// What is in force now.
pub(super) struct Models(RwLock<Arc<InForce>>);

impl Models {
    /// Nothing but the baseline, until the first look.
    pub(super) fn new() -> Self {
        let baseline = Arc::new(Policy::baseline());
        Self(RwLock::new(Arc::new(InForce { baseline, of_tenants: HashMap::new() })))
    }

    /// What is in force now; it stays what it is while it is held.
    pub(super) fn current(&self) -> Arc<InForce> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, next: InForce) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// A version with the SHA-256 under which it was made active.
type Active = (VersionRef, Hash);

/// Keeps [`Models`] as the store has it.
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// The newest generation that is in force here.
    seen: i64,
    /// Active models that can't be used.
    unfit: BTreeMap<TenantId, Active>,
    looked_again: Duration,
}

/// Looks for the first time, until the store has answered. None when stopped before.
pub(super) async fn first_look(shared: Arc<Shared>, stop: &CancellationToken) -> Option<Watch> {
    let mut backoff = store_backoff(&shared);
    let looked_again = shared.parts.clock.elapsed();
    let mut watch = Watch { shared, seen: 0, unfit: BTreeMap::new(), looked_again };
    while !stop.is_cancelled() {
        match watch.look().await {
            Ok(()) => return Some(watch),
            Err(e) => _ = stop.run_until_cancelled(wait_out("read the active models", &e, &mut backoff)).await,
        }
    }
    None
}

impl Watch {
    /// Looks again and again, until stopped.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            if let Err(e) = self.look().await {
                counter!(names::MODEL_LOOKS_FAILED).increment(1);
                tracing::warn!(error = %e, "failed to look for active models; deciding by those that are known");
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        loop {
            let page = self.shared.parts.versions.activations_since(self.seen, PAGE).await?;
            let last = page.len() < PAGE as usize;
            self.take(page).await?;
            if last {
                break;
            }
        }
        self.look_again().await
    }

    /// Brings activations into force, in their order; up to the one that could not be read.
    async fn take(&mut self, page: Vec<Activation>) -> Result<(), StoreError> {
        if page.is_empty() {
            return Ok(());
        }
        let mut next = InForce::clone(&self.shared.models.current());
        let mut result = Ok(());
        for Activation { generation, tenant, artifact, active } in page {
            let done = match artifact {
                Artifact::Model => self.bring(&mut next, tenant, active).await,
                // No stage asks a language model: a prompt decides nothing.
                Artifact::Prompt => Ok(()),
            };
            if let Err(e) = done {
                result = Err(e);
                break;
            }
            self.seen = generation;
        }
        self.publish(next);
        result
    }

    /// Somebody may have mended what could not be used, without making it active anew.
    async fn look_again(&mut self) -> Result<(), StoreError> {
        let now = self.shared.parts.clock.elapsed();
        if self.unfit.is_empty() || now.saturating_sub(self.looked_again) < AGAIN_EVERY {
            return Ok(());
        }
        self.looked_again = now;
        let mut next = InForce::clone(&self.shared.models.current());
        let mut result = Ok(());
        for (tenant, active) in self.unfit.clone() {
            result = self.bring(&mut next, tenant, Some(active)).await;
            if result.is_err() {
                break;
            }
        }
        // What was brought is also shown: nobody would look at it again.
        self.publish(next);
        result
    }

    async fn bring(&mut self, next: &mut InForce, tenant: TenantId, active: Option<Active>) -> Result<(), StoreError> {
        let Some((version, sha256)) = active else {
            self.unfit.remove(&tenant);
            next.of_tenants.remove(&tenant);
            tracing::info!(tenant.id = %tenant, "no model is active any more: the baseline decides");
            return Ok(());
        };
        let scorer = match self.scorer(&tenant, &version, &sha256).await? {
            Ok(scorer) => {
                self.unfit.remove(&tenant);
                tracing::info!(tenant.id = %tenant, model = %version, "a model is in force");
                scorer
            }
            Err(why) => {
                tracing::error!(tenant.id = %tenant, model = %version, error = why,
                    "the active model can't be used: people decide every event of the tenant");
                self.unfit.insert(tenant.clone(), (version.clone(), sha256));
                Scorer::Unavailable
            }
        };
        next.of_tenants.insert(tenant, Arc::new(Policy::with_model(&version, scorer)));
        Ok(())
    }

    /// Reads a model; inside, why it can't be used.
    ///
    /// # Errors
    /// When the store is away: then nothing is known of the model.
    async fn scorer(
        &self,
        tenant: &TenantId,
        version: &VersionRef,
        sha256: &Hash,
    ) -> Result<Result<Scorer, String>, StoreError> {
        let key = VersionKey { tenant: tenant.clone(), artifact: Artifact::Model, version: version.clone() };
        let loaded = match self.shared.parts.versions.version_content(&key).await {
            Ok(Some(stored)) => Scorer::load(&stored.version, &stored.content, Some(sha256)),
            Ok(None) => Err(Unfit::Missing),
            // What can't be read now can't be read later, and other tenants' models are behind it.
            Err(e @ (StoreError::Refused(_) | StoreError::Fault(_))) => return Ok(Err(e.to_string())),
            Err(e) => return Err(e),
        };
        Ok(loaded.map_err(|why| why.to_string()))
    }

    fn publish(&self, next: InForce) {
        // At most as many as may be active: the conversion is exact.
        gauge!(names::MODELS_ACTIVE).set((next.of_tenants.len() - self.unfit.len().min(next.of_tenants.len())) as f64);
        gauge!(names::MODELS_UNAVAILABLE).set(self.unfit.len() as f64);
        self.shared.models.set(next);
    }
}
