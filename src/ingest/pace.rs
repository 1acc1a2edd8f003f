//! Owns the question how fast tenants may go: what arrives while one call of the meter is on its
//! way is asked by the next, so that a busy door asks once a batch and not once a request.

use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::domain::TenantId;
use crate::ports::intake::IntakeError;
use crate::ports::rate::{Pace, RateMeter};

/// Calls asked for at once.
const CALLS_MAX: usize = 1_000;

/// The events of a call by tenant, waiting for their paces.
pub(super) struct Ask {
    wanted: Vec<(TenantId, u32)>,
    answer: oneshot::Sender<Vec<Pace>>,
}

/// Asks the meter on behalf of calls.
// Bounded by the accept queue's room, of which every waiting call holds some.
pub(super) struct Pacer(mpsc::UnboundedSender<Ask>);

impl Pacer {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Ask>) {
        let (asks, asked) = mpsc::unbounded_channel();
        (Self(asks), asked)
    }

    /// One pace a tenant of the call, in order.
    pub(super) async fn paces(&self, wanted: Vec<(TenantId, u32)>) -> Result<Vec<Pace>, IntakeError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Ask { wanted, answer }).map_err(|_| IntakeError::Stopping)?;
        answered.await.map_err(|_| IntakeError::Stopping)
    }
}

/// Answers until stopped, and what was asked before that.
pub(super) async fn run(meter: Arc<dyn RateMeter>, mut asked: mpsc::UnboundedReceiver<Ask>, stop: CancellationToken) {
    let mut asks = Vec::with_capacity(CALLS_MAX);
    loop {
        let gathered = stop.run_until_cancelled(asked.recv_many(&mut asks, CALLS_MAX)).await;
        match gathered {
            Some(0) => return,
            Some(_) => answer(&*meter, &mut asks).await,
            None => break,
        }
    }
    asked.close();
    while asked.recv_many(&mut asks, CALLS_MAX).await > 0 {
        answer(&*meter, &mut asks).await;
    }
}

async fn answer(meter: &dyn RateMeter, asks: &mut Vec<Ask>) {
    let wanted: Vec<(TenantId, u32)> = asks.iter().flat_map(|ask| ask.wanted.iter().cloned()).collect();
    let mut paces = match meter.take(&wanted).await {
        Ok(paces) => paces.into_iter(),
        Err(error) => {
            // Nobody is refused for a meter that fails: the queue and its shares are bounds too.
            tracing::warn!(%error, "events are let in uncounted");
            vec![Pace::Normal; wanted.len()].into_iter()
        }
    };
    for ask in asks.drain(..) {
        let own = paces.by_ref().take(ask.wanted.len()).collect();
        // A caller that has gone away needs no answer.
        _ = ask.answer.send(own);
    }
}
