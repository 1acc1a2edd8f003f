//! Owns what must be true in the end, when faults have stopped and everything has had its time.

use std::collections::BTreeMap;
use std::sync::Arc;

use riskfleet::domain::audit::{ChainHead, check, check_stored};
use riskfleet::domain::{Decision, Epoch, Event, EventBody, EventId, FailureClass, PartitionId, Scope};
use riskfleet::pipeline::{Policy, replay};
use riskfleet::ports::store::{AuditCursor, AuditLine, Disposition, EventRecord, StoredEvent};
use riskfleet::ports::{EventStore, Route};

use crate::plan::{ATTEMPTS_LEAST, Poison};
use crate::world::{PARTITIONS, World};

/// Whether nothing is on its way any more.
pub(crate) async fn is_settled(world: &World) -> bool {
    let Ok(ledger) = world.store.ledger().await else { return false };
    let unpublished = world.store.unpublished().await.unwrap_or(1);
    let model = world.model();
    if ledger.pending > 0 || unpublished > 0 || (model.published.len() as i64) < ledger.decided {
        return false;
    }
    let expected = model.promised.iter().filter(|key| !model.answers.contains_key(key)).count() + model.answers.len();
    ledger.accepted >= expected as i64
}

/// Everything that must be true in the end; what is not goes to the model's violations.
pub(crate) async fn run(world: &Arc<World>) {
    let stored = world.store.events_since(EventId::floor(0), u32::MAX).await.unwrap_or_default();
    let sealed = stored.len();
    let events = world.keyring.reveal_events(stored).await.unwrap_or_default();
    if events.len() != sealed {
        world.violated(format!("{} events do not open", sealed - events.len()));
    }
    let mut epochs = BTreeMap::new();
    for event in &events {
        if let Ok(Some(record)) = world.store.event(&Scope::Fleet, event.id).await
            && let Ok(Some(record)) = world.keyring.reveal(record).await
        {
            check_event(world, event, &record);
            epochs.extend(record.end.map(|end| (event.id, end.epoch)));
        }
    }
    check_requests(world, &events);
    check_chains(world, events.len(), &epochs).await;
    check_ledger(world, events.len()).await;
    for partition in (0..PARTITIONS).map(PartitionId) {
        // Its consumers are gone: what nobody has acknowledged is back in it.
        for route in [Route::normal(partition), Route::bulk(partition)] {
            let left = world.broker.waiting(route);
            if left > 0 {
                world.violated(format!("{left} packs are left in the queue {route}"));
            }
        }
    }
}

fn check_event(world: &World, event: &StoredEvent, record: &EventRecord) {
    let id = event.id;
    let Some(end) = &record.end else {
        world.violated(format!("{id} of {} has no disposition; outbox: {:?}", event.partition, record.unpublished));
        return;
    };
    let poison = Poison::of(&event.body);
    let text = match &end.disposition {
        Disposition::Decided { decision, .. } => decision,
        Disposition::Dead { class, attempts, .. } => {
            world.saw("an event was buried");
            // So many workers died with it in hand that it was taken for the reason.
            let unlucky = *class == FailureClass::UnexpectedError && *attempts >= ATTEMPTS_LEAST && died(world);
            if poison.is_none() && !unlucky {
                world.violated(format!("{id} is dead without a reason: {:?}", end.disposition));
            }
            return;
        }
    };
    if matches!(poison, Some(Poison::Refused | Poison::Looper)) {
        world.violated(format!("{id} is {poison:?} and was decided"));
    }
    let Ok(decision) = Decision::from_canonical(text) else {
        world.violated(format!("the decision of {id} can't be read"));
        return;
    };
    if (&decision.tenant_id, decision.event_id) != (&event.tenant, id) {
        world.violated(format!("{id} of {} has a decision of {}", event.tenant, decision.tenant_id));
    }
    match EventBody::from_canonical(&event.body) {
        Ok(body) => {
            let event = Event { id, correlation_id: event.correlation_id.clone(), body };
            if replay(&event, &decision, &Policy::baseline()).canonical() != text[..] {
                world.violated(format!("the replay of {id} is another decision"));
            }
        }
        Err(e) => world.violated(format!("{id} can't be read: {e}")),
    }
    let told = world.model().published.get(&id).cloned();
    match told {
        Some(told) if told.as_bytes() == &text[..] => {}
        Some(_) => world.violated(format!("another decision of {id} was published than is stored")),
        None => world.violated(format!("the outcome of {id} was never published; outbox: {:?}", record.unpublished)),
    }
}

/// Whether a worker was lost in this run.
fn died(world: &World) -> bool {
    let model = world.model();
    ["a process died in a call", "a process was killed", "an event brought its worker down"]
        .iter()
        .any(|what| model.seen.contains_key(what))
}

/// Every answer is an event, every event was asked for, and every request is one event at most.
fn check_requests(world: &World, events: &[StoredEvent]) {
    let mut wrong = Vec::new();
    let model = world.model();
    let stored: BTreeMap<EventId, &StoredEvent> = events.iter().map(|e| (e.id, e)).collect();
    for (key, id) in &model.answers {
        match stored.get(id) {
            Some(event) if event.tenant == key.0 => {}
            Some(event) => wrong.push(format!("{id} is stored for {}, not for {}", event.tenant, key.0)),
            None => wrong.push(format!("{id} was acknowledged to {}/{} and is not stored", key.0, key.1)),
        }
    }
    // Correlation ids are the keys, save for what came through the inbox, which makes its own: the
    // amount is the request's number everywhere.
    let mut by_request: BTreeMap<_, Vec<EventId>> = BTreeMap::new();
    for event in events {
        let amount = EventBody::from_canonical(&event.body).ok().and_then(|b| b.amount).unwrap_or(-1);
        by_request.entry((event.tenant.clone(), format!("k{amount}"))).or_default().push(event.id);
    }
    for ((tenant, key), ids) in &by_request {
        if !model.attempts.iter().any(|(t, k)| t == tenant && k.as_str() == key) {
            wrong.push(format!("nobody has ever sent {tenant}/{key}, which is {ids:?}"));
        }
        if ids.len() > 1 {
            wrong.push(format!("{tenant}/{key} is {} events: {ids:?}", ids.len()));
        }
    }
    for (tenant, key) in &model.promised {
        if !by_request.contains_key(&(tenant.clone(), key.to_string())) {
            wrong.push(format!("{tenant}/{key} was put into the inbox and is not stored"));
        }
    }
    drop(model);
    wrong.into_iter().for_each(|w| world.violated(w));
}

/// Chains are whole, with one record a disposition, and no owner writes after its successor.
async fn check_chains(world: &World, events: usize, epochs: &BTreeMap<EventId, Epoch>) {
    let (mut heads, mut newest, mut records) = (BTreeMap::new(), BTreeMap::new(), 0);
    let mut after: Option<AuditCursor> = None;
    while let Ok(page) = world.store.audit_page(after.as_ref(), 100).await {
        let Some(AuditLine { record: last, .. }) = page.last() else { break };
        after = Some(AuditCursor { tenant: last.tenant.clone(), stream: last.stream, seq: last.seq });
        for line in &page {
            records += 1;
            let place = format!("{}/{}", line.record.tenant, line.record.seq);
            let head = heads.entry(line.record.tenant.clone()).or_insert(ChainHead::EMPTY);
            let body = match check(head, &line.record) {
                Ok(body) => body,
                Err(fault) => {
                    world.violated(format!("{place}: {fault}"));
                    continue;
                }
            };
            if let Err(fault) = check_stored(&body, line.event.as_deref(), line.decision.as_deref()) {
                world.violated(format!("{place}: {fault}"));
            }
            let epoch = body.event_id.and_then(|id| epochs.get(&id)).copied();
            let before = newest.insert(line.record.tenant.clone(), epoch);
            if epoch.is_none() || before.flatten() > epoch {
                world.violated(format!("{place} was written under {epoch:?} after {before:?}"));
            }
        }
    }
    if records != events {
        world.violated(format!("{events} events have {records} audit records"));
    }
}

async fn check_ledger(world: &World, events: usize) {
    match world.store.ledger().await {
        Ok(l) if l.accepted == events as i64 && l.accepted == l.decided + l.dead && l.pending == 0 => {}
        other => world.violated(format!("{events} events are stored, and the ledger says {other:?}")),
    }
}
