//! Owns a downstream consumer of outcomes, as a careful user of the fleet writes one: a durable queue
//! bound to the decisions, acknowledged once written down, connected again whenever the broker goes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use lapin::ExchangeKind;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::history::History;

/// What is read of an outcome.
#[derive(Deserialize)]
struct Outcome {
    event_id: Uuid,
    tenant_id: String,
}

/// A consumer under way. Dropping it ends it.
pub(crate) struct Downstream {
    task: JoinHandle<()>,
}

impl Downstream {
    /// Starts to listen; returns once the queue is bound, so that no outcome comes too early.
    pub(crate) async fn start(url: String, ns: &str, history: Arc<History>) -> anyhow::Result<Self> {
        let (exchange, queue) = (format!("{ns}.decisions"), format!("{ns}.chaos"));
        let (bound, mut is_bound) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                if let Err(e) = listen(&url, &exchange, &queue, &history, &bound).await {
                    note(&e);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let waited = tokio::time::timeout(Duration::from_secs(20), is_bound.wait_for(|bound| *bound)).await;
        waited.context("no queue for the outcomes after 20 s")??;
        Ok(Self { task })
    }
}

/// A broker that goes away is what the suite is about: told only when somebody debugs it.
fn note(e: &anyhow::Error) {
    if std::env::var_os("RISKFLEET_CHAOS_DEBUG").is_some() {
        eprintln!("the downstream consumer connects again: {e:#}");
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    url: &str,
    exchange: &str,
    queue: &str,
    history: &History,
    bound: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    // As a consumer does that may be there before the first outcome.
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await?;
    let (name, binding) = (queue.into(), QueueBindOptions::default());
    channel.queue_bind(name, exchange.into(), "#".into(), binding, FieldTable::default()).await?;
    channel.basic_qos(200, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    bound.send_replace(true);
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let key = delivery.routing_key.as_str();
        let outcomes: Vec<Outcome> = serde_json::from_slice(&delivery.data).context("an outcome is no array")?;
        for outcome in outcomes {
            history.hear(outcome.event_id, &outcome.tenant_id.replace('.', "%2E"), key);
        }
        delivery.ack(BasicAckOptions::default()).await?;
    }
    anyhow::bail!("the consumer has ended")
}
