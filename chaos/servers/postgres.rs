//! Owns the private Postgres: with fsync, on its own data folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Daemon, children, newest, signal};

/// A Postgres server.
pub(crate) struct Postgres {
    daemon: Daemon,
    bin: PathBuf,
}

impl Postgres {
    pub(super) fn launch(base: &Path) -> anyhow::Result<Self> {
        let bin = newest("/usr/lib/postgresql", "bin", &["initdb", "postgres"])
            .context("Postgres is not installed: apt-get install postgresql")?;
        let mut own = Self { daemon: Daemon::new("postgres", base)?, bin };
        own.init()?;
        own.spawn()?;
        Ok(own)
    }

    /// A command that runs as the user `postgres` where this one is root, whom Postgres refuses.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
        command
    }

    fn init(&self) -> anyhow::Result<()> {
        if is_root() {
            let owned = Command::new("chown").arg("postgres:").arg(&self.daemon.dir).status()?;
            ensure!(owned.success(), "failed to give {} to postgres", self.daemon.dir.display());
        }
        let mut command = self.command("initdb");
        command.current_dir(&self.daemon.dir).arg("-D").arg(self.data());
        command.args(["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"]);
        let output = command.output().context("failed to run initdb")?;
        ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.daemon.dir.join("data")
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.daemon.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "track_commit_timestamp=on",
            "unix_socket_directories=",
            "max_connections=300",
            "shared_buffers=128MB",
            "max_wal_size=2GB",
            "fsync=on",
        ] {
            command.args(["-c", setting]);
        }
        self.daemon.spawn(command)
    }

    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let isready = self.bin.join("pg_isready");
        let ask = |port: u16| {
            let mut command = Command::new(&isready);
            command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            async move {
                tokio::task::spawn_blocking(move || command.status()).await.is_ok_and(|s| s.is_ok_and(|s| s.success()))
            }
        };
        self.daemon.await_answer(Duration::from_secs(60), ask).await
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.daemon.port)
    }

    /// The database's URL, a superuser's.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// Ends the postmaster and every backend without a warning, as a power cut would.
    pub(crate) fn kill9(&mut self) {
        let backends = children(self.daemon.pid());
        self.daemon.kill9();
        for backend in backends {
            signal(backend, "KILL");
        }
    }

    /// Starts it again on the same data; it recovers by itself. A backend that is not gone yet keeps
    /// the shared memory: tried until it is.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.spawn()?;
            match self.ready().await {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > until => return Err(e),
                Err(_) => {
                    self.daemon.kill9();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
        }
    }

    /// Pauses every process of it.
    pub(crate) fn stop(&self) {
        signal(self.daemon.pid(), "STOP");
        for backend in children(self.daemon.pid()) {
            signal(backend, "STOP");
        }
    }

    /// Lets every process of it go on.
    pub(crate) fn cont(&self) {
        for backend in children(self.daemon.pid()) {
            signal(backend, "CONT");
        }
        signal(self.daemon.pid(), "CONT");
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        self.kill9();
    }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0")))
}
