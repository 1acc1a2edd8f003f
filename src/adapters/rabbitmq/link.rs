//! Owns one connection to the broker, and gets it back when it breaks. Never restores channels or
//! consumers: who had one makes a new one.
//!
//! # Decisions
//! lapin's own recovery stays off: it ends pending confirms and hides from consumers that what
//! they hold is no longer theirs. A connection that broke is thrown away whole.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, timeout, timeout_at};

use crate::ports::{BrokerError, Entropy};
use crate::telemetry::names;

/// AMQP heartbeat: a peer that is silent for two of these is gone (RabbitMQ guide "Detecting Dead
/// TCP Connections with Heartbeats").
const HEARTBEAT_SECONDS: u16 = 5;
/// TCP, TLS and AMQP handshake together. An attempt given up half-way holds a thread until its
/// socket closes, so this is long enough that a frozen broker costs two of them a minute.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How long a caller waits for a connection that is down.
const LINK_WITHIN: Duration = Duration::from_secs(2);
/// How long the broker may take to answer about a channel, queue or exchange.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A connection that lived this long was a success.
const STEADY: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A connection, and which one it is: what was declared or opened on an older one is void.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) generation: u64,
    pub(super) connection: Arc<Connection>,
}

#[derive(Clone)]
enum State {
    Down(String),
    Up(Live),
}

/// A supervised connection; it ends with its last owner.
pub(super) struct Link {
    uri: AMQPUri,
    state: watch::Receiver<State>,
    supervisor: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Link {
    /// Starts to connect in the background.
    pub(super) fn start(mut uri: AMQPUri, name: &'static str, entropy: Arc<dyn Entropy>) -> Self {
        uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
        let (sender, state) = watch::channel(State::Down("not connected yet".to_owned()));
        let supervisor = tokio::spawn(supervise(uri.clone(), name, entropy, sender)).abort_handle();
        Self { uri, state, supervisor }
    }

    /// The connection; waits a moment for one that is just coming up.
    pub(super) async fn live(&self) -> Result<Live, BrokerError> {
        let deadline = Instant::now() + LINK_WITHIN;
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                State::Up(live) if live.connection.status().connected() => return Ok(live.clone()),
                State::Up(_) | State::Down(_) => {}
            }
            if !matches!(timeout_at(deadline, state.changed()).await, Ok(Ok(()))) {
                return Err(BrokerError::Away(self.why()));
            }
        }
    }

    fn why(&self) -> String {
        match &*self.state.borrow() {
            State::Down(why) => why.clone(),
            State::Up(_) => "the connection broke".to_owned(),
        }
    }

    /// The connection if it is up right now.
    pub(super) fn now(&self) -> Option<Live> {
        match &*self.state.borrow() {
            State::Up(live) if live.connection.status().connected() => Some(live.clone()),
            State::Up(_) | State::Down(_) => None,
        }
    }

    /// A connection besides this one, for what may cost a connection. The caller closes it.
    pub(super) async fn aside(&self) -> Result<Connection, BrokerError> {
        // What can't be reached is not tried again and again by everybody who waits.
        self.live().await?;
        connect(&self.uri, "declaring").await.map_err(BrokerError::Away)
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        let live = self.live().await?;
        answer(live.connection.create_channel()).await
    }
}

/// Waits for the broker's answer, but not for ever.
pub(super) async fn answer<T>(asked: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
    match timeout(ANSWER_WITHIN, asked).await {
        Ok(answer) => answer.map_err(|error| away(&error)),
        Err(_) => Err(BrokerError::Away("no answer in time".to_owned())),
    }
}

pub(super) fn away(error: &lapin::Error) -> BrokerError {
    BrokerError::Away(error.to_string())
}

/// Closes a channel; one that is gone already is as good.
pub(super) async fn close(channel: Channel) {
    let _ = timeout(ANSWER_WITHIN, channel.close(200, "OK".into())).await;
}

async fn supervise(uri: AMQPUri, name: &'static str, entropy: Arc<dyn Entropy>, state: watch::Sender<State>) {
    let (mut generation, mut failures) = (0_u64, 0_u32);
    loop {
        let why = match connect(&uri, name).await {
            Ok(connection) => {
                generation += 1;
                if generation > 1 {
                    metrics::counter!(names::BROKER_RECONNECTS, "link" => name).increment(1);
                }
                tracing::info!(broker.link = name, broker.generation = generation, "connected to the broker");
                let connection = Arc::new(connection);
                state.send_replace(State::Up(Live { generation, connection: Arc::clone(&connection) }));
                let since = Instant::now();
                let why = broken(&connection).await;
                // A broker that accepts and drops at once is not hammered.
                failures = if since.elapsed() > STEADY { 0 } else { failures };
                why
            }
            Err(why) => why,
        };
        let pause = backoff(failures, entropy.bits());
        failures = failures.saturating_add(1);
        tracing::warn!(broker.link = name, error = %why, retry.ms = pause.as_millis() as u64, "broker is away");
        state.send_replace(State::Down(why));
        tokio::time::sleep(pause).await;
    }
}

async fn connect(uri: &AMQPUri, name: &str) -> Result<Connection, String> {
    let properties = ConnectionProperties::default().with_connection_name(format!("riskfleet {name}").into());
    match timeout(CONNECT_WITHIN, Connection::connect_uri(uri.clone(), properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {CONNECT_WITHIN:?}")),
    }
}

/// Waits for the end of a connection and says what it was.
async fn broken(connection: &Connection) -> String {
    let mut events = connection.events_listener();
    // The listener hears nothing of what happened before it listened: look now and then, too.
    let mut look = interval(Duration::from_millis(500));
    let mut last = "the connection closed".to_owned();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(lapin::Event::Error(error)) => last = error.to_string(),
                Some(lapin::Event::ConnectionBlocked(why)) => {
                    tracing::warn!(error = %why, "the broker takes no messages");
                }
                Some(_) => {}
                None => return last,
            },
            _ = look.tick() => {}
        }
        if !connection.status().connected() {
            return last;
        }
    }
}

/// Exponential with jitter between half and the whole (Brooker, "Exponential Backoff And Jitter").
fn backoff(failures: u32, random: u128) -> Duration {
    let whole = BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(BACKOFF_MAX);
    let part = (random & 0xffff) as u32;
    whole / 2 + (whole / 2).mul_f64(f64::from(part) / 65_535.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_stays_bounded() {
        assert_eq!(backoff(0, 0), Duration::from_millis(50));
        assert_eq!(backoff(0, u128::MAX), Duration::from_millis(100));
        assert_eq!(backoff(u32::MAX, u128::MAX), BACKOFF_MAX);
        assert_eq!(backoff(9, 0), BACKOFF_MAX / 2);
    }
}
