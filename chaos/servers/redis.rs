//! Owns the private Redis: nothing on disk, so that a restart has forgotten everything.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Daemon, greets};

/// A Redis server.
pub(crate) struct Redis(pub(super) Daemon);

impl Redis {
    pub(super) fn launch(base: &Path) -> anyhow::Result<Self> {
        let mut own = Self(Daemon::new("redis", base)?);
        own.spawn()?;
        Ok(own)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.0.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(&self.0.dir).args(["--daemonize", "no", "--set-proc-title", "no"]);
        self.0.spawn(command)
    }

    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        self.0.await_answer(Duration::from_secs(20), |port| greets(port, b"PING\r\n", b"+PONG")).await
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.0.port)
    }

    /// Ends it without a warning.
    pub(crate) fn kill9(&mut self) {
        self.0.kill9();
    }

    /// Starts it again, empty, on the same port.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Forgets everything, at once.
    pub(crate) async fn flush(&self) -> anyhow::Result<()> {
        let client = redis::Client::open(format!("redis://{}/", self.address()))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        Ok(redis::cmd("FLUSHALL").query_async(&mut connection).await?)
    }
}
