//! The ports behind a circuit breaker and a bulkhead, one file a port. A call that is refused gets
//! the port's own error at once, and its dependency never hears of it.
//!
//! Owns which verb may be refused, which may wait, and what counts as a failure. Never retries,
//! never ends a call by itself: a transaction that is cut off from outside poisons its pool, so a
//! call ends by the dependency's own timeouts.
//!
//! # Decisions
//! A verb is one of three:
//! * **shared**: called by as many as there are requests or partitions. Breaker and bulkhead.
//! * **own**: called by a fixed few tasks, one call each. Breaker only: it is bounded already, and
//!   must not stand behind what requests have piled up, or be refused for it.
//! * **look**: asks whether the dependency answers, or costs an absent one nothing. Never refused;
//!   what it learns counts, so that a recovery is seen although nobody else may ask.
//!
//! A new verb of a port is one line: `self.guard.shared(self.inner.verb(arguments)).await`.

mod broker;
mod context;
mod leases;
mod stops;
mod store;
mod versions;

pub use broker::GuardedBroker;
pub use context::GuardedContext;
pub use leases::GuardedLeases;
pub use stops::GuardedStops;
pub use store::GuardedStore;
pub use versions::GuardedVersions;

use std::future::Future;
use std::sync::Arc;

use super::breaker::{Breaker, Open, Permit};
use super::bulkhead::{Bulkhead, Full};

/// What stands before a dependency.
pub struct Guard {
    breaker: Arc<Breaker>,
    bulkhead: Bulkhead,
}

/// What a guard has to know of a port's errors.
trait PortError: Sized {
    /// Whether it says that the dependency is away or does not answer. Every other error is an
    /// answer.
    fn says_away(&self) -> bool;

    /// The circuit is open.
    fn open(open: Open) -> Self;

    /// The bulkhead is full.
    fn full(full: Full) -> Self;
}

impl Guard {
    /// A guard of the breaker's dependency.
    pub fn new(breaker: Arc<Breaker>, bulkhead: Bulkhead) -> Self {
        Self { breaker, bulkhead }
    }

    /// Through breaker and bulkhead.
    async fn shared<T, E: PortError>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        // Before the queue too: while the circuit is open nobody waits behind calls that hang.
        self.breaker.check().map_err(E::open)?;
        let _place = self.bulkhead.enter().await.map_err(E::full)?;
        self.own(call).await
    }

    /// Through the breaker.
    async fn own<T, E: PortError>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        judged(self.breaker.admit().map_err(E::open)?, call).await
    }

    /// Past the breaker, which hears of it.
    async fn look<T, E: PortError>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        judged(self.breaker.look(), call).await
    }
}

async fn judged<T, E: PortError>(permit: Permit<'_>, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let result = call.await;
    match &result {
        Err(e) if e.says_away() => permit.failed(),
        Ok(_) | Err(_) => permit.succeeded(),
    }
    result
}

#[cfg(test)]
mod tests;
