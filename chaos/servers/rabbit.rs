//! Owns the private RabbitMQ: a node and a name server (epmd) that meet no other of this machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Daemon, greets, newest, signal};
use crate::harness::process::free_addr;

/// How long the node may take to start: a machine under load needs half a minute.
const START_WITHIN: Duration = Duration::from_secs(120);

/// What a queue holds.
#[derive(Debug, Clone)]
pub(crate) struct QueueCounts {
    pub(crate) name: String,
    pub(crate) ready: u64,
    pub(crate) unacknowledged: u64,
}

/// A RabbitMQ node.
pub(crate) struct Rabbit {
    daemon: Daemon,
    sbin: PathBuf,
    epmd: Child,
    epmd_port: u16,
    dist_port: u16,
}

impl Rabbit {
    pub(super) fn launch(base: &Path) -> anyhow::Result<Self> {
        // The script in /usr/sbin changes the user; the one beside the release does not.
        let sbin = newest("/usr/lib/rabbitmq/lib", "sbin", &["rabbitmq-server", "rabbitmqctl"])
            .context("RabbitMQ is not installed: apt-get install rabbitmq-server")?;
        let daemon = Daemon::new("rabbit", base)?;
        std::fs::write(daemon.dir.join("plugins"), "[].\n")?;
        std::fs::write(daemon.dir.join("rabbitmq.conf"), "")?;
        let (epmd_port, dist_port) = (free_addr().port(), free_addr().port());
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &epmd_port.to_string()]);
        command.env("HOME", &daemon.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let epmd = command.spawn().context("failed to start epmd")?;
        daemon.started.note(epmd.id(), &daemon.dir.to_string_lossy())?;
        let mut own = Self { daemon, sbin, epmd, epmd_port, dist_port };
        own.spawn()?;
        Ok(own)
    }

    fn command(&self, program: &str) -> Command {
        let dir = &self.daemon.dir;
        let mut command = Command::new(self.sbin.join(program));
        command.current_dir(dir).stdin(Stdio::null());
        for (name, file) in [
            ("HOME", ""),
            ("RABBITMQ_MNESIA_BASE", "data"),
            ("RABBITMQ_LOG_BASE", "logs"),
            ("RABBITMQ_PID_FILE", "pid"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        ] {
            command.env(name, if file.is_empty() { dir.clone() } else { dir.join(file) });
        }
        command
            .env("RABBITMQ_NODENAME", format!("chaos-{}@localhost", self.epmd_port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.daemon.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        command
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let _ = std::fs::remove_file(self.daemon.dir.join("pid"));
        let command = self.command("rabbitmq-server");
        self.daemon.spawn(command)
    }

    /// The listener opens before all is up: only Connection.Start tells that the broker serves.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        self.daemon.await_answer(START_WITHIN, |port| greets(port, b"AMQP\x00\x00\x09\x01", b"\x01")).await
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.daemon.port)
    }

    /// The URL of the default virtual host.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address())
    }

    /// The machine under the start script.
    fn beam(&self) -> Option<u32> {
        std::fs::read_to_string(self.daemon.dir.join("pid")).ok()?.trim().parse().ok()
    }

    /// Ends the node without a warning.
    pub(crate) fn kill9(&mut self) {
        if let Some(beam) = self.beam() {
            signal(beam, "KILL");
        }
        // The script ends with its machine; one that does not is ended.
        let until = Instant::now() + Duration::from_secs(3);
        while !self.daemon.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.daemon.kill9();
    }

    /// Pauses the node.
    pub(crate) fn stop(&self) {
        self.beam().into_iter().for_each(|beam| signal(beam, "STOP"));
    }

    /// Lets the node go on.
    pub(crate) fn cont(&self) {
        self.beam().into_iter().for_each(|beam| signal(beam, "CONT"));
    }

    /// Starts it again on the same data and port.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Empties its data folder. The node must be down.
    pub(crate) fn wipe(&mut self) -> anyhow::Result<()> {
        ensure!(self.daemon.has_ended(), "a node that runs is not wiped");
        Ok(std::fs::remove_dir_all(self.daemon.dir.join("data"))?)
    }

    /// Runs `rabbitmqctl ARGS` and gives what it printed.
    pub(crate) async fn control(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command("rabbitmqctl");
        command.args(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let err = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rabbitmqctl {args:?} ended with {}: {err}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the queues under a prefix hold.
    pub(crate) async fn queues(&self, prefix: &str) -> anyhow::Result<Vec<QueueCounts>> {
        let columns = ["list_queues", "-q", "--no-table-headers", "name", "messages_ready", "messages_unacknowledged"];
        let text = self.control(&columns).await?;
        let mut queues = Vec::new();
        for line in text.lines().filter(|line| line.starts_with(prefix)) {
            let mut columns = line.split_whitespace();
            let name = columns.next().context("a queue has a name")?.to_owned();
            // A queue that has no leader at this moment shows no counts.
            let mut count = || columns.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            queues.push(QueueCounts { name, ready: count(), unacknowledged: count() });
        }
        Ok(queues)
    }

    /// Ends it, and its name server.
    pub(super) fn end(&mut self) {
        self.cont();
        self.kill9();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
    }
}
