//! Owns the suite's own Postgres, Redis and RabbitMQ: on free loopback ports, in a folder of their
//! own, each known by its pid, so that it can be killed, paused and started again on the same data.
//! Never touches a server that it has not started, never leaves one behind.
//!
//! # Decisions
//! One set of servers serves a whole run, since RabbitMQ needs ten seconds to start; scenarios are
//! kept apart by namespace. No template of a data folder: initdb is done long before RabbitMQ is.
//! Postgres runs with fsync: a kill must find on disk what was promised.

mod postgres;
mod rabbit;
mod redis;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

pub(crate) use self::postgres::Postgres;
pub(crate) use self::rabbit::Rabbit;
pub(crate) use self::redis::Redis;
use crate::harness::process::free_addr;

/// All three. Dropping it ends them and removes their folder.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) rabbit: Rabbit,
    /// For the fleets on these servers: what they start is ended with them.
    pub(crate) started: Started,
    guard: Child,
    dir: PathBuf,
}

impl Servers {
    /// Starts all three at once and waits until each serves.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let name = format!("riskfleet-chaos-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        let guard = guard(&dir)?;
        let rabbit = Rabbit::launch(&dir)?;
        let redis = Redis::launch(&dir)?;
        let postgres = Postgres::launch(&dir)?;
        let started = Started(dir.join("pids"));
        let mut servers = Self { postgres, redis, rabbit, started, guard, dir };
        servers.postgres.ready().await?;
        servers.redis.ready().await?;
        servers.rabbit.ready().await?;
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.rabbit.end();
        self.redis.0.kill9();
        self.postgres.end();
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A process in a session of its own that outlives a killed suite just long enough to end what the
/// suite has started. Numbers of processes are used again: each is killed only while its command line
/// or environment still bears its mark.
fn guard(dir: &Path) -> anyhow::Result<Child> {
    let script = r#"
        while kill -0 "$1" 2>/dev/null; do sleep 1; done
        [ -s "$2/rabbit/pid" ] && echo "$(cat "$2/rabbit/pid") $2" >>"$2/pids"
        while read -r pid mark; do
            grep -aqs -- "$mark" "/proc/$pid/environ" "/proc/$pid/cmdline" && kill -KILL "$pid" 2>/dev/null
        done <"$2/pids"
        rm -rf "$2""#;
    let own = std::process::id().to_string();
    let mut command = Command::new("setsid");
    command.args(["bash", "-c", script, "guard", &own]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("failed to start the guard of the servers")
}

/// What the guard ends: every process that the suite has started, with the mark that it bears.
#[derive(Debug, Clone)]
pub(crate) struct Started(PathBuf);

impl Started {
    pub(crate) fn note(&self, pid: u32, mark: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let mut file = File::options().create(true).append(true).open(&self.0)?;
        Ok(writeln!(file, "{pid} {mark}")?)
    }
}

/// A server's process, and what is needed to start it again.
pub(crate) struct Daemon {
    name: &'static str,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    started: Started,
}

impl Daemon {
    fn new(name: &'static str, base: &Path) -> anyhow::Result<Self> {
        let dir = base.join(name);
        std::fs::create_dir_all(&dir)?;
        let started = Started(base.join("pids"));
        Ok(Self { name, dir, port: free_addr().port(), child: None, started })
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Starts it; its output goes to its log, its pid to where the guard looks.
    fn spawn(&mut self, mut command: Command) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("failed to start {}", self.name))?;
        self.started.note(child.id(), &self.dir.to_string_lossy())?;
        self.child = Some(child);
        Ok(())
    }

    /// Its pid, 0 while it is down.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Ends it without a warning and waits for its end.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn tail(&self) -> String {
        let text = std::fs::read(self.log()).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Waits until `answers`; an end of the process is told at once.
    async fn await_answer<F: Future<Output = bool>>(
        &mut self,
        patience: Duration,
        answers: impl Fn(u16) -> F,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        while !answers(self.port).await {
            if self.has_ended() {
                bail!("{} ended while it was starting:\n{}", self.name, self.tail());
            }
            ensure!(Instant::now() < until, "{} is not ready after {patience:?}:\n{}", self.name, self.tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// Sends a signal by name to a process.
pub(crate) fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null()).status();
    assert!(sent.is_ok(), "the program `kill` is installed");
}

/// The children of a process, direct ones.
fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The newest folder `parent/*/tail` in which all of `programs` stand.
fn newest(parent: &str, tail: &str, programs: &[&str]) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(parent).ok()?.flatten().map(|e| e.path().join(tail)).collect();
    folders.sort();
    folders.into_iter().rev().find(|dir| programs.iter().all(|program| dir.join(program).exists()))
}

/// Sends `hello` and gives whether the answer begins with `wanted`, within two seconds.
async fn greets(port: u16, hello: &[u8], wanted: &[u8]) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let talk = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(hello).await?;
        let mut answer = vec![0; wanted.len()];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), talk).await, Ok(Ok(answer)) if answer == wanted)
}
