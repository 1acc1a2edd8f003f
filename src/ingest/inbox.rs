//! Owns the door of queue producers. A message is acknowledged after its commit, or after it was
//! parked with its reason; it is never dropped and never looped.

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use metrics::counter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::traced;
use crate::crypto::Keyring;
use crate::domain::parse::{self, Given};
use crate::domain::{CorrelationId, IdempotencyKey, Invalid, TenantId, TraceContext, cloudevents};
use crate::ports::broker::InboxDelivery;
use crate::ports::intake::{Candidate, Intake, IntakeError, Taken};
use crate::ports::{Broker, Entropy, EventStore};
use crate::resilience::Backoff;
use crate::telemetry::traces::Root;
use crate::telemetry::{Traces, names};

/// What a message shows of its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxSender {
    /// The user id that the broker has validated.
    pub user_id: Option<String>,
    /// The header `authorization`.
    pub authorization: Option<String>,
}

/// Why it can't be told whose a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboxRefusal {
    /// It has no right to be taken: it is parked with this reason.
    Never(String),
    /// It can't be told now, because of this.
    NotNow(String),
}

/// Tells whose message it is: the tenant of its sender; none where authentication is off and the event
/// itself says it.
pub type InboxAuth =
    Arc<dyn Fn(InboxSender) -> BoxFuture<'static, Result<Option<TenantId>, InboxRefusal>> + Send + Sync>;

/// Takes everybody's messages: authentication is off.
pub fn anybody() -> InboxAuth {
    Arc::new(|_| Box::pin(std::future::ready(Ok(None))))
}

/// How much of a parked message is kept in the store, in bytes: sealed, it is no more than that keeps.
const KEPT_MAX: usize = 63 * 1024;

/// Messages taken at once.
const BATCH: usize = 500;

/// What the inbox consumer stands on.
pub struct Inbox {
    /// Where events go; a door that refuses nobody for its rate.
    pub intake: Arc<dyn Intake>,
    /// Where messages come from, and where those that can't be taken are parked.
    pub broker: Arc<dyn Broker>,
    /// Where the reasons of parked messages are kept.
    pub store: Arc<dyn EventStore>,
    /// What they are sealed under there.
    pub keyring: Arc<Keyring>,
    /// For correlation ids.
    pub entropy: Arc<dyn Entropy>,
    /// Whose message it is.
    pub auth: InboxAuth,
    /// Which messages are traced.
    pub traces: Traces,
    /// The largest event, in bytes.
    pub event_bytes_max: usize,
    /// Unacknowledged messages at most.
    pub prefetch: u16,
}

/// Consumes the inbox until stopped; subscribes anew whenever the subscription ends.
pub async fn consume_inbox(inbox: Inbox, stop: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), &*inbox.entropy);
    while !stop.is_cancelled() {
        match stop.run_until_cancelled(inbox.broker.inbox(inbox.prefetch)).await {
            Some(Ok(mut deliveries)) => {
                backoff.reset();
                inbox.drain(&mut deliveries, &stop).await;
            }
            Some(Err(e)) => tracing::debug!(error = %e, "failed to consume the inbox"),
            None => return,
        }
        stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await;
    }
}

/// Messages of one batch that share their fate.
enum Work {
    /// Events of one tenant.
    Take(Vec<Letter>, Vec<Candidate>),
    /// What can't be taken, and why.
    Park(InboxDelivery, String),
}

/// A message that can be taken.
struct Letter {
    delivery: InboxDelivery,
    /// Its span, where it is traced.
    root: Option<Root>,
    /// When it came, for its span.
    since: Duration,
}

impl Inbox {
    /// Reads on while earlier messages wait for their commits: a tenant whose events have to wait
    /// holds back its own messages, and others' only once it has the whole prefetch.
    async fn drain(&self, deliveries: &mut mpsc::Receiver<InboxDelivery>, stop: &CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        // Bounded by the prefetch: nothing in it is acknowledged.
        let mut working = FuturesUnordered::new();
        let mut whole = true;
        while whole {
            tokio::select! {
                biased;
                Some(done) = working.next() => whole = done,
                read = stop.run_until_cancelled(deliveries.recv_many(&mut batch, BATCH)) => {
                    let Some(1..) = read else { break };
                    let sorting = self.sort(batch.drain(..), stop);
                    tokio::pin!(sorting);
                    // What is under way goes on while somebody's credential is looked up.
                    let works = loop {
                        tokio::select! {
                            works = &mut sorting => break works,
                            Some(done) = working.next() => whole &= done,
                        }
                    };
                    let Some(works) = works else { break };
                    working.extend(works.into_iter().map(|work| self.work(work, stop)));
                }
            }
        }
        // What is under way is finished. Then, where something was neither taken nor parked, the end
        // of the subscription makes the broker send it again.
        while working.next().await.is_some() {}
    }

    /// Splits a batch by tenant. None when stopped before every sender was known.
    async fn sort(&self, batch: impl Iterator<Item = InboxDelivery>, stop: &CancellationToken) -> Option<Vec<Work>> {
        let (mut works, mut tenants) = (Vec::new(), BTreeMap::new());
        let since = self.traces.moment();
        for delivery in batch {
            let tenant = self.tenant(&delivery, stop).await?;
            match tenant.and_then(|tenant| self.read(&delivery, tenant.as_ref())) {
                Ok(mut candidate) => {
                    let root = self.traces.begin(delivery.traceparent.as_deref().and_then(TraceContext::parse));
                    candidate.traceparent = root.map(|root| root.context);
                    let tenant = candidate.body.tenant_id.clone();
                    let (letters, candidates): &mut (Vec<_>, Vec<_>) = tenants.entry(tenant).or_default();
                    letters.push(Letter { delivery, root, since });
                    candidates.push(candidate);
                }
                Err(reason) => works.push(Work::Park(delivery, reason)),
            }
        }
        works.extend(tenants.into_values().map(|(letters, candidates)| Work::Take(letters, candidates)));
        Some(works)
    }

    /// Whose a message is, or why it is parked. Asks again while that can't be told; none when stopped
    /// meanwhile.
    async fn tenant(
        &self,
        delivery: &InboxDelivery,
        stop: &CancellationToken,
    ) -> Option<Result<Option<TenantId>, String>> {
        let sender = InboxSender { user_id: delivery.user_id.clone(), authorization: delivery.authorization.clone() };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2), &*self.entropy);
        loop {
            match (self.auth)(sender.clone()).await {
                Ok(tenant) => return Some(Ok(tenant)),
                Err(InboxRefusal::Never(reason)) => return Some(Err(reason)),
                Err(InboxRefusal::NotNow(why)) => tracing::debug!(error = why, "the inbox waits"),
            }
            stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await?;
        }
    }

    /// False when a message could neither be taken nor parked.
    async fn work(&self, work: Work, stop: &CancellationToken) -> bool {
        let (letters, candidates) = match work {
            Work::Park(delivery, reason) => return self.park(&delivery, &reason).await,
            Work::Take(letters, candidates) => (letters, candidates),
        };
        let Some(taken) = self.submit(candidates, stop).await else { return false };
        let mut whole = true;
        for (letter, taken) in letters.iter().zip(taken) {
            if let Some(root) = &letter.root {
                traced::taken_in(&self.traces, root, letter.since, &taken);
            }
            whole &= self.finish(&letter.delivery, taken).await;
        }
        whole
    }

    /// Keeps trying while ingest has no room or the store is away: the messages are not
    /// acknowledged, so the broker holds back the rest. Nothing when stopped meanwhile.
    async fn submit(&self, candidates: Vec<Candidate>, stop: &CancellationToken) -> Option<Vec<Taken>> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2), &*self.entropy);
        loop {
            match self.intake.submit(candidates.clone()).await {
                Ok(taken) => return Some(taken),
                Err(IntakeError::Stopping) => return None,
                Err(e) => tracing::debug!(error = %e, "the inbox waits"),
            }
            stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await?;
        }
    }

    fn read(&self, delivery: &InboxDelivery, tenant: Option<&TenantId>) -> Result<Candidate, String> {
        if delivery.body.len() > self.event_bytes_max {
            return Err(format!("the event has {} bytes, more than {}", delivery.body.len(), self.event_bytes_max));
        }
        let given = Given { kind: None, tenant, keys_inside: true };
        let parsed = match delivery.content_type.as_deref() {
            Some(kind) if kind.starts_with("application/cloudevents+json") => cloudevents::event(&delivery.body, given),
            _ => parse::event(&delivery.body, given),
        };
        let parsed = parsed.map_err(|e| e.to_string())?;
        let key = match (&delivery.message_id, parsed.key) {
            (Some(id), _) => IdempotencyKey::parse(id).map_err(|e| format!("message_id: {e}"))?,
            (None, Some(key)) => key,
            (None, None) => {
                return Err(Invalid::KeyMissing("give the message property `message_id`").to_string());
            }
        };
        let said = delivery.correlation_id.as_deref().map(CorrelationId::parse).transpose();
        let correlation_id = match said.map_err(|e| format!("correlation_id: {e}"))?.or(parsed.correlation_id) {
            Some(id) => id,
            None => made(&*self.entropy)?,
        };
        Ok(Candidate { key, correlation_id, traceparent: None, body: parsed.body, wait: false })
    }

    /// False when the message could neither be taken nor parked.
    async fn finish(&self, delivery: &InboxDelivery, taken: Taken) -> bool {
        match taken {
            Taken::Accepted(_) | Taken::Replayed(_) => {
                acknowledge(delivery).await;
                true
            }
            Taken::Conflict(first) => {
                let reason = format!("the idempotency key was used before with another payload, by event {first}");
                self.park(delivery, &reason).await
            }
            Taken::Erased => self.park_erased(delivery).await,
        }
    }

    /// Keeps that an erased subject's message came, and nothing of it: neither here nor on the broker.
    async fn park_erased(&self, delivery: &InboxDelivery) -> bool {
        match self.store.keep_rejected(self.entropy.uuid(), "its subject or its tenant is erased", &[]).await {
            Ok(()) => {
                counter!(names::INBOX_PARKED).increment(1);
                acknowledge(delivery).await;
                true
            }
            Err(e) => {
                tracing::warn!(error = %e, "failed to keep that an inbox message was refused; it will come again");
                false
            }
        }
    }

    /// Parks on the broker and keeps the reason in the store; acknowledged only when both are done,
    /// else the broker sends the message again.
    async fn park(&self, delivery: &InboxDelivery, reason: &str) -> bool {
        let parked = self.broker.park(delivery, reason).await;
        let id = self.entropy.uuid();
        let kept = match self.keyring.seal_rejected(id, &delivery.body[..delivery.body.len().min(KEPT_MAX)]).await {
            Ok(sealed) => self.store.keep_rejected(id, reason, &sealed).await,
            Err(e) => Err(e),
        };
        match (parked, kept) {
            (Ok(()), Ok(())) => {
                counter!(names::INBOX_PARKED).increment(1);
                tracing::info!(message.id = delivery.message_id, reason, "parked an inbox message");
                acknowledge(delivery).await;
                return true;
            }
            (Err(e), _) => tracing::warn!(error = %e, "failed to park an inbox message; it will come again"),
            (_, Err(e)) => tracing::warn!(error = %e, "failed to keep an inbox message; it will come again"),
        }
        false
    }
}

fn made(entropy: &dyn Entropy) -> Result<CorrelationId, String> {
    CorrelationId::parse(&entropy.uuid().to_string()).map_err(|e| e.to_string())
}

async fn acknowledge(delivery: &InboxDelivery) {
    match delivery.ack.ack().await {
        Ok(true) => {}
        // Stored already: the copy that the broker will send is a replay.
        Ok(false) => tracing::debug!("the broker no longer knows an inbox delivery"),
        Err(e) => tracing::debug!(error = %e, "failed to acknowledge an inbox message"),
    }
}
