//! Owns consumers: one channel each, forwarded into a bounded queue of this process. Never
//! acknowledges by itself.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Acker, BasicProperties, Channel, Consumer, ErrorKind};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::{Link, answer, away, close};
use crate::mutants::{self, Mutant};
use crate::ports::broker::InboxDelivery;
use crate::ports::{Ack, BrokerError, Delivery, Route};

/// Quorum queues take no larger prefetch (RabbitMQ guide "Quorum Queues").
const PREFETCH_MAX: u16 = 2000;
/// Reply bodies that may wait in this process; the waiter of a dropped one reads the store.
const REPLIES_MAX: usize = 1024;
/// How long an acknowledgement may take to leave.
const ACK_WITHIN: Duration = Duration::from_secs(10);

/// Consumes a queue on a channel of its own; `read` makes of a message what the caller wants.
pub(super) async fn consume<D: Send + 'static>(
    link: &Link,
    queue: String,
    prefetch: u16,
    read: impl Fn(Message) -> D + Send + 'static,
) -> Result<mpsc::Receiver<D>, BrokerError> {
    // 0 would mean "without bound" to the broker.
    let prefetch = prefetch.clamp(1, PREFETCH_MAX);
    let channel = link.channel().await?;
    if !mutants::active(Mutant::QosForgotten) {
        answer(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    }
    let consumer = start(&channel, &queue, BasicConsumeOptions::default()).await?;
    let (sender, receiver) = mpsc::channel(usize::from(prefetch));
    tokio::spawn(forward(channel, consumer, sender, queue, read));
    Ok(receiver)
}

async fn start(channel: &Channel, queue: &str, options: BasicConsumeOptions) -> Result<Consumer, BrokerError> {
    answer(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default())).await
}

/// Runs until the consumer ends or nobody listens; then closes the channel, so that everything
/// unacknowledged goes back to the queue at once.
async fn forward<D: Send + 'static>(
    channel: Channel,
    mut consumer: Consumer,
    sender: mpsc::Sender<D>,
    queue: String,
    read: impl Fn(Message) -> D + Send + 'static,
) {
    loop {
        let next = tokio::select! {
            () = sender.closed() => break,
            next = consumer.next() => next,
        };
        match next {
            Some(Ok(message)) => {
                // At most `prefetch` are out, which is what fits: this does not wait.
                if sender.send(read(message)).await.is_err() {
                    break;
                }
            }
            Some(Err(error)) => {
                tracing::warn!(broker.queue = %queue, error = %error, "consumer broke");
                break;
            }
            None => {
                tracing::warn!(broker.queue = %queue, "the broker cancelled the consumer");
                break;
            }
        }
    }
    close(channel).await;
}

/// Opens an exclusive queue that ends with its connection, and forwards bodies; what the process
/// does not take in time is dropped.
pub(super) async fn replies(link: &Link, queue: &str) -> Result<mpsc::Receiver<Bytes>, BrokerError> {
    let channel = link.channel().await?;
    let options = QueueDeclareOptions::exclusive().auto_delete();
    answer(channel.queue_declare(queue.into(), options, FieldTable::default())).await?;
    let mut consumer = start(&channel, queue, BasicConsumeOptions { no_ack: true, ..Default::default() }).await?;
    let (sender, receiver) = mpsc::channel(REPLIES_MAX);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => break,
                next = consumer.next() => match next {
                    Some(Ok(message)) => drop(sender.try_send(Bytes::from(message.data))),
                    Some(Err(_)) | None => break,
                },
            }
        }
        close(channel).await;
    });
    Ok(receiver)
}

/// A message of a queue of packs.
pub(super) fn delivery(route: Route, message: Message) -> Delivery {
    Delivery {
        message_id: message.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default(),
        route,
        redelivered: message.redelivered,
        mac: header(&message.properties, "x-mac").and_then(|text| mac(&text)),
        body: Bytes::from(message.data),
        ack: Box::new(RabbitAck(message.acker)),
    }
}

/// An inbox message.
pub(super) fn inbox_delivery(message: Message) -> InboxDelivery {
    let text = |property: &Option<ShortString>| property.as_ref().map(ToString::to_string);
    let properties = &message.properties;
    InboxDelivery {
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        user_id: text(properties.user_id()),
        authorization: header(properties, "authorization"),
        content_type: text(properties.content_type()),
        traceparent: header(properties, "traceparent"),
        body: Bytes::from(message.data),
        ack: Box::new(RabbitAck(message.acker)),
    }
}

fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn mac(text: &str) -> Option<[u8; 32]> {
    let mut mac = [0; 32];
    hex::decode_to_slice(text, &mut mac).ok().map(|()| mac)
}

struct RabbitAck(Acker);

#[async_trait]
impl Ack for RabbitAck {
    async fn ack(&self) -> Result<bool, BrokerError> {
        match timeout(ACK_WITHIN, self.0.ack(BasicAckOptions::default())).await {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(error)) => match error.kind() {
                // The channel of the delivery is closing: the message is back in its queue.
                ErrorKind::InvalidChannel(_) | ErrorKind::InvalidChannelState(..) => Ok(false),
                _ => Err(away(&error)),
            },
            Err(_) => Err(BrokerError::Away("the acknowledgement does not leave".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_64_hex_digits() {
        assert_eq!(mac(&"0a".repeat(32)), Some([10; 32]));
        assert_eq!(mac("0a"), None);
        assert_eq!(mac(&"zz".repeat(32)), None);
    }
}
