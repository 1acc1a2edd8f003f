//! Owns the guard of the broker. Its bulkhead counts messages, not calls: confirms are pipelined,
//! and a publication may be one message or a thousand.
//!
//! # Decisions
//! Opening a stream (`subscribe`, `inbox`, `replies`) is never refused. Whoever asks waits between
//! its tries and has nothing else to do; with the connection down a try asks no server. To refuse
//! it would make a broker that was away for three seconds be away for a recovery time, to every
//! partition. Once it is open, what a stream does counts no more.
//!
//! A reply is neither refused nor counted: nobody waits for its end, and it has none to tell.

use async_trait::async_trait;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc;

use super::{Full, Guard, Open, PortError};
use crate::ports::broker::{InboxDelivery, Replies, ReplyMessage, Route};
use crate::ports::{Broker, BrokerError, OutcomeMessage, PackMessage, Subscription};

/// A broker behind its guard.
pub struct GuardedBroker {
    inner: Arc<dyn Broker>,
    guard: Arc<Guard>,
}

impl GuardedBroker {
    /// Puts the guard before the broker.
    pub fn new(inner: Arc<dyn Broker>, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

impl PortError for BrokerError {
    fn says_away(&self) -> bool {
        match self {
            Self::Away(_) | Self::Blocked(_) => true,
            Self::Unroutable(_) | Self::Refused => false,
        }
    }

    fn open(open: Open) -> Self {
        Self::Away(open.to_string())
    }

    fn full(full: Full) -> Self {
        Self::Away(format!("{full} (messages)"))
    }
}

/// One result a message.
type Published = Vec<Result<(), BrokerError>>;

impl Guard {
    /// Publishes so many messages. A refusal is every message's.
    async fn publish(&self, messages: usize, call: impl Future<Output = Published>) -> Published {
        // Without a message nothing is learned of the broker.
        if messages == 0 {
            return Vec::new();
        }
        let refused = |e: BrokerError| vec![Err(e); messages];
        if let Err(open) = self.breaker.check() {
            return refused(PortError::open(open));
        }
        let _place = match self.bulkhead.enter_with(messages).await {
            Ok(place) => place,
            Err(full) => return refused(PortError::full(full)),
        };
        let permit = match self.breaker.admit() {
            Ok(permit) => permit,
            Err(open) => return refused(PortError::open(open)),
        };
        let results = call.await;
        if results.iter().any(|r| r.as_ref().is_err_and(PortError::says_away)) {
            permit.failed();
        } else {
            permit.succeeded();
        }
        results
    }
}

#[async_trait]
impl Broker for GuardedBroker {
    async fn publish_packs(&self, packs: Vec<PackMessage>) -> Published {
        self.guard.publish(packs.len(), self.inner.publish_packs(packs)).await
    }

    async fn publish_outcomes(&self, outcomes: Vec<OutcomeMessage>) -> Published {
        self.guard.publish(outcomes.len(), self.inner.publish_outcomes(outcomes)).await
    }

    async fn reply(&self, replies: Vec<ReplyMessage>) {
        self.inner.reply(replies).await;
    }

    async fn subscribe(&self, route: Route, prefetch: u16) -> Result<Subscription, BrokerError> {
        self.guard.look(self.inner.subscribe(route, prefetch)).await
    }

    async fn inbox(&self, prefetch: u16) -> Result<mpsc::Receiver<InboxDelivery>, BrokerError> {
        self.guard.look(self.inner.inbox(prefetch)).await
    }

    async fn park(&self, message: &InboxDelivery, reason: &str) -> Result<(), BrokerError> {
        self.guard.shared(self.inner.park(message, reason)).await
    }

    async fn replies(&self) -> Result<Replies, BrokerError> {
        self.guard.look(self.inner.replies()).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.guard.look(self.inner.ping()).await
    }
}
