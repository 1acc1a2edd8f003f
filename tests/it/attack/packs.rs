//! Genuine packs turned against the fleet: their HMAC vouches for one content in one queue, and for
//! nothing else. (Packs without a right HMAC: `fleet/abuse.rs`.)

use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, ByteArray, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use riskfleet::domain::TenantId;
use riskfleet::domain::partition::partition_of;
use serde_json::{Value, json};

use crate::harness::fleet::{Fleet, alone};
use crate::harness::traffic::{base, deliver, event};

/// A message as it lay in a queue.
struct Taken {
    body: Vec<u8>,
    properties: BasicProperties,
}

async fn take(channel: &Channel, queue: &str) -> Taken {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.expect("ask the queue");
        if let Some(message) = got {
            message.delivery.acker.ack(BasicAckOptions::default()).await.expect("take it away");
            return Taken { body: message.delivery.data.clone(), properties: message.delivery.properties.clone() };
        }
        assert!(std::time::Instant::now() < until, "nothing came into {queue}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn put(channel: &Channel, queue: &str, body: &[u8], properties: BasicProperties) {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = channel.basic_publish("".into(), queue.into(), options, body, properties).await.expect("publish");
    assert_eq!(confirm.await.expect("a confirm"), Confirmation::Ack(None), "the pack lies in its queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genuine_pack_is_good_for_its_own_events_in_its_own_queue_only() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    // No worker yet: what is published stays in the queue.
    let (acme, partitions) = ("acme".parse().expect("a tenant"), fleet.partition_queues().len());
    let partition = |tenant: &TenantId| partition_of(tenant, u16::try_from(partitions).expect("few"));
    let tenants = (0..).map(|n| format!("victim-{n}").parse::<TenantId>().expect("a tenant"));
    let other = tenants.into_iter().find(|tenant| partition(tenant) != partition(&acme)).expect("one of another queue");
    let victim = deliver(&[base(&ingest)], other.as_str(), &[event(other.as_str(), "v", 1)]).await.remove(0);
    let mut risky = event("acme", "a", 1);
    risky["event_type"] = json!("high_risk");
    let own = deliver(&[base(&ingest)], "acme", &[risky]).await.remove(0);
    fleet.until("published", "SELECT (count(*) = 0)::int::bigint FROM {ns}.outbox", 1, Duration::from_secs(30)).await;
    let queue = |partition: i64| format!("{}.events.p{partition:03}", fleet.ns);
    let at = fleet.number("SELECT partition::bigint FROM {ns}.events WHERE tenant_id = 'acme'").await;
    let connection = fleet.broker().await;
    let channel = connection.create_channel().await.expect("open a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("ask for confirms");
    let genuine = take(&channel, &queue(at)).await;
    let text = String::from_utf8(genuine.body.clone()).expect("a pack is a text");
    assert!(text.contains(&own), "{text}");
    let mac = genuine.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-mac").cloned());
    assert!(mac.is_some(), "a pack carries its HMAC");

    let pack: Value = serde_json::from_str(&text).expect("JSON");
    let changed = |pointer: &str, to: Value| {
        let mut changed = pack.clone();
        *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {pack}")) = to;
        serde_json::to_vec(&changed).expect("JSON")
    };
    // A queue that stands: the victim's.
    let elsewhere = i64::from(partition(&other).0);
    let unknown = "019aa5a0-0000-7000-8000-000000000000";
    for body in [
        changed("/events/0/id", json!(victim)),
        changed("/events/0/id", json!(unknown)),
        changed("/events/0/tenant", json!(other)),
        changed("/events/0/sealed", json!("AQID")),
        changed("/events/0/correlation_id", json!("forged")),
        changed("/v", json!(2)),
        [genuine.body.as_slice(), b" "].concat(),
    ] {
        put(&channel, &queue(at), &body, genuine.properties.clone()).await;
    }
    // As it was: in another partition's queue, and again and again in its own.
    put(&channel, &queue(elsewhere), &genuine.body, genuine.properties.clone()).await;
    for _ in 0..5 {
        put(&channel, &queue(at), &genuine.body, genuine.properties.clone()).await;
    }
    // Its HMAC cut and stretched.
    for mac in [vec![], vec![0; 31], vec![0; 33]] {
        let mut headers = FieldTable::default();
        headers.insert("x-mac".into(), AMQPValue::ByteArray(ByteArray::from(mac)));
        put(&channel, &queue(at), &genuine.body, BasicProperties::default().with_headers(headers)).await;
    }

    let mut worker = fleet.worker("worker").await;
    fleet.settled(2, Duration::from_secs(90)).await;
    let high = crate::vaults::stored(&fleet).await.into_iter().filter(|one| {
        let decision = one.decision.as_ref().unwrap_or(&Value::Null);
        one.tenant.as_str() == "acme" && decision["risk_score"] == 85.0
    });
    assert_eq!(high.count(), 1, "decided on what is stored: high risk, once");
    worker.until_counted("riskfleet_packs_forged_total", 11.0).await;
    assert!(worker.runs(), "the worker went on");
    deliver(&[base(&ingest)], "acme", &[event("acme", "after", 2)]).await;
    fleet.settled(3, Duration::from_secs(60)).await;
}
