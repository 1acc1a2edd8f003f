//! Tests: forged packs and crowds. What does not come through the store decides nothing, and the
//! same request a hundred times is one event.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use serde_json::{Value, json};

use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::traffic::{base, batch, deliver, event};

/// The header that carries a pack's HMAC, as forgers may fill it.
fn macs() -> Vec<Option<AMQPValue>> {
    vec![
        None,
        Some(AMQPValue::ByteArray(vec![7; 32].into())),
        Some(AMQPValue::LongString("07".repeat(32).into())),
        Some(AMQPValue::LongString("short".into())),
        Some(AMQPValue::LongLongInt(7)),
    ]
}

/// A channel on which the broker says that it has a message: a quorum queue that still elects its leader
/// loses what nobody wants to have confirmed.
async fn confirming(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.expect("open a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("ask for confirms");
    channel
}

async fn publish(channel: &Channel, queue: &str, body: &[u8], mac: Option<AMQPValue>) {
    let mut headers = FieldTable::default();
    if let Some(mac) = mac {
        headers.insert("x-mac".into(), mac);
    }
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = channel.basic_publish("".into(), queue.into(), options, body, properties).await.expect("publish");
    assert_eq!(confirm.await.expect("a confirm"), Confirmation::Ack(None), "a forged pack lies in its queue");
}

/// A pack that claims an event with this content.
fn pack(partition: usize, id: &str, content: &Value) -> Vec<u8> {
    let event = json!({"id": id, "correlation_id": "forged", "event": content});
    serde_json::to_vec(&json!({"v": 1, "partition": partition, "events": [event]})).expect("JSON")
}

fn content(tenant: &str) -> Value {
    json!({"kind": "risk", "event_type": "low_risk", "version": "1", "tenant_id": tenant})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_pack_decides_nothing_and_stops_nobody() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    let mut worker = fleet.worker("worker").await;
    fleet.until_owned(&worker).await;
    let queues = fleet.partition_queues();
    let connection = fleet.broker().await;
    let channel = confirming(&connection).await;
    let mut forged = 0.0;
    for (partition, queue) in queues.iter().enumerate() {
        for mac in macs() {
            // An id of now, by the store's clock: one that an honest ingest could have minted.
            let millis = fleet.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await;
            let random = uuid::Uuid::new_v4().as_bytes()[..10].try_into().expect("10 of 16 bytes");
            let id = riskfleet::domain::EventId::mint(millis.unsigned_abs(), random);
            publish(&channel, queue, &pack(partition, &id.to_string(), &content("victim")), mac.clone()).await;
            publish(&channel, queue, b"\xff\x00{{{{ no pack", mac.clone()).await;
            publish(&channel, queue, b"", mac).await;
            forged += 3.0;
        }
    }
    worker.until_counted("riskfleet_packs_forged_total", forged).await;

    deliver(&[base(&ingest)], "honest", &batch("honest", "after", 0..100)).await;
    fleet.settled(100, Duration::from_secs(60)).await;
    assert_eq!(fleet.number("SELECT count(*) FROM {ns}.decisions WHERE tenant_id <> 'honest'").await, 0);
    assert_eq!(fleet.number("SELECT count(*) FROM {ns}.audit WHERE tenant_id <> 'honest'").await, 0);
    assert!(worker.runs(), "the worker went on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_content_of_a_real_event_is_not_believed() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    // The queues exist once a worker or an ingest has been there; nobody consumes them now.
    let mut real = event("acme", "real-1", 1);
    real["event_type"] = json!("high_risk");
    let ids = deliver(&[base(&ingest)], "acme", &[real]).await;
    fleet.until("published", "SELECT (count(*) = 0)::int::bigint FROM {ns}.outbox", 1, Duration::from_secs(30)).await;
    let partition = fleet.number("SELECT partition::bigint FROM {ns}.events").await;
    let queue = format!("{}.events.p{partition:03}", fleet.ns);
    let connection = fleet.broker().await;
    let channel = confirming(&connection).await;
    channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await.expect("take the real pack away");
    let partition = usize::try_from(partition).expect("a partition");
    for mac in macs() {
        // The same event as low risk, and as somebody else's.
        publish(&channel, &queue, &pack(partition, &ids[0], &content("acme")), mac.clone()).await;
        publish(&channel, &queue, &pack(partition, &ids[0], &content("other")), mac).await;
    }
    let _worker = fleet.worker("worker").await;
    fleet.settled(1, Duration::from_secs(90)).await;
    let high = crate::vaults::stored(&fleet).await.into_iter().filter(|one| {
        let decision = one.decision.as_ref().unwrap_or(&Value::Null);
        one.tenant.as_str() == "acme" && decision["risk_score"] == 85.0
    });
    assert_eq!(high.count(), 1, "decided on what is stored: high risk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_concurrent_copies_of_one_request_are_one_event() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingests = [fleet.ingest("ingest-1").await, fleet.ingest("ingest-2").await];
    let _worker = fleet.worker("worker").await;
    let mut body = event("acme", "-", 1);
    body.as_object_mut().expect("an object").remove("idempotency_key");
    let requests = (0..100).map(|n| {
        let url = format!("{}/v1/events", base(&ingests[n % 2]));
        let request = http().post(url).header("x-tenant-id", "acme").header("x-idempotency-key", "one").json(&body);
        async move {
            let answer = request.send().await.expect("an answer");
            let (status, replayed) = (answer.status().as_u16(), answer.headers().contains_key("idempotency-replayed"));
            let body: Value = answer.json().await.expect("a JSON answer");
            (status, replayed, body["event_id"].as_str().unwrap_or_else(|| panic!("no id in {body}")).to_owned())
        }
    });
    let answers = futures::future::join_all(requests).await;
    let ids: BTreeSet<&String> = answers.iter().map(|(_, _, id)| id).collect();
    assert_eq!(ids.len(), 1, "one id for all");
    let fresh = answers.iter().filter(|(status, replayed, _)| (*status, *replayed) == (202, false)).count();
    let replayed = answers.iter().filter(|(status, replayed, _)| (*status, *replayed) == (200, true)).count();
    assert_eq!((fresh, replayed), (1, 99));
    fleet.settled(1, Duration::from_secs(30)).await;
    let again = deliver(&[base(&ingests[0])], "globex", &[event("globex", "one", 1)]).await;
    assert_ne!(
        ids.first().map(|id| id.as_str()),
        again.first().map(String::as_str),
        "another tenant's key is another key"
    );
    fleet.settled(2, Duration::from_secs(30)).await;
}
