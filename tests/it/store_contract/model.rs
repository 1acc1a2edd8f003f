//! Random interleavings of accepts, replays, claims, commits and steps of the mark, held against
//! a model that is too simple to be wrong.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use riskfleet::domain::{Epoch, EventId, Outcome, PartitionId, TenantId};
use riskfleet::lifecycle::SystemEntropy;
use riskfleet::ports::Entropy;
use riskfleet::ports::store::{Accepted, Committed, Disposition, Ledger, NewDisposition, NewEvent};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fixture::{Fixture, Owner, PARTITIONS, dead, decided, tenant};

const STEPS: usize = 250;

#[derive(Default)]
struct Model {
    keys: BTreeMap<(TenantId, String), NewEvent>,
    events: BTreeMap<EventId, NewEvent>,
    ends: BTreeMap<EventId, Disposition>,
    epochs: BTreeMap<PartitionId, Epoch>,
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
            Committed::Written
        } else {
            Committed::Duplicate
        }
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
            0..35 => self.accept().await,
            35..75 => self.commit().await,
            75..88 => self.claim().await,
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
                Accepted::Replayed { id, correlation_id, .. } => {
                    assert_eq!((id, &correlation_id), (first.id, &first.correlation_id));
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
        let who = self.rng.random_range(0..self.owners.len());
        let stored: Vec<&NewEvent> = self.model.events.values().collect();
        let chosen: BTreeSet<EventId> =
            (0..self.rng.random_range(1..9)).filter_map(|_| stored.choose(&mut self.rng)).map(|e| e.id).collect();
        let mut items = Vec::new();
        for id in chosen {
            let event = &self.model.events[&id];
            if !self.owners[who].epochs.contains_key(&event.partition) {
                continue;
            }
            items.push(match Outcome::ALL.get(self.rng.random_range(0..4)) {
                Some(outcome) => decided(event, *outcome),
                None => dead(event),
            });
        }
        let believed = self.owners[who].epochs.clone();
        let want: Vec<Committed> = items.iter().map(|item| self.model.commit(&believed, item)).collect();
        assert_eq!(self.owners[who].commit(self.f, items).await, want);
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
        let pending = self.model.events.keys().find(|id| !self.model.ends.contains_key(id));
        assert!(pending.is_none_or(|oldest| mark <= *oldest), "the mark has passed a pending event");
        assert_eq!(self.f.ledger().await, self.model.ledger());
    }

    async fn check(&self) {
        let model = &self.model;
        assert_eq!(self.f.ledger().await, model.ledger());
        let mut lengths: BTreeMap<TenantId, i64> = BTreeMap::new();
        for id in model.ends.keys() {
            *lengths.entry(model.events[id].tenant.clone()).or_default() += 1;
        }
        assert_eq!(self.f.chains().await, lengths);
        let mut pending = BTreeSet::new();
        for (id, event) in &model.events {
            let record = self.f.store.event(*id).await.expect("reads").expect("is stored");
            assert_eq!(record.end.map(|end| end.disposition).as_ref(), model.ends.get(id));
            assert_eq!((&record.event.tenant, &record.event.body), (&event.tenant, &event.body));
            if !model.ends.contains_key(id) {
                pending.insert(*id);
            }
        }
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
