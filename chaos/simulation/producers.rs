//! Owns the producers: they send, and send again with the same key until they have an answer. What
//! they are told is held against what they were told before.

use std::sync::Arc;
use std::time::Duration;

use riskfleet::adapters::memory::broker::InboxMessage;
use riskfleet::domain::{EventId, Scope};
use riskfleet::ingest::Door;
use riskfleet::ports::EventStore;
use riskfleet::ports::intake::{Intake, Taken};

use crate::dice::Rng;
use crate::fleet::Fleet;
use crate::plan::Request;
use crate::world::pass_time;

/// Sends everything that this producer has to send.
pub(crate) async fn run(fleet: Arc<Fleet>, number: usize) {
    let mut producer = Producer {
        rng: Rng::new(fleet.world.seed, &format!("producer {number}")),
        name: format!("client{number}"),
        fleet: Arc::clone(&fleet),
    };
    let mut rest = fleet.plan.producers[number].as_slice();
    while !rest.is_empty() {
        let size = (1 + producer.rng.index(5)).min(rest.len());
        let (now, later) = rest.split_at(size);
        // The same key twice in one call is the API's own matter.
        producer.send(now).await;
        rest = later;
        let pause = producer.rng.millis(0, fleet.plan.pace_ms);
        if !fleet.world.is_quiet() {
            pass_time(pause).await;
        }
    }
}

/// After everything: one more request of every tenant, and how long its decision may take when
/// nothing fails. A fleet that only lives on what refill brings back is ill.
pub(crate) async fn epilogue(fleet: Arc<Fleet>, within: Duration) {
    let last = fleet.plan.epilogue.clone();
    let rng = Rng::new(fleet.world.seed, "epilogue");
    let mut producer = Producer { rng, name: "last".into(), fleet: Arc::clone(&fleet) };
    fleet.world.model().attempts.extend(last.iter().map(|r| r.key.clone()));
    for request in &last {
        while !producer.call(std::slice::from_ref(request)).await {
            pass_time(Duration::from_millis(100)).await;
        }
    }
    let until = tokio::time::Instant::now() + within;
    loop {
        let ledger = fleet.world.store.ledger().await.unwrap_or_default();
        if ledger.pending == 0 {
            return;
        }
        if tokio::time::Instant::now() >= until {
            fleet.world.violated(format!("the fleet is ill: {} of the last events wait", ledger.pending));
            return;
        }
        pass_time(Duration::from_millis(100)).await;
    }
}

struct Producer {
    rng: Rng,
    name: String,
    fleet: Arc<Fleet>,
}

impl Producer {
    async fn send(&mut self, requests: &[Request]) {
        {
            let mut model = self.fleet.world.model();
            model.attempts.extend(requests.iter().map(|r| r.key.clone()));
        }
        if self.rng.chance(self.fleet.plan.inbox) {
            self.send_to_inbox(requests).await;
            return;
        }
        while !self.call(requests).await {
            pass_time(self.rng.millis(50, 2_000)).await;
        }
        // Some producers ask again although they were told, or reuse a key for something else.
        if self.rng.chance(0.1) {
            self.call(requests).await;
        }
        if self.rng.chance(0.1) {
            self.reuse(&requests[0]).await;
        }
    }

    async fn send_to_inbox(&mut self, requests: &[Request]) {
        for request in requests {
            let message = InboxMessage {
                message_id: Some(request.key.1.to_string()),
                body: request.text.clone().into(),
                ..InboxMessage::default()
            };
            if self.fleet.world.broker.send_inbox(message).await.is_ok() {
                self.fleet.world.model().promised.insert(request.key.clone());
            }
        }
    }

    fn door(&mut self) -> Option<Arc<Door>> {
        let doors = self.fleet.doors();
        if doors.is_empty() { None } else { Some(Arc::clone(&doors[self.rng.index(doors.len())])) }
    }

    /// True when there was an answer.
    async fn call(&mut self, requests: &[Request]) -> bool {
        let Some(door) = self.door() else { return false };
        let wait = self.rng.chance(0.1);
        let patience = self.rng.millis(500, 6_000);
        let candidates = requests.iter().map(|r| r.candidate(wait)).collect();
        let taken = match tokio::time::timeout(patience, door.submit(candidates)).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(e)) => {
                self.note(&format!("was told: failed to {e}"));
                return false;
            }
            Err(_) => {
                self.note("has waited long enough");
                return false;
            }
        };
        if taken.len() != requests.len() {
            self.fleet.world.violated(format!("{} requests got {} answers", requests.len(), taken.len()));
        }
        let mut ids = Vec::new();
        for (request, taken) in requests.iter().zip(taken) {
            ids.extend(self.told(request, taken));
        }
        self.note(&format!("has {ids:?}"));
        if wait && let Some(first) = ids.first() {
            self.hear(&door, *first).await;
        }
        true
    }

    fn told(&self, request: &Request, taken: Taken) -> Option<EventId> {
        match taken {
            Taken::Accepted(receipt) | Taken::Replayed(receipt) => {
                if receipt.tenant_id != request.key.0 {
                    let what = format!("{} of {} is given to {}", receipt.event_id, request.key.0, receipt.tenant_id);
                    self.fleet.world.violated(what);
                }
                self.fleet.world.model().answered(&request.key, receipt.event_id);
                Some(receipt.event_id)
            }
            Taken::Erased => {
                self.fleet.world.violated(format!("{}/{} is refused as erased", request.key.0, request.key.1));
                None
            }
            Taken::Conflict(id) => {
                let what = format!("{}/{} is a conflict with {id}", request.key.0, request.key.1);
                self.fleet.world.violated(what);
                None
            }
        }
    }

    /// The decision that a waiting request hears is the stored one.
    async fn hear(&mut self, door: &Door, event: EventId) {
        let patience = self.rng.millis(100, 5_000);
        // A dead process says nothing, and its producer does not wait for ever.
        let heard = tokio::time::timeout(2 * patience + Duration::from_secs(1), door.decision(event, patience)).await;
        let Ok(Some(heard)) = heard else { return };
        let stored = self.fleet.world.store.event(&Scope::Fleet, event).await.ok().flatten();
        let stored = match stored {
            Some(record) => self.fleet.world.keyring.reveal(record).await.ok().flatten(),
            None => None,
        };
        let stored = stored.and_then(|record| record.decision_view().ok().flatten());
        if stored.as_ref() != Some(&heard) {
            self.fleet.world.violated(format!("{event} was decided as {heard}, and {stored:?} is stored"));
        }
        self.fleet.world.saw("a decision was heard");
        self.note(&format!("heard of {event}"));
    }

    async fn reuse(&mut self, request: &Request) {
        let Some(door) = self.door() else { return };
        let changed = vec![request.changed().candidate(false)];
        let Ok(Ok(taken)) = tokio::time::timeout(Duration::from_secs(3), door.submit(changed)).await else { return };
        let first = self.fleet.world.model().answers.get(&request.key).copied();
        if !matches!(taken[..], [Taken::Conflict(id)] if Some(id) == first) {
            self.fleet.world.violated(format!("a reused key of {first:?} was taken: {taken:?}"));
        }
    }

    fn note(&self, what: &str) {
        self.fleet.world.note(&self.name, what);
    }
}
