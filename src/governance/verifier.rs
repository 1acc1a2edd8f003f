//! Owns the fleet's own verification of its audit, again and again: whoever changes what is stored is
//! found without anybody asking. Changes nothing, and decides nothing about what it finds.

use metrics::{counter, gauge};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::crypto::Trust;
use crate::crypto::verification::{Verification, Verified};
use crate::lifecycle::on_cores;
use crate::ports::{Clock, EventStore, Registry, StoreError};
use crate::telemetry::names;

/// How long after its start a process verifies first: what starts again and again is not to read the
/// whole audit each time.
const FIRST: Duration = Duration::from_secs(60);

/// How often the age of the last verification is told.
const TELL: Duration = Duration::from_secs(15);

/// Findings that the log names; the command `audit verify` names the others.
const NAMED_MAX: usize = 20;

/// What verifies.
pub struct Verifier {
    /// Where the chains are, and what they speak of.
    pub store: Arc<dyn EventStore>,
    /// Where the checkpoints are.
    pub registry: Arc<dyn Registry>,
    /// For the times between.
    pub clock: Arc<dyn Clock>,
    /// Who signs; without it signatures are not checked.
    pub trust: Option<Trust>,
    /// How long after one verification the next begins.
    pub every: Duration,
}

impl Verifier {
    /// Verifies until stopped; one that was begun is given up then.
    pub async fn run(self, stop: CancellationToken) {
        let (began, mut verified) = (self.clock.elapsed(), None);
        let mut due = began + FIRST.min(self.every);
        loop {
            let now = self.clock.elapsed();
            let age = now.saturating_sub(verified.unwrap_or(began));
            gauge!(names::AUDIT_VERIFIED_AGE_SECONDS).set(age.as_secs_f64());
            if now >= due {
                let Some(done) = stop.run_until_cancelled(self.verify()).await else { return };
                if told(done) {
                    verified = Some(self.clock.elapsed());
                }
                due = self.clock.elapsed() + self.every;
                continue;
            }
            if stop.run_until_cancelled(tokio::time::sleep(TELL.min(due - now))).await.is_none() {
                return;
            }
        }
    }

    /// Verifies once.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn verify(&self) -> Result<Verified, StoreError> {
        Verification::new(self.trust.clone()).run(&*self.store, Some(&*self.registry), (on_cores, &|_| ())).await
    }
}

/// Says what was found. Gives whether the verification was done to its end.
fn told(done: Result<Verified, StoreError>) -> bool {
    let verdict = match done {
        Ok(verified) => verified.verdict,
        Err(e) => {
            counter!(names::AUDIT_VERIFY_BROKEN_OFF).increment(1);
            tracing::warn!(error = %e, "failed to verify the audit to its end");
            return false;
        }
    };
    let (records, chains, bad) = (verdict.records, verdict.chains, verdict.findings.total);
    counter!(names::AUDIT_VERIFY_FAILURES).increment(bad);
    if bad == 0 {
        tracing::info!(records, chains, "the audit is whole");
        return true;
    }
    tracing::error!(
        records,
        chains,
        bad,
        "the audit is NOT whole: keep the database as it is, and run `riskfleet audit verify`"
    );
    for finding in verdict.findings.kept.iter().take(NAMED_MAX) {
        tracing::error!(
            tenant.id = finding.tenant,
            audit.stream = finding.stream,
            audit.seq = finding.seq,
            error = finding.why,
            "a record of the audit is wrong"
        );
    }
    true
}
