//! Owns the records of what known callers were refused: sampled, bounded, and written beside the
//! requests, never in them. Never holds an answer up, and never writes more than so many a minute,
//! however often somebody tries.

use metrics::counter;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::observe::{RequestContext, SeenCaller};
use super::problem::{ProblemType, Refused};
use crate::domain::{AuditBody, Permission, Stream};
use crate::ports::keys::chain_of;
use crate::ports::{Clock, Keys};
use crate::telemetry::names;

/// A caller and a route make one record in it.
const WINDOW: Duration = Duration::from_secs(60);

/// Records of this process in it.
const RECORDS_MAX: usize = 100;

/// Records that wait to be written; more than come in a minute never do.
const WAITING_MAX: usize = RECORDS_MAX;

/// Takes note of refusals. Cheap to clone.
#[derive(Clone)]
pub struct Refusals {
    clock: Arc<dyn Clock>,
    window: Arc<Mutex<Window>>,
    records: mpsc::Sender<AuditBody>,
}

/// The minute that is running.
#[derive(Default)]
struct Window {
    began: Duration,
    /// Who was refused where in it; at most [`RECORDS_MAX`].
    seen: HashSet<String>,
}

/// Writes what [`Refusals`] takes note of.
pub struct RefusalWriter(mpsc::Receiver<AuditBody>);

impl Refusals {
    /// Both ends. Without its writer, refusals are only counted.
    pub fn new(clock: Arc<dyn Clock>) -> (Self, RefusalWriter) {
        let (records, waiting) = mpsc::channel(WAITING_MAX);
        (Self { clock, window: Arc::default(), records }, RefusalWriter(waiting))
    }

    /// Takes note of one refusal, where the caller is known.
    pub(super) fn note(&self, refused: Refused, context: &RequestContext, (method, route): (&str, &str)) {
        let Some(caller) = context.caller() else { return };
        counter!(names::ACCESS_REFUSED).increment(1);
        let place = format!("{method} {route}");
        let kept = self.samples(caller, &place)
            && self.records.try_send(self.record(refused, caller, context, &place)).is_ok();
        if !kept {
            counter!(names::ACCESS_REFUSED_UNRECORDED).increment(1);
        }
    }

    /// Whether this one is to be written.
    fn samples(&self, caller: &SeenCaller, place: &str) -> bool {
        let now = self.clock.elapsed();
        let tenant = chain_of(caller.tenant.as_ref());
        // Every change of it is whole before the lock goes.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(window.began) >= WINDOW {
            *window = Window { began: now, seen: HashSet::new() };
        }
        window.seen.len() < RECORDS_MAX && window.seen.insert(format!("{tenant}\n{place}\n{}", caller.subject))
    }

    fn record(&self, refused: Refused, caller: &SeenCaller, context: &RequestContext, place: &str) -> AuditBody {
        let chain = (chain_of(caller.tenant.as_ref()), Stream::Control);
        let code = match refused.what {
            ProblemType::TenantMismatch => "other_tenant",
            _ => "permission_missing",
        };
        AuditBody {
            outcome: Some("refused".into()),
            reason_codes: vec![code.into()],
            reason: refused.missing.map(Permission::as_str).map(str::to_owned),
            correlation_id: Some(context.correlation_id.clone()),
            address: context.address.map(|address| address.to_string()),
            ..AuditBody::new(chain, self.clock.now(), caller.subject.as_str(), "access_refused", ("route", place))
        }
    }
}

impl RefusalWriter {
    /// Writes records until `stop`. One that the store does not take is counted and given up: it was
    /// a sample.
    pub async fn run(mut self, registry: Arc<dyn Keys>, stop: CancellationToken) {
        while let Some(Some(record)) = stop.run_until_cancelled(self.0.recv()).await {
            if let Err(e) = registry.append_control(&record).await {
                counter!(names::ACCESS_REFUSED_UNRECORDED).increment(1);
                tracing::warn!(error = %e, "failed to record that a caller was refused");
            }
        }
    }
}
