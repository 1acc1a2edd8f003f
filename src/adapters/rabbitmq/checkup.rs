//! Owns what an operator's examination asks a RabbitMQ server. Leaves nothing behind; never judges.

use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::link::{Link, answer};
use super::topology::{Topology, look};
use super::{RabbitConfig, address};
use crate::domain::PartitionId;
use crate::ports::broker::Route;
use crate::ports::checkup::{Depth, QueueSeen, RabbitSeen};
use crate::ports::{BrokerError, Entropy};

/// How long the first words of the server may take.
const GREETING_WITHIN: Duration = Duration::from_secs(3);
/// How long the confirm of a message may take, before the server counts as blocked.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

/// Looks at a server and at the queues of the partitions.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn checkup(
    config: &RabbitConfig,
    partitions: impl Iterator<Item = PartitionId>,
    entropy: Arc<dyn Entropy>,
) -> Result<RabbitSeen, BrokerError> {
    let uri = address(config.url.expose_secret()).map_err(|e| BrokerError::Away(e.to_string()))?;
    let link = Link::start(uri.clone(), "examining", Arc::clone(&entropy));
    let topology = Topology::new(&config.namespace, config.queues);
    link.live().await?;
    let mut queues = Vec::new();
    for partition in partitions {
        for route in [Route::normal(partition), Route::bulk(partition)] {
            queues.push(queue(&link, &topology, route).await?);
        }
    }
    let plain = matches!(uri.scheme, lapin::uri::AMQPScheme::AMQP);
    let version = if plain { greeting(&uri.authority.host, uri.authority.port).await } else { None };
    // On a connection of its own: one that is blocked is not read from any more.
    let publishing = Link::start(uri, "examining publishes", entropy);
    Ok(RabbitSeen {
        version,
        blocked: blocked(&publishing, &format!("{}.nowhere", config.namespace)).await?,
        inbox: depth(&link, &topology.names.inbox()).await?,
        rejected: depth(&link, &topology.names.rejected()).await?,
        queues,
    })
}

async fn queue(link: &Link, topology: &Topology, route: Route) -> Result<QueueSeen, BrokerError> {
    let name = topology.names.packs(route);
    let depth = depth(link, &name).await?;
    // Declaring a queue that is missing would make it.
    let mismatch = if depth.is_some() { topology.mismatch(link, &name).await? } else { None };
    Ok(QueueSeen { route, depth, mismatch })
}

async fn depth(link: &Link, queue: &str) -> Result<Option<Depth>, BrokerError> {
    let found = look(link, queue).await?;
    Ok(found.map(|q| Depth { ready: q.message_count(), consumers: q.consumer_count() }))
}

/// Publishes a message that no queue takes. Under a memory or disk alarm the server stops reading
/// from connections that publish, so the confirm stays away (RabbitMQ guide "Memory and Disk Alarms").
async fn blocked(link: &Link, nowhere: &str) -> Result<bool, BrokerError> {
    let channel = link.channel().await?;
    answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let confirm = answer(channel.basic_publish("".into(), nowhere.into(), options, b"", properties)).await?;
    Ok(timeout(CONFIRM_WITHIN, confirm).await.is_err())
}

/// The server's version, from the properties with which it opens every connection (AMQP 0-9-1,
/// section 4.2.2 and `connection.start`): the client library does not hand them on.
async fn greeting(host: &str, port: u16) -> Option<String> {
    let read = async {
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await.ok()?;
        let mut head = [0; 7];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]).min(64 * 1024);
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await.ok()?;
        version(&frame)
    };
    timeout(GREETING_WITHIN, read).await.ok()?
}

/// The field `version`, a long string, of the properties in a frame.
fn version(frame: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = frame.windows(FIELD.len()).position(|w| w == FIELD)? + FIELD.len();
    let length = u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?);
    let text = frame.get(at + 4..(at + 4).checked_add(length as usize)?)?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_and_a_cut_frame_is_no_panic() {
        let frame = b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x17\x07versionS\x00\x00\x00\x063.10.8rest";
        assert_eq!(version(frame).as_deref(), Some("3.10.8"));
        for cut in 0..frame.len() - 4 {
            assert_eq!(version(&frame[..cut]), None, "{cut}");
        }
        assert_eq!(version(b"\x07versionS\xff\xff\xff\xff3"), None);
    }
}
