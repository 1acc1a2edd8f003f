//! Tests of what is told of an event that goes another way than most.

use std::sync::Arc;

use chrono::DateTime;

use super::*;
use crate::domain::{AuditBody, Charge, FailureClass, PartitionId, Stream, TenantId, WorkerId};
use crate::lifecycle::{SystemClock, SystemEntropy};
use crate::ports::broker::{Route, Traffic};
use crate::ports::{Ack, BrokerError};
use crate::telemetry::traces::{Recorded, Rules, Systems};
use crate::worker::buffer::{Content, PackInHand};
use crate::worker::lane::by_id;

struct Unheard;

#[async_trait::async_trait]
impl Ack for Unheard {
    async fn ack(&self) -> Result<bool, BrokerError> {
        Ok(true)
    }
}

fn traces() -> (Traces, Recorded) {
    let rules = Rules { percent: 0, events_per_s: 10, systems: Systems::SERVERS };
    Traces::by(rules, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
}

fn published(flags: &str) -> Option<TraceContext> {
    TraceContext::parse(&format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"))
}

fn event(n: u64) -> EventId {
    EventId::mint(n, [0; 10])
}

/// Events 0 and on; those are traced whose pack says so.
fn items(traces: &Traces, published: &[Option<TraceContext>]) -> Vec<Item> {
    let pack = PackInHand::new(Box::new(Unheard), published.len(), Arc::default());
    let item = |(n, published): (usize, &Option<TraceContext>)| Item {
        content: Content::Stored(event(n as u64)),
        route: Route { partition: PartitionId(3), traffic: Traffic::Normal },
        start: Start::Redelivered,
        reply_to: None,
        pack: Arc::clone(&pack),
        trace: Traced::delivered(traces, *published),
        room: None,
    };
    published.iter().enumerate().map(item).collect()
}

fn batch(dispositions: Vec<Disposition>) -> CommitBatch {
    let tenant = TenantId::parse("acme").expect("legal");
    let worker = WorkerId(uuid::Uuid::nil());
    let audit = AuditBody::new(
        (tenant.clone(), Stream::Workflow),
        DateTime::UNIX_EPOCH,
        "worker",
        "decision_made",
        ("event", ""),
    );
    let item = |(n, disposition): (usize, Disposition)| NewDisposition {
        event: event(n as u64),
        tenant: tenant.clone(),
        partition: PartitionId(3),
        disposition,
        audit: audit.clone(),
    };
    let items = dispositions.into_iter().enumerate().map(item).collect();
    CommitBatch { id: uuid::Uuid::nil(), worker, at: DateTime::UNIX_EPOCH, epochs: Vec::new(), items }
}

fn decided() -> Disposition {
    Disposition::Decided {
        outcome: Outcome::Approved,
        decision: bytes::Bytes::new(),
        timings: vec![5; 6],
        charge: Charge::default(),
    }
}

#[test]
fn only_what_its_pack_calls_sampled_is_told_of() {
    let (traces, mut recorded) = traces();
    let items = items(&traces, &[published("01"), published("00"), None]);
    assert_eq!(items.iter().map(|item| item.trace.is_some()).collect::<Vec<_>>(), [true, false, false]);
    handed_over(&traces, &items);
    let told = recorded.taken();
    assert_eq!((told.len(), told[0].name(), told[0].parent()), (1, "deliver", published("01").map(|p| p.span)));
    assert!(format!("{told:?}").contains("riskfleet.redelivered\", Flag(true)"), "{told:?}");
    assert!(Traced::delivered(&Traces::off(), published("01")).is_none());
}

#[test]
fn stages_stand_one_after_the_other() {
    let (traces, mut recorded) = traces();
    let items = items(&traces, &[published("01"), None]);
    let (spans, batch) = (Spans::of(&items), batch(vec![decided(), decided()]));
    for disposition in &batch.items {
        spans.decided(&traces, Duration::from_millis(7), disposition);
    }
    let told = recorded.taken();
    let names: Vec<&str> = told.iter().map(Span::name).collect();
    assert_eq!(names, Stage::ALL.map(Stage::as_str));
    let delivery = items[0].trace.as_ref().expect("traced").delivery;
    assert!(told.iter().all(|span| span.parent() == Some(delivery.span)));
}

#[test]
fn a_commit_says_what_it_has_written_and_only_that_has_an_outcome() {
    let (traces, mut recorded) = traces();
    let items = by_id(items(&traces, &[published("01"); 4]));
    let dead = Disposition::Dead { class: FailureClass::WorkflowError, error: "secret".into(), attempts: 5 };
    let batch = batch(vec![decided(), decided(), decided(), dead]);
    let verdicts = [Committed::Written, Committed::Duplicate, Committed::Fenced, Committed::Written];
    let told = committed(&traces, Duration::ZERO, (&batch, &verdicts), &items);
    assert_eq!(told.iter().map(|told| told.event).collect::<Vec<_>>(), [event(0)]);
    let spans: Vec<String> = recorded.taken().iter().map(|span| format!("{span:?}")).collect();
    for (span, said) in spans.iter().zip(["written", "duplicate", "fenced", "WORKFLOW_ERROR"]) {
        assert!(span.contains(said) && !span.contains("secret"), "{said}: {span}");
    }
    super::published(&traces, Duration::ZERO, &told, false);
    let outcome = recorded.taken().remove(0);
    assert_eq!((outcome.name(), outcome.parent()), ("outcome", Some(told[0].commit.span)));
    assert!(format!("{outcome:?}").contains("unconfirmed"));
    assert!(committed(&Traces::off(), Duration::ZERO, (&batch, &verdicts), &items).is_empty());
}
