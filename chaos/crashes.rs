//! Tests: every window in which a process can die, or the broker can forget, closes by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::ExchangeKind;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;

use crate::harness::amqp_url;
use crate::harness::fleet::{Fleet, alone};
use crate::harness::traffic::{base, batch, deliver, post};
use crate::proxy::{Mode, Proxy};

/// A proxy before the broker, and the URL that leads through it.
async fn broker_proxy() -> (Proxy, String) {
    let url = reqwest::Url::parse(&amqp_url()).expect("the AMQP URL of the tests");
    let target = format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5672));
    let proxy = Proxy::start(target.clone()).await;
    let through = amqp_url().replacen(&target, &proxy.addr.to_string(), 1);
    assert_ne!(through, amqp_url(), "the URL names host and port");
    (proxy, through)
}

/// Accepts while the broker is out of reach in the manner of `mode`, kills the ingest in the window
/// between commit and confirmed publish, and expects the fleet to find what it left behind.
async fn kill_an_ingest_before_its_publish(mode: Mode) {
    let _alone = alone().await;
    let (proxy, through) = broker_proxy().await;
    let fleet = Fleet::new().await;
    let mut dying = fleet.ingest_at("ingest-dying", &through).await;
    proxy.set(mode);
    let url = [base(&dying)];
    for n in 0..10_usize {
        let tenant = format!("tenant-{n}");
        deliver(&url, &tenant, &batch(&tenant, "before-the-kill", 0..20)).await;
    }
    let left = fleet.number("SELECT coalesce(sum(n), 0) FROM {ns}.outbox WHERE kind = 0").await;
    dying.kill();
    assert_eq!(left, 200, "all that was answered stands in the outbox, unpublished");

    let next = fleet.ingest("ingest-next").await;
    let _worker = fleet.worker("worker").await;
    fleet.settled(200, Duration::from_secs(60)).await;
    fleet
        .until("outbox rows gone", "SELECT (count(*) = 0)::int::bigint FROM {ns}.outbox", 1, Duration::from_secs(30))
        .await;
    drop(next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_killed_between_commit_and_publish_loses_nothing() {
    kill_an_ingest_before_its_publish(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_killed_between_publish_and_confirm_loses_nothing() {
    kill_an_ingest_before_its_publish(Mode::Swallow).await;
}

/// Listens to the outcomes of a fleet on a queue of its own; gives the ids as they come.
async fn listen_to_outcomes(fleet: &Fleet) -> (lapin::Connection, Arc<std::sync::Mutex<BTreeSet<String>>>) {
    let connection = fleet.broker().await;
    let channel = connection.create_channel().await.expect("open a channel");
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.expect("declare a queue");
    let exchange = format!("{}.decisions", fleet.ns);
    // As a downstream consumer does, who may be there before the first outcome.
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default())
        .await
        .expect("declare the exchange of outcomes");
    let name = queue.name().clone();
    channel
        .queue_bind(
            name.clone(),
            exchange.as_str().into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("bind to the outcomes");
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer =
        channel.basic_consume(name, "".into(), options, FieldTable::default()).await.expect("consume the outcomes");
    let heard = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let ids = Arc::clone(&heard);
    tokio::spawn(async move {
        // The channel lives as long as its consumer is read.
        let _channel = channel;
        while let Some(Ok(delivery)) = consumer.next().await {
            let decisions: Vec<serde_json::Value> =
                serde_json::from_slice(&delivery.data).expect("an array of decisions");
            for decision in decisions {
                let id = decision["event_id"].as_str().expect("an outcome names its event").to_owned();
                ids.lock().expect("no holder has panicked").insert(id);
            }
        }
    });
    (connection, heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_between_commit_and_outcome_loses_no_outcome() {
    let _alone = alone().await;
    let (proxy, through) = broker_proxy().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    let mut dying = fleet.worker_at("worker-dying", &through).await;
    fleet.until_owned(&dying).await;
    let (_connection, heard) = listen_to_outcomes(&fleet).await;

    // From here on deliveries come in, and what the worker publishes or acknowledges gets nowhere.
    proxy.set(Mode::Swallow);
    let mut sent = BTreeSet::new();
    for n in 0..12_usize {
        let tenant = format!("tenant-{n}");
        sent.extend(deliver(&[base(&ingest)], &tenant, &batch(&tenant, "outcome", 0..25)).await);
    }
    fleet.until("decided", "SELECT count(*) FROM {ns}.decisions", 1, Duration::from_secs(30)).await;
    let unpublished = fleet.number("SELECT count(*) FROM {ns}.outbox WHERE kind = 1").await;
    dying.kill();
    assert!(unpublished > 0, "a commit leaves its outcomes in the outbox");
    assert!(heard.lock().expect("no holder has panicked").is_empty(), "no outcome came through");

    let _next = fleet.worker("worker-next").await;
    fleet.settled(300, Duration::from_secs(90)).await;
    let until = Instant::now() + Duration::from_secs(60);
    while *heard.lock().expect("no holder has panicked") != sent {
        let count = heard.lock().expect("no holder has panicked").len();
        assert!(Instant::now() < until, "{count} of {} outcomes were published", sent.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_queues_deleted_under_load_are_made_and_filled_again() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let ingest = fleet.ingest("ingest").await;
    let _workers = [fleet.worker("worker-1").await, fleet.worker("worker-2").await];
    let queues = fleet.partition_queues();
    let (running, url) = (Arc::new(AtomicBool::new(true)), base(&ingest));
    let still = Arc::clone(&running);
    let load = tokio::spawn(async move {
        let mut sent = 0_usize;
        while still.load(Ordering::Relaxed) {
            let tenant = format!("tenant-{}", sent / 50 % 16);
            deliver(std::slice::from_ref(&url), &tenant, &batch(&tenant, "load", sent..sent + 50)).await;
            sent += 50;
        }
        sent
    });

    let connection = fleet.broker().await;
    let channel = connection.create_channel().await.expect("open a channel");
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        for queue in &queues {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("delete a queue");
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.store(false, Ordering::Relaxed);
    let sent = load.await.expect("the load");
    fleet.settled(i64::try_from(sent).expect("fits"), Duration::from_secs(90)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_stopped_under_load_keeps_what_it_has_answered() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let mut ingest = fleet.ingest("ingest").await;
    let _worker = fleet.worker("worker").await;
    let mut senders = Vec::new();
    for sender in 0..4_usize {
        let url = base(&ingest);
        senders.push(tokio::spawn(async move {
            let (tenant, mut answered) = (format!("tenant-{sender}"), Vec::new());
            for n in 0..100_000_usize {
                let events = batch(&tenant, &format!("stop-{sender}"), n * 20..(n + 1) * 20);
                let Some(items) = post(&url, &tenant, &events).await else { break };
                answered.extend(items.iter().filter_map(|i| i["event_id"].as_str().map(str::to_owned)));
            }
            answered
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    ingest.signal("TERM");
    let status = ingest.exit(Duration::from_secs(30)).await;
    assert!(status.success(), "a stopped ingest ended with {status}:\n{}", ingest.log_tail());

    let mut answered = BTreeSet::new();
    for sender in senders {
        answered.extend(sender.await.expect("a sender"));
    }
    assert!(answered.len() >= 100, "the load was under way: {}", answered.len());
    // A batch whose answer got lost on the way is stored as well: at least those that were answered.
    let accepted = fleet.accepted().await;
    assert!(accepted >= i64::try_from(answered.len()).expect("fits"), "{accepted} of {}", answered.len());
    let ids: Vec<uuid::Uuid> = answered.iter().map(|id| id.parse().expect("a UUID")).collect();
    let statement = format!("SELECT count(*) FROM {}.events WHERE event_id = ANY($1)", fleet.ns);
    let row =
        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(&ids).fetch_one(&fleet.pool).await.expect("ask the store");
    let stored: i64 = sqlx::Row::try_get(&row, 0).expect("a number");
    assert_eq!(usize::try_from(stored).expect("a count"), ids.len(), "every answered event is stored");
    fleet.settled(accepted, Duration::from_secs(60)).await;
}
