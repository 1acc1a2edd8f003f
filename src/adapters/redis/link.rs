//! Owns the connection to Redis: made when it is first needed, made anew when it misbehaves. Never
//! waits without a deadline, never repeats a command whose outcome is unknown.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, FromRedisValue, Pipeline, RedisError, Script, ServerErrorKind};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::{BadAddress, RedisConfig};

/// TCP, TLS and the Redis handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// One answer; a script over a full subject takes some 100 ms.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Both, and the wait for others that connect at the same time.
const CALL_WITHIN: Duration = Duration::from_millis(2500);

/// A connection that many callers share.
pub(super) struct Link {
    client: Client,
    manager: Mutex<ConnectionManager>,
}

impl Link {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, BadAddress> {
        let raw = config.url.expose_secret();
        // The client's own complaints do not quote the address, but say no more than this either.
        let client = Client::open(raw).map_err(|error| BadAddress(error.category().to_owned()))?;
        let manager = lazy(&client).map_err(|error| BadAddress(error.category().to_owned()))?;
        Ok(Self { client, manager: Mutex::new(manager) })
    }

    fn manager(&self) -> ConnectionManager {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Throws the connection away; the next call makes a new one. The manager by itself would keep
    /// one that does not answer, that was refused at login, or whose server was demoted.
    fn renew(&self) {
        if let Ok(manager) = lazy(&self.client) {
            *self.manager.lock().unwrap_or_else(PoisonError::into_inner) = manager;
        }
    }

    /// Sends a pipeline, in one round trip.
    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, RedisError> {
        let mut manager = self.manager();
        self.judge(timeout(CALL_WITHIN, pipeline.query_async(&mut manager)).await)
    }

    /// Teaches the server a script.
    pub(super) async fn load(&self, script: &Script) -> Result<(), RedisError> {
        let mut manager = self.manager();
        self.judge(timeout(CALL_WITHIN, script.load_async(&mut manager)).await).map(drop)
    }

    /// As [`Link::pipeline`], for a pipeline of calls of one script, which the server may have to
    /// be taught first. The script must be idempotent: some of its calls may run twice.
    pub(super) async fn scripts<T: FromRedisValue>(
        &self,
        script: &Script,
        pipeline: &Pipeline,
    ) -> Result<T, RedisError> {
        match self.pipeline(pipeline).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.load(script).await?;
                self.pipeline(pipeline).await
            }
            answer => answer,
        }
    }

    fn judge<T>(&self, answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>) -> Result<T, RedisError> {
        let error = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)),
        };
        if spoils_connection(&error) {
            self.renew();
        }
        Err(error)
    }
}

fn lazy(client: &Client) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN))
        // Callers retry by themselves, and must not wait for somebody else's retries.
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn spoils_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::AuthenticationFailed
                | ErrorKind::Server(
                    ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
                )
        )
}
