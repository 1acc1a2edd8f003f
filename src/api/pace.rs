//! Owns how often a caller may ask, and how often an address may be refused before it has to wait:
//! guessing credentials stays slow. Never counts where there is no authentication, nor health,
//! metrics and documents.

use axum::http::Extensions;
use metrics::counter;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::Limits;
use super::auth::Caller;
use super::observe::RequestContext;
use super::problem::{Problem, ProblemType};
use crate::domain::TenantId;
use crate::ports::Clock;
use crate::resilience::Buckets;
use crate::telemetry::names::{self, limited};

/// The requests of callers, and the refusals of addresses.
pub(super) struct Paces {
    callers: Buckets<(Option<TenantId>, String)>,
    refused: Buckets<IpAddr>,
}

impl Paces {
    pub(super) fn new(limits: &Limits, clock: &Arc<dyn Clock>) -> Self {
        Self {
            callers: Buckets::a_second(limits.caller_requests_per_s, Arc::clone(clock)),
            refused: Buckets::a_second(limits.refused_requests_per_s, Arc::clone(clock)),
        }
    }

    /// Those of the listener by which a request came.
    pub(super) fn of(extensions: &Extensions) -> Result<Arc<Self>, Problem> {
        let found = extensions.get::<Arc<Self>>().map(Arc::clone);
        found.ok_or_else(|| Problem::new(ProblemType::Internal, "the request was not paced"))
    }

    /// Whether a request from there is looked at now. Whoever was refused too often waits, whatever
    /// it shows this time: otherwise a right guess among many would still come through.
    pub(super) fn admit(&self, context: &RequestContext) -> Result<(), Problem> {
        let Some(address) = network(context) else { return Ok(()) };
        let detail = "too many requests of this address were refused";
        self.refused.peek(address).map_err(|wait| wait_first(limited::ADDRESS, detail, wait))
    }

    /// Notes that a credential did not hold. One that could not be looked at is no guess.
    pub(super) fn note_refusal(&self, context: &RequestContext, problem: &Problem) {
        if let (true, Some(address)) = (problem.is_unauthorized(), network(context)) {
            // What is over the bound was refused before it was looked at.
            let _ = self.refused.take(address);
        }
    }

    /// Whether a caller may ask now.
    pub(super) fn take(&self, caller: &Caller) -> Result<(), Problem> {
        if !caller.is_known() {
            return Ok(());
        }
        let key = (caller.tenant.clone(), caller.subject.clone());
        let detail = "this credential has asked more often than it may";
        self.callers.take(key).map_err(|wait| wait_first(limited::CALLER, detail, wait))
    }
}

/// Where a request came from. Of IPv6, the network: whoever has one address there has 2^64.
fn network(context: &RequestContext) -> Option<IpAddr> {
    context.address.map(|address| match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    })
}

fn wait_first(by: &'static str, detail: &str, wait: Duration) -> Problem {
    counter!(names::HTTP_LIMITED, "by" => by).increment(1);
    Problem::passing(ProblemType::TooManyRequests, detail, wait)
}
