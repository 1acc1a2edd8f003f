//! Owns the making of packs out of events, and the believing of packs. Pure: never publishes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

use super::envelope::is_sealed;
use super::seal::PackSeal;
use crate::domain::pack::{PACK_FORMAT, Pack, PackedEvent};
use crate::domain::{CorrelationId, EventId, PartitionId, TenantId, TraceContext};
use crate::ports::store::StoredEvent;
use crate::ports::{PackMessage, Route, Traffic};

/// An event to be packed.
#[derive(Debug, Clone, Copy)]
pub struct Packable<'a> {
    /// The event.
    pub id: EventId,
    /// Whose.
    pub tenant: &'a TenantId,
    /// Where its tenant lives.
    pub partition: PartitionId,
    /// Whether its tenant is within its rate.
    pub traffic: Traffic,
    /// Of its request.
    pub correlation_id: &'a CorrelationId,
    /// The queue of the process that waits for the decision.
    pub reply_to: Option<&'a str>,
    /// The span that publishes it, where it is traced.
    pub traceparent: Option<TraceContext>,
    /// As it is stored.
    pub body: &'a Bytes,
}

impl<'a> Packable<'a> {
    /// An event out of the store: nobody waits for it any more.
    fn stored(event: &'a StoredEvent, traffic: Traffic) -> Self {
        let StoredEvent { id, partition, correlation_id, body, tenant } = event;
        let (id, partition) = (*id, *partition);
        Self { id, tenant, partition, traffic, correlation_id, reply_to: None, traceparent: None, body }
    }

    fn route(&self) -> Route {
        Route { partition: self.partition, traffic: self.traffic }
    }
}

/// Events of one tenant in one row or page that are published again, at most, by the normal queue:
/// nobody knows any more how fast they came, and many of them at once are no calm tenant's.
const UNPACED_NORMAL_MAX: usize = 100;

/// Events out of the store, to be published again: a tenant with many of them goes behind the
/// others.
pub fn unpaced(events: &[StoredEvent]) -> Vec<Packable<'_>> {
    let mut each: HashMap<&TenantId, usize> = HashMap::new();
    for event in events {
        *each.entry(&event.tenant).or_default() += 1;
    }
    let traffic = |tenant| if each[tenant] > UNPACED_NORMAL_MAX { Traffic::Bulk } else { Traffic::Normal };
    events.iter().map(|e| Packable::stored(e, traffic(&e.tenant))).collect()
}

/// What an event costs in a pack beside its text, in bytes; generous.
const ENVELOPE: usize = 400;

/// Makes sealed packs of at most about so many bytes.
#[derive(Clone)]
pub struct Packer {
    seal: PackSeal,
    bytes_max: usize,
}

impl Packer {
    /// A packer for packs of about `bytes_max` bytes; an event that is larger travels as its id.
    pub fn new(seal: PackSeal, bytes_max: usize) -> Self {
        Self { seal, bytes_max }
    }

    /// Packs events by queue, in their order. The same events with the same traffic under the same
    /// `origin` give the same messages with the same ids.
    pub fn pack(&self, origin: &str, events: &[Packable<'_>]) -> Vec<PackMessage> {
        let mut sorted: Vec<&Packable<'_>> = events.iter().collect();
        // Stable: the order within a queue stays.
        sorted.sort_by_key(|e| e.route());
        let mut messages = Vec::new();
        for same in sorted.chunk_by(|a, b| a.route() == b.route()) {
            let mut rest = same;
            let mut number = 0;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(self.fitting(rest));
                messages.push(self.message(format!("{origin}.{}.{number}", now[0].route()), now));
                (rest, number) = (later, number + 1);
            }
        }
        messages
    }

    /// How many of the events fit into one pack; at least one.
    fn fitting(&self, events: &[&Packable<'_>]) -> usize {
        let mut bytes = 0;
        for (n, event) in events.iter().enumerate() {
            bytes += ENVELOPE + if self.oversized(event) { 0 } else { travelling(event.body) };
            if bytes > self.bytes_max && n > 0 {
                return n;
            }
        }
        events.len()
    }

    fn oversized(&self, event: &Packable<'_>) -> bool {
        travelling(event.body) + ENVELOPE > self.bytes_max
    }

    fn message(&self, message_id: String, events: &[&Packable<'_>]) -> PackMessage {
        let route = events[0].route();
        let events = events.iter().map(|e| self.packed(e)).collect();
        let pack = Pack { v: PACK_FORMAT, partition: route.partition, events };
        // Text keys and valid JSON texts only: the serializer has nothing to refuse.
        let body = Bytes::from(serde_json::to_vec(&pack).unwrap_or_default());
        let mac = self.seal.sign(&body);
        PackMessage { message_id, route, body, mac }
    }

    fn packed<'a>(&self, event: &Packable<'a>) -> PackedEvent<'a> {
        let whole = !self.oversized(event);
        let sealed = (whole && is_sealed(event.body)).then(|| Cow::Owned(BASE64.encode(event.body)));
        // What is no JSON text either travels as its id, and the worker finds out from the store.
        let clear = whole && sealed.is_none();
        let text = if clear { serde_json::from_slice::<&RawValue>(event.body).ok() } else { None };
        PackedEvent {
            id: event.id,
            correlation_id: (sealed.is_some() || text.is_some()).then(|| event.correlation_id.clone()),
            reply_to: event.reply_to.map(str::to_owned),
            traceparent: event.traceparent,
            tenant: sealed.is_some().then(|| event.tenant.clone()),
            sealed,
            event: text,
        }
    }
}

/// The bytes that a text takes in a pack.
fn travelling(body: &[u8]) -> usize {
    if is_sealed(body) { body.len().div_ceil(3) * 4 } else { body.len() }
}

/// The text of an event that travels whole, as it is stored; none for one that travels as its id, or
/// in a form that is not read here.
pub fn text_of(packed: &PackedEvent<'_>, pack: &Bytes) -> Option<Bytes> {
    match (&packed.sealed, packed.event) {
        (Some(sealed), _) => BASE64.decode(sealed.as_bytes()).ok().map(Bytes::from),
        (None, Some(text)) => Some(pack.slice_ref(text.get().as_bytes())),
        (None, None) => None,
    }
}

/// What a message turned out to be.
#[derive(Debug)]
pub enum Opened<'a> {
    /// Written by a process of this fleet: its content is the stored content.
    Genuine(Pack<'a>),
    /// Not vouched for, but readable: its events are looked up in the store.
    Forged(Vec<EventId>),
    /// No pack at all.
    Garbage,
}

/// Opens a message: believed when the MAC agrees and the format and partition are right.
pub fn open<'a>(seal: &PackSeal, partition: PartitionId, body: &'a [u8], mac: Option<&[u8; 32]>) -> Opened<'a> {
    let vouched = mac.is_some_and(|mac| seal.agrees(body, mac));
    let Ok(pack) = serde_json::from_slice::<Pack<'a>>(body) else { return Opened::Garbage };
    if vouched && pack.v == PACK_FORMAT && pack.partition == partition {
        return Opened::Genuine(pack);
    }
    Opened::Forged(pack.events.iter().map(|e| e.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correlation() -> CorrelationId {
        CorrelationId::parse("c").expect("legal")
    }

    fn tenant() -> TenantId {
        TenantId::parse("acme").expect("legal")
    }

    fn pack_all(bytes_max: usize, bodies: &[(u16, Bytes)]) -> (PackSeal, Vec<PackMessage>) {
        let seal = PackSeal::new(&[3; 32]);
        let (c, tenant) = (correlation(), tenant());
        let events: Vec<Packable<'_>> = bodies
            .iter()
            .enumerate()
            .map(|(n, (p, body))| Packable {
                id: EventId::mint(1_700_000_000_000 + n as u64, [0; 10]),
                tenant: &tenant,
                partition: PartitionId(*p),
                traffic: Traffic::Normal,
                correlation_id: &c,
                reply_to: None,
                traceparent: None,
                body,
            })
            .collect();
        (seal.clone(), Packer::new(seal, bytes_max).pack("batch", &events))
    }

    #[test]
    fn events_travel_by_partition_and_within_the_bound() {
        let body = Bytes::from_static(br#"{"kind":"risk"}"#);
        let bodies: Vec<(u16, Bytes)> = (0..10).map(|n| (n % 2, body.clone())).collect();
        let (seal, packs) = pack_all(1_300, &bodies);
        assert!(packs.iter().all(|p| p.body.len() <= 1_300));
        let ids: Vec<&str> = packs.iter().map(|p| p.message_id.as_str()).collect();
        assert_eq!(ids, ["batch.p000.0", "batch.p000.1", "batch.p001.0", "batch.p001.1"]);
        let mut events = 0;
        for p in &packs {
            let Opened::Genuine(pack) = open(&seal, p.route.partition, &p.body, Some(&p.mac)) else {
                panic!("not believed")
            };
            events += pack.events.len();
        }
        assert_eq!(events, 10);
        assert_eq!(pack_all(1_300, &bodies).1, packs, "the same events give the same messages");
    }

    #[test]
    fn packs_never_mix_the_two_queues_of_a_partition() {
        let (seal, c, body) = (PackSeal::new(&[3; 32]), correlation(), Bytes::from_static(b"{}"));
        let tenant = tenant();
        let events: Vec<Packable<'_>> = (0..6)
            .map(|n| Packable {
                id: EventId::mint(1_700_000_000_000 + n, [0; 10]),
                tenant: &tenant,
                partition: PartitionId(0),
                traffic: if n % 2 == 0 { Traffic::Normal } else { Traffic::Bulk },
                correlation_id: &c,
                reply_to: None,
                traceparent: None,
                body: &body,
            })
            .collect();
        let packs = Packer::new(seal.clone(), 10_000).pack("batch", &events);
        let ids: Vec<&str> = packs.iter().map(|p| p.message_id.as_str()).collect();
        assert_eq!(ids, ["batch.p000.0", "batch.p000.bulk.0"]);
        for (message, odd) in packs.iter().zip([0, 1]) {
            let Opened::Genuine(pack) = open(&seal, PartitionId(0), &message.body, Some(&message.mac)) else {
                panic!()
            };
            let sent: Vec<u64> = pack.events.iter().map(|e| e.id.millis() % 2).collect();
            assert_eq!(sent, [odd; 3]);
        }
    }

    #[test]
    fn what_is_published_again_goes_behind_when_it_is_much() {
        let stored = |n: u64, tenant: &str| StoredEvent {
            id: EventId::mint(1_700_000_000_000 + n, [0; 10]),
            tenant: TenantId::parse(tenant).expect("legal"),
            partition: PartitionId(0),
            correlation_id: correlation(),
            body: Bytes::from_static(b"{}"),
        };
        let mut row: Vec<StoredEvent> = (0..101).map(|n| stored(n, "flood")).collect();
        row.extend((200..300).map(|n| stored(n, "calm")));
        let events = unpaced(&row);
        assert!(events[..101].iter().all(|e| e.traffic == Traffic::Bulk));
        assert!(events[101..].iter().all(|e| e.traffic == Traffic::Normal) && events.len() == 201);
    }

    #[test]
    fn a_sealed_event_travels_as_it_is_stored() {
        let bodies =
            [(0, Bytes::from(vec![crate::crypto::envelope::FORMAT, 0, 255, 7])), (0, Bytes::from_static(b"{}"))];
        let (seal, packs) = pack_all(2_000, &bodies);
        let Opened::Genuine(pack) = open(&seal, PartitionId(0), &packs[0].body, Some(&packs[0].mac)) else { panic!() };
        let texts: Vec<Option<Bytes>> = pack.events.iter().map(|e| text_of(e, &packs[0].body)).collect();
        assert_eq!(texts, bodies.map(|(_, body)| Some(body)));
        assert_eq!((pack.events[0].tenant.as_ref(), pack.events[1].tenant.as_ref()), (Some(&tenant()), None));
    }

    #[test]
    fn an_oversized_event_travels_as_its_id() {
        let large = Bytes::from(format!(r#"{{"t":"{}"}}"#, "x".repeat(5_000)));
        let (seal, packs) = pack_all(2_000, &[(0, large)]);
        let Opened::Genuine(pack) = open(&seal, PartitionId(0), &packs[0].body, Some(&packs[0].mac)) else { panic!() };
        assert!(pack.events[0].event.is_none() && packs[0].body.len() < 500);
    }

    #[test]
    fn what_nobody_vouches_for_is_not_believed() {
        let (seal, packs) = pack_all(2_000, &[(0, Bytes::from_static(b"{}"))]);
        let p = &packs[0];
        for (partition, body, mac) in
            [(0, p.body.clone(), None), (0, p.body.clone(), Some([0; 32])), (1, p.body.clone(), Some(p.mac))]
        {
            assert!(
                matches!(open(&seal, PartitionId(partition), &body, mac.as_ref()), Opened::Forged(ids) if ids.len() == 1)
            );
        }
        assert!(matches!(open(&seal, PartitionId(0), b"\x00garbage", Some(&p.mac)), Opened::Garbage));
    }
}
