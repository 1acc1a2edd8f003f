//! The broker through a process's eyes: what it loses, doubles, delays and forgets on the way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use riskfleet::adapters::memory::broker::MemoryBroker;
use riskfleet::domain::pack::Pack;
use riskfleet::domain::{Decision, EventId};
use riskfleet::ports::broker::{InboxDelivery, Replies, ReplyMessage};
use riskfleet::ports::{Ack, Broker, BrokerError, Delivery, OutcomeMessage, PackMessage, Route, Subscription};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bugs::Bug;
use crate::process::Process;
use crate::world::{Port, World, pass_time};

/// How long the broker holds its confirms back when it is blocked.
const BLOCKED: Duration = Duration::from_secs(10);

/// The broker of one process.
pub(crate) struct SimBroker(pub(crate) Arc<Process>);

impl SimBroker {
    fn inner(&self) -> &Arc<MemoryBroker> {
        &self.0.world.broker
    }

    async fn ask<T: std::fmt::Debug + Send>(
        &self,
        asked: String,
        does: impl Future<Output = Result<T, BrokerError>> + Send,
    ) -> Result<T, BrokerError> {
        self.0.ask(Port::Broker, asked, does, BrokerError::Away).await
    }

    async fn publish_pack(&self, pack: PackMessage) -> Result<(), BrokerError> {
        let asked = format!("publish {} of {} bytes", pack.message_id, pack.body.len());
        self.ask(asked, put(&self.0, pack)).await
    }

    async fn publish_outcome(&self, outcome: OutcomeMessage) -> Result<(), BrokerError> {
        let asked = format!("outcome {}", outcome.message_id);
        let does = async {
            let rates = &self.0.world.rates.packs;
            if self.0.world.strikes(rates.lost) {
                return Err(BrokerError::Away("the outcome is lost".into()));
            }
            heard(&self.0.world, &outcome);
            if self.0.world.strikes(rates.unconfirmed) {
                return Err(BrokerError::Away("the confirm is lost".into()));
            }
            Ok(())
        };
        self.ask(asked, does).await
    }
}

/// What a downstream consumer hears.
fn heard(world: &World, outcome: &OutcomeMessage) {
    let decisions: Vec<&RawValue> = serde_json::from_slice(&outcome.body).unwrap_or_default();
    if decisions.is_empty() {
        world.violated(format!("the outcome {} can't be read, or says nothing", outcome.message_id));
    }
    for text in decisions {
        match Decision::from_canonical(text.get().as_bytes()) {
            Ok(decision) if decision.tenant_id == outcome.tenant => {
                world.model().outcome(decision.event_id, text.get());
            }
            Ok(decision) => world.violated(format!("{} was told to {}", decision.event_id, outcome.tenant)),
            Err(e) => world.violated(format!("an outcome of {} can't be read: {e}", outcome.message_id)),
        }
    }
}

/// A pack arrives at the broker.
async fn put(process: &Process, pack: PackMessage) -> Result<(), BrokerError> {
    let world = &process.world;
    let rates = &world.rates.packs;
    if pack.message_id.starts_with("refill.") {
        world.saw("packs were refilled");
    }
    if world.strikes(rates.lost) {
        return Err(BrokerError::Away("the pack is lost".into()));
    }
    if world.strikes(rates.refused) {
        return Err(BrokerError::Refused);
    }
    if world.strikes(rates.blocked) {
        pass_time(BLOCKED).await;
        return Err(BrokerError::Blocked(BLOCKED));
    }
    if world.strikes(rates.swallowed) {
        world.note("broker", &format!("confirms and loses {}", pack.message_id));
        return Ok(());
    }
    if world.strikes(rates.twice) {
        enqueue(&world.broker, pack.clone()).await?;
    }
    if world.strikes(rates.late) {
        let (broker, wait) = (Arc::clone(&world.broker), world.dice().millis(1, 8_000));
        tokio::spawn(async move {
            pass_time(wait).await;
            // The queues of a simulation are never full.
            _ = enqueue(&broker, pack).await;
        });
    } else {
        enqueue(&world.broker, pack).await?;
    }
    if world.strikes(rates.unconfirmed) {
        return Err(BrokerError::Away("the confirm is lost".into()));
    }
    Ok(())
}

async fn enqueue(broker: &MemoryBroker, pack: PackMessage) -> Result<(), BrokerError> {
    broker.publish_packs(vec![pack]).await.pop().unwrap_or(Ok(()))
}

#[async_trait]
impl Broker for SimBroker {
    async fn publish_packs(&self, packs: Vec<PackMessage>) -> Vec<Result<(), BrokerError>> {
        join_all(packs.into_iter().map(|pack| self.publish_pack(pack))).await
    }

    async fn publish_outcomes(&self, outcomes: Vec<OutcomeMessage>) -> Vec<Result<(), BrokerError>> {
        join_all(outcomes.into_iter().map(|outcome| self.publish_outcome(outcome))).await
    }

    async fn reply(&self, replies: Vec<ReplyMessage>) {
        let asked = format!("reply {}", replies.len());
        // A reply that is lost is lost.
        _ = self
            .ask(asked, async {
                self.inner().reply(replies).await;
                Ok(())
            })
            .await;
    }

    async fn subscribe(&self, route: Route, prefetch: u16) -> Result<Subscription, BrokerError> {
        let process = &self.0;
        let shown = |s: &Subscription| format!("created={} waiting={}", s.created, s.waiting);
        // Asked over this connection: when it is cut meanwhile, nobody consumes.
        let connection = process.connection();
        let does = async {
            let Subscription { deliveries, created, waiting } = self.inner().subscribe(route, prefetch).await?;
            let created = created | process.world.deleted().remove(&route);
            let (sender, receiver) = mpsc::channel(usize::from(prefetch.max(1)));
            let alive = process.world.subscribed(route, connection.child_token());
            tokio::spawn(pump(Arc::clone(process), alive, deliveries, sender));
            Ok(Subscription { deliveries: receiver, created, waiting })
        };
        process.call(Port::Broker, format!("subscribe {route}"), does, BrokerError::Away, shown).await
    }

    async fn inbox(&self, prefetch: u16) -> Result<mpsc::Receiver<InboxDelivery>, BrokerError> {
        let alive = self.0.connection().child_token();
        let does = async {
            let deliveries = self.inner().inbox(prefetch).await?;
            let (sender, receiver) = mpsc::channel(usize::from(prefetch.max(1)));
            tokio::spawn(pump_inbox(Arc::clone(&self.0), alive, deliveries, sender));
            Ok(receiver)
        };
        self.0.call(Port::Broker, "inbox".into(), does, BrokerError::Away, |_| "subscribed".into()).await
    }

    async fn park(&self, message: &InboxDelivery, reason: &str) -> Result<(), BrokerError> {
        self.ask(format!("park {:?} {reason}", message.message_id), self.inner().park(message, reason)).await
    }

    async fn replies(&self) -> Result<Replies, BrokerError> {
        let shown = |r: &Replies| r.queue.clone();
        let alive = self.0.connection().child_token();
        let does = async {
            let Replies { queue, messages } = self.inner().replies().await?;
            let (sender, receiver) = mpsc::channel(64);
            tokio::spawn(relay(alive, messages, sender, |body| body));
            Ok(Replies { queue, messages: receiver })
        };
        self.0.call(Port::Broker, "replies".into(), does, BrokerError::Away, shown).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.ask("ping".into(), self.inner().ping()).await
    }
}

/// The next message, until the connection or the consumer has ended.
async fn next<T, U>(alive: &CancellationToken, from: &mut mpsc::Receiver<T>, to: &mpsc::Sender<U>) -> Option<T> {
    tokio::select! {
        biased;
        () = alive.cancelled() => None,
        () = to.closed() => None,
        message = from.recv() => message,
    }
}

async fn relay<T: Send, U: Send>(
    alive: CancellationToken,
    mut from: mpsc::Receiver<T>,
    to: mpsc::Sender<U>,
    as_seen: impl Fn(T) -> U,
) {
    while let Some(message) = next(&alive, &mut from, &to).await {
        if to.send(as_seen(message)).await.is_err() {
            return;
        }
    }
}

/// Brings deliveries to a consumer. When it ends, what is not acknowledged goes back to the queue.
async fn pump(
    process: Arc<Process>,
    alive: CancellationToken,
    mut from: mpsc::Receiver<Delivery>,
    to: mpsc::Sender<Delivery>,
) {
    let (world, rates) = (&process.world, &process.world.rates.deliveries);
    while let Some(mut delivery) = next(&alive, &mut from, &to).await {
        if world.strikes(rates.ended) {
            process.note(&format!("the subscription of {} ends", delivery.route));
            return;
        }
        if world.strikes(rates.late) {
            process.linger(1, 5_000).await;
        }
        if delivery.redelivered {
            world.saw("a pack was redelivered");
        }
        delivery.redelivered |= world.strikes(rates.flagged);
        if world.strikes(rates.forged) {
            forge(world, &mut delivery);
        }
        process.note(&format!("delivered {} redelivered={}", delivery.message_id, delivery.redelivered));
        let pack = serde_json::from_slice::<Pack<'_>>(&delivery.body);
        let ack = SimAck {
            process: Arc::clone(&process),
            alive: alive.clone(),
            events: pack.map(|p| p.events.iter().map(|e| e.id).collect()).unwrap_or_default(),
            message: delivery.message_id.clone(),
            inner: delivery.ack,
        };
        if world.has(Bug::AckOnDelivery) {
            _ = ack.ack().await;
        }
        delivery.ack = Box::new(ack);
        if to.send(delivery).await.is_err() {
            return;
        }
    }
}

/// A stranger has written to the queue: what it says of its events is not to be believed, but which
/// events it names, somebody has to look at.
fn forge(world: &World, delivery: &mut Delivery) {
    world.saw("a pack was forged");
    if world.dice().chance(0.5) {
        delivery.mac = None;
        return;
    }
    let text = String::from_utf8_lossy(&delivery.body).replace("payment", "low_risk").replace("tenant-1", "tenant-2");
    if text.as_bytes() == &delivery.body[..] {
        delivery.mac = Some([7; 32]);
    }
    delivery.body = text.into();
}

async fn pump_inbox(
    process: Arc<Process>,
    alive: CancellationToken,
    from: mpsc::Receiver<InboxDelivery>,
    to: mpsc::Sender<InboxDelivery>,
) {
    let token = alive.clone();
    let as_seen = |delivery: InboxDelivery| {
        let ack = SimAck {
            process: Arc::clone(&process),
            alive: alive.clone(),
            events: Vec::new(),
            message: format!("inbox {:?}", delivery.message_id),
            inner: delivery.ack,
        };
        InboxDelivery { ack: Box::new(ack), ..delivery }
    };
    relay(token, from, to, as_seen).await;
}

struct SimAck {
    process: Arc<Process>,
    alive: CancellationToken,
    events: Vec<EventId>,
    message: String,
    inner: Box<dyn Ack>,
}

#[async_trait]
impl Ack for SimAck {
    /// An acknowledgement has no answer in AMQP: it is on its way, or the channel is known to be
    /// broken. What never arrived comes again when the channel has gone, which follows soon.
    async fn ack(&self) -> Result<bool, BrokerError> {
        let (process, rates) = (&self.process, &self.process.world.rates.deliveries);
        process.wire().await;
        process.world.check_accounted(&self.message, &self.events).await;
        if process.world.strikes(rates.ack_failed) {
            process.note(&format!("ack {} => failed", self.message));
            self.alive.cancel();
            return Err(BrokerError::Away("the channel is broken".into()));
        }
        if process.world.strikes(rates.ack_lost) {
            process.note(&format!("ack {} => lost", self.message));
            self.alive.cancel();
            return Ok(true);
        }
        let known = self.inner.ack().await?;
        if !known {
            process.world.saw("a stale delivery was acknowledged");
        }
        process.note(&format!("ack {} => {known}", self.message));
        Ok(known)
    }
}

/// A stranger puts something into a queue that is no pack, or names an event that nobody has stored.
pub(crate) async fn put_garbage(world: &World, route: Route) {
    let stranger = EventId::mint(1_700_000_000_000, [7; 10]);
    let texts =
        ["garbage".into(), format!(r#"{{"v":1,"partition":{},"events":[{{"id":"{stranger}"}}]}}"#, route.partition.0)];
    for (n, text) in texts.into_iter().enumerate() {
        let message_id = format!("stranger.{n}");
        _ = enqueue(&world.broker, PackMessage { message_id, route, body: text.into(), mac: [n as u8; 32] }).await;
    }
}

/// Deletes a queue with everything in it: consumers are gone, and the next one is told
/// that it had to be made anew.
pub(crate) async fn delete_queue(world: &Arc<World>, route: Route) {
    world.end_subscriptions(route);
    world.deleted().insert(route);
    // What was delivered goes back first, so that it is deleted too.
    pass_time(Duration::from_millis(1)).await;
    let mut gone = 0;
    if let Ok(mut all) = world.broker.subscribe(route, u16::MAX).await {
        while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_millis(1), all.deliveries.recv()).await {
            gone += 1;
            _ = delivery.ack.ack().await;
        }
    }
    world.note("world", &format!("the queue {route} is deleted with {gone} packs"));
    if gone > 0 {
        world.saw("a queue was deleted with packs in it");
    }
}
