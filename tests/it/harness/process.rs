//! Owns the programs that tests start: their settings, ports, logs, signals and end. Never leaves
//! one running: what is dropped is killed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::fleet::http;

/// Which of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Ingest,
    Worker,
    Console,
    Operator,
}

impl Program {
    fn path(self) -> &'static str {
        match self {
            Self::Ingest => env!("CARGO_BIN_EXE_riskfleet-ingest"),
            Self::Worker => env!("CARGO_BIN_EXE_riskfleet-worker"),
            Self::Console => env!("CARGO_BIN_EXE_riskfleet-console"),
            Self::Operator => env!("CARGO_BIN_EXE_riskfleet"),
        }
    }

    /// A command that sees these settings and none of the caller's own.
    pub(crate) fn command(self, settings: &BTreeMap<String, String>) -> Command {
        let mut command = Command::new(self.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RISKFLEET_")) {
            command.env_remove(name);
        }
        command.envs(settings).stdin(Stdio::null());
        command
    }
}

/// A running program. Dropping it kills it; when the test has failed, the end of its log is shown.
pub(crate) struct Process {
    name: String,
    child: Child,
    /// Where it serves HTTP.
    pub(crate) addr: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Starts a program that serves HTTP on a port of its own; its output goes to `dir/name.log`.
    pub(crate) fn start(
        name: &str,
        program: Program,
        args: &[&str],
        settings: &BTreeMap<String, String>,
        dir: &Path,
    ) -> Self {
        Self::start_at(free_addr(), name, program, args, settings, dir)
    }

    /// Starts `riskfleet up` on the folder `data`, on a port of its own.
    pub(crate) fn up(data: &Path, settings: &BTreeMap<String, String>, dir: &Path) -> Self {
        let addr = free_addr();
        let data = data.to_str().expect("a readable path");
        let args = ["up", "--data", data, "--http", &addr.to_string()];
        Self::start_at(addr, "up", Program::Operator, &args, settings, dir)
    }

    fn start_at(
        addr: SocketAddr,
        name: &str,
        program: Program,
        args: &[&str],
        settings: &BTreeMap<String, String>,
        dir: &Path,
    ) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).expect("create a log file");
        let mut command = program.command(settings);
        command.args(args).env("RISKFLEET_HTTP_ADDR", addr.to_string());
        command.stdout(file.try_clone().expect("share the log file")).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("failed to start {name}: {e}"));
        Self { name: name.into(), child, addr, log }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status} before it was ready:\n{}", self.name, self.log_tail());
            }
            let answer = http().get(self.url("/health/ready")).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|r| r.status().is_success()) {
                return;
            }
            assert!(Instant::now() < until, "{} is not ready after 40 s:\n{}", self.name, self.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a signal by name: `TERM`, `KILL`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "failed to send {signal} to {}", self.name);
    }

    /// Kills it without a warning and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    pub(crate) async fn exit(&mut self, patience: Duration) -> ExitStatus {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("ask for the status of a child") {
                return status;
            }
            assert!(Instant::now() < until, "{} did not end within {patience:?}:\n{}", self.name, self.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its metrics at this moment.
    pub(crate) async fn metrics(&self) -> Metrics {
        let answer = http().get(self.url("/metrics")).send().await.expect("ask for metrics");
        assert!(answer.status().is_success(), "{}: /metrics answered {}", self.name, answer.status());
        Metrics(answer.text().await.expect("read metrics"))
    }

    /// Waits until a family of its metrics is `least` in sum, or more.
    pub(crate) async fn until_counted(&self, family: &str, least: f64) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let now = self.metrics().await.sum(family);
            if now >= least {
                return;
            }
            assert!(Instant::now() < until, "{family} is {now}, not {least}:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The last 40 lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {} ---\n{}", self.name, lines[lines.len().saturating_sub(40)..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

/// A scrape in Prometheus' text format.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// Sum of a family's samples over all labels; 0 when there is none.
    pub(crate) fn sum(&self, family: &str) -> f64 {
        let mut sum = 0.0;
        for line in self.0.lines() {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            if name == family {
                sum += line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
            }
        }
        sum
    }

    /// Whether the family is declared.
    pub(crate) fn has(&self, family: &str) -> bool {
        self.0.lines().any(|line| line.strip_prefix("# TYPE ").is_some_and(|l| l.split(' ').next() == Some(family)))
    }
}

/// A loopback address on which nothing listens, below the range out of which the kernel takes the
/// ports of outgoing connections: between asking and binding nobody else is given it.
pub(crate) fn free_addr() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes at once begin at different places.
    let start = u16::try_from(std::process::id() % 9_000).expect("below 9,000");
    for _ in 0..2_000 {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_900;
        let addr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
    panic!("no free port between 10000 and 19900");
}
