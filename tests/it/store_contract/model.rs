//! Random interleavings of accepts, claims, attempt marks, retries, commits, acts on dead letters
//! and steps of the mark, held against a model that is too simple to be wrong.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use riskfleet::domain::{Epoch, EventId, Outcome, PartitionId, Scope, Status, TenantId, WorkerId};
use riskfleet::lifecycle::SystemEntropy;
use riskfleet::ports::Entropy;
use riskfleet::ports::store::{
    Accepted, Committed, DeadAct, DeadFilter, Disposition, Ledger, Mark, Marking, NewDisposition, NewEvent, NewRetry,
    PastAct,
};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::deaths::{discard, replay};
use super::fixture::{Fixture, Owner, PARTITIONS, dead, decided, retry, tenant};

const STEPS: usize = 250;

#[derive(Default)]
struct Model {
    keys: BTreeMap<(TenantId, String), NewEvent>,
    events: BTreeMap<EventId, NewEvent>,
    ends: BTreeMap<EventId, Disposition>,
    epochs: BTreeMap<PartitionId, Epoch>,
    tries: BTreeMap<EventId, Try>,
    acts: BTreeMap<EventId, Vec<PastAct>>,
    /// Dispositions ever written: the lengths of the workflow chains.
    written: BTreeMap<TenantId, i64>,
}

#[derive(Clone, Copy)]
struct Try {
    attempts: u32,
    worker: Option<WorkerId>,
    waits: bool,
}

impl Model {
    fn accept(&mut self, event: &NewEvent) -> &'static str {
        let key = (event.tenant.clone(), event.key.to_string());
        match self.keys.get(&key) {
            Some(first) if first.payload_hash == event.payload_hash => "replayed",
            Some(_) => "conflict",
            None => {
                self.keys.insert(key, event.clone());
                self.events.insert(event.id, event.clone());
                "fresh"
            }
        }
    }

    fn commit(&mut self, believed: &BTreeMap<PartitionId, Epoch>, item: &NewDisposition) -> Committed {
        if believed.get(&item.partition) != self.epochs.get(&item.partition) {
            Committed::Fenced
        } else if let Entry::Vacant(end) = self.ends.entry(item.event) {
            end.insert(item.disposition.clone());
            self.tries.remove(&item.event);
            *self.written.entry(item.tenant.clone()).or_default() += 1;
            Committed::Written
        } else {
            Committed::Duplicate
        }
    }

    fn mark(&mut self, owner: &Owner, marking: Marking, event: &NewEvent) -> Mark {
        if owner.epochs.get(&event.partition) != self.epochs.get(&event.partition) {
            return Mark::Fenced;
        }
        if self.ends.contains_key(&event.id) {
            return Mark::Settled;
        }
        let before = self.tries.get(&event.id).copied();
        if marking == Marking::Together && before.is_some_and(|before| before.waits) {
            return Mark::Waiting;
        }
        let by_other = before.and_then(|before| before.worker).is_some_and(|worker| worker != owner.worker);
        let mut now = before.unwrap_or(Try { attempts: 0, worker: Some(owner.worker), waits: false });
        if marking == Marking::Alone || before.is_none() {
            now = Try { attempts: now.attempts + 1, worker: Some(owner.worker), ..now };
        }
        self.tries.insert(event.id, now);
        Mark::Begun { attempts: now.attempts, by_other }
    }

    fn postpone(&mut self, believed: &BTreeMap<PartitionId, Epoch>, item: &NewRetry) -> Committed {
        if believed.get(&item.partition) != self.epochs.get(&item.partition) {
            Committed::Fenced
        } else if self.ends.contains_key(&item.event) {
            Committed::Duplicate
        } else {
            let counted = self.tries.get(&item.event).map_or(0, |tries| tries.attempts);
            let attempts = item.attempts.max(counted);
            self.tries.insert(item.event, Try { attempts, worker: None, waits: true });
            Committed::Written
        }
    }

    fn act(&mut self, event: EventId, act: PastAct) -> DeadAct {
        if !matches!(self.ends.get(&event), Some(Disposition::Dead { .. })) {
            return DeadAct::NotDead(self.status(event));
        }
        let acts = self.acts.entry(event).or_default();
        if acts.contains(&PastAct::Discarded) {
            return DeadAct::Discarded;
        }
        acts.push(act);
        if act == PastAct::Replayed {
            self.ends.remove(&event);
            self.tries.insert(event, Try { attempts: 0, worker: None, waits: true });
        }
        DeadAct::Done
    }

    fn waits(&self, event: &EventId) -> bool {
        self.tries.get(event).is_some_and(|tries| tries.waits)
    }

    fn status(&self, event: EventId) -> Status {
        match self.ends.get(&event) {
            Some(end) => end.status(),
            None if self.waits(&event) => Status::Retrying,
            None => Status::Received,
        }
    }

    /// Dead letters that nobody has dealt with, newest first.
    fn dead(&self) -> Vec<EventId> {
        let discarded = |id: &EventId| self.acts.get(id).is_some_and(|acts| acts.contains(&PastAct::Discarded));
        let dead = self.ends.iter().filter(|(_, end)| matches!(end, Disposition::Dead { .. })).map(|(id, _)| *id);
        dead.filter(|id| !discarded(id)).rev().collect()
    }

    fn ledger(&self) -> Ledger {
        let dead = self.ends.values().filter(|end| matches!(end, Disposition::Dead { .. })).count() as i64;
        let (accepted, ended) = (self.events.len() as i64, self.ends.len() as i64);
        Ledger { accepted, decided: ended - dead, dead, pending: accepted - ended }
    }
}

struct Run<'a> {
    f: &'a Fixture,
    rng: StdRng,
    model: Model,
    owners: Vec<Owner>,
}

impl Run<'_> {
    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..25 => self.accept().await,
            25..50 => self.commit().await,
            50..60 => self.mark().await,
            60..70 => self.postpone().await,
            70..80 => self.act().await,
            80..90 => self.claim().await,
            _ => self.pass().await,
        }
    }

    async fn accept(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..self.rng.random_range(1..7) {
            let (who, key) = (tenant(self.rng.random_range(0..6)), self.rng.random_range(0..60));
            let payload = if self.rng.random_bool(0.9) { "p" } else { "q" };
            batch.push(self.f.request(&who, &format!("k{key}"), payload).await);
        }
        for (event, answer) in batch.iter().zip(self.f.accept(&batch).await) {
            let want = self.model.accept(event);
            let first = &self.model.keys[&(event.tenant.clone(), event.key.to_string())];
            let got = match answer {
                Accepted::Fresh => "fresh",
                Accepted::Replayed { id, correlation_id, status } => {
                    assert_eq!((id, &correlation_id), (first.id, &first.correlation_id));
                    assert_eq!(status, self.model.status(id));
                    "replayed"
                }
                Accepted::Conflict { id } => {
                    assert_eq!(id, first.id);
                    "conflict"
                }
            };
            assert_eq!(got, want);
        }
    }

    async fn commit(&mut self) {
        let (who, events) = self.choose();
        let mut items = Vec::new();
        for event in &events {
            items.push(match Outcome::ALL.get(self.rng.random_range(0..4)) {
                Some(outcome) => decided(event, *outcome),
                None => dead(event),
            });
        }
        let believed = self.owners[who].epochs.clone();
        let want: Vec<Committed> = items.iter().map(|item| self.model.commit(&believed, item)).collect();
        assert_eq!(self.owners[who].commit(self.f, items).await, want);
    }

    /// An owner, and some events of partitions that it has claimed some time.
    fn choose(&mut self) -> (usize, Vec<NewEvent>) {
        let who = self.rng.random_range(0..self.owners.len());
        let stored: Vec<&NewEvent> = self.model.events.values().collect();
        let chosen: BTreeMap<EventId, &NewEvent> =
            (0..self.rng.random_range(1..9)).filter_map(|_| stored.choose(&mut self.rng)).map(|e| (e.id, *e)).collect();
        let owned = |event: &&NewEvent| self.owners[who].epochs.contains_key(&event.partition);
        (who, chosen.into_values().filter(owned).cloned().collect())
    }

    async fn mark(&mut self) {
        let (who, events) = self.choose();
        let marking = if self.rng.random_bool(0.5) { Marking::Together } else { Marking::Alone };
        let owner = &mut self.owners[who];
        let want: Vec<Mark> = events.iter().map(|event| self.model.mark(owner, marking, event)).collect();
        assert_eq!(owner.mark(marking, &events).await, want);
    }

    async fn postpone(&mut self) {
        let (who, events) = self.choose();
        let wait = Duration::from_millis(self.rng.random_range(0..120_000));
        let items: Vec<NewRetry> = events.iter().map(|event| retry(event, wait)).collect();
        let believed = &self.owners[who].epochs;
        let want: Vec<Committed> = items.iter().map(|item| self.model.postpone(believed, item)).collect();
        assert_eq!(self.owners[who].postpone(items).await, want);
    }

    /// What a person does with an event, most often with a dead one.
    async fn act(&mut self) {
        let dead = self.model.dead();
        let any: Vec<EventId> = self.model.events.keys().copied().collect();
        let from = if self.rng.random_bool(0.8) { &dead } else { &any };
        let Some(id) = from.choose(&mut self.rng).copied() else { return };
        let event = &self.model.events[&id].clone();
        if self.rng.random_bool(0.8) {
            assert_eq!(replay(self.f, event).await, self.model.act(id, PastAct::Replayed));
        } else {
            assert_eq!(discard(self.f, event).await, self.model.act(id, PastAct::Discarded));
        }
    }

    async fn claim(&mut self) {
        let (who, partition) = (self.rng.random_range(0..self.owners.len()), self.rng.random_range(0..PARTITIONS));
        let epoch = self.owners[who].claim(self.f, PartitionId(partition)).await;
        let before = self.model.epochs.insert(PartitionId(partition), epoch);
        assert_eq!(epoch.0, before.map_or(0, |epoch| epoch.0) + 1);
    }

    async fn pass(&mut self) {
        if let Some(clock) = self.f.clock() {
            clock.advance(Duration::from_secs(self.rng.random_range(0..90)));
        }
        let mark = self.f.store.advance_mark().await.expect("advances");
        let holds = |id: &&EventId| !self.model.ends.contains_key(id) && !self.model.waits(id);
        let oldest = self.model.events.keys().find(holds);
        assert!(oldest.is_none_or(|oldest| mark <= *oldest), "the mark has passed an event that holds it");
        assert_eq!(self.f.ledger().await, self.model.ledger());
    }

    async fn check(&self) {
        let model = &self.model;
        assert_eq!(self.f.ledger().await, model.ledger());
        assert_eq!(self.f.chains().await, model.written);
        let mut pending = BTreeSet::new();
        for (id, event) in &model.events {
            let record = self.f.store.event(&Scope::Fleet, *id).await.expect("reads").expect("is stored");
            assert_eq!(record.status(), model.status(*id));
            assert_eq!((&record.event.tenant, &record.event.body), (&event.tenant, &event.body));
            let tries = record.retry.map(|retry| (retry.attempts, retry.worker, retry.due_at.is_some()));
            assert_eq!(tries, model.tries.get(id).map(|tries| (tries.attempts, tries.worker, tries.waits)));
            let acts: Vec<PastAct> = record.past.iter().map(|death| death.act).collect();
            assert_eq!(acts, model.acts.get(id).cloned().unwrap_or_default());
            assert_eq!(record.end.map(|end| end.disposition).as_ref(), model.ends.get(id));
            if !model.ends.contains_key(id) && !model.waits(id) {
                pending.insert(*id);
            }
        }
        let filter = DeadFilter { limit: 10_000, ..DeadFilter::default() };
        let dead = self.f.store.dead_letters(&filter).await.expect("lists");
        assert_eq!(dead.iter().map(|letter| letter.event).collect::<Vec<_>>(), model.dead());
        let mut found = BTreeSet::new();
        for partition in 0..PARTITIONS {
            let far = EventId::floor(u64::MAX >> 16);
            let page = self.f.store.pending_page(PartitionId(partition), None, far, 10_000).await.expect("reads");
            found.extend(page.into_iter().map(|event| event.id));
        }
        assert_eq!(found, pending);
    }
}

pub(super) async fn random_interleavings_agree_with_a_naive_model(f: &Fixture) {
    // Any 64 of the bits serve.
    let seed = SystemEntropy.bits() as u64;
    // Shown when a clause fails: put it in place of the line above to see it again.
    eprintln!("seed {seed}");
    let mut owners = Vec::new();
    for _ in 0..3 {
        owners.push(f.stranger().await);
    }
    let mut run = Run { f, rng: StdRng::seed_from_u64(seed), model: Model::default(), owners };
    for _ in 0..STEPS {
        run.step().await;
    }
    run.check().await;
}
