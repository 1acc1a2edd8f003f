//! Owns the servers of a run: private ones by `tests/servers.sh`, or those that were named. Refuses
//! every address that is not this machine's.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::Options;
use crate::machine::Tree;

/// The servers of a run. Dropping them stops the private ones.
pub(crate) struct Servers {
    pub(crate) database: String,
    pub(crate) amqp: String,
    pub(crate) redis: String,
    /// Whether all of them vanish with the run.
    pub(crate) private: bool,
    pids: Vec<(&'static str, u32)>,
    holder: Option<Child>,
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers.sh");

impl Servers {
    /// Starts what the options do not name.
    pub(crate) fn start(options: &Options) -> anyhow::Result<Self> {
        for url in [&options.database_url, &options.amqp_url, &options.redis_url].into_iter().flatten() {
            refuse_foreign(url)?;
        }
        match (&options.database_url, &options.amqp_url, &options.redis_url) {
            (Some(database), Some(amqp), Some(redis)) => Ok(Self {
                database: database.clone(),
                amqp: amqp.clone(),
                redis: redis.clone(),
                private: false,
                pids: Vec::new(),
                holder: None,
            }),
            _ => Self::hold(options),
        }
    }

    fn hold(options: &Options) -> anyhow::Result<Self> {
        if !Path::new(SCRIPT).exists() {
            bail!("{SCRIPT} is not there: name the servers (--database-url, --amqp-url, --redis-url)");
        }
        let mut command = Command::new("bash");
        command.arg(SCRIPT).arg("hold").stdin(Stdio::piped()).stdout(Stdio::piped());
        for (name, url) in [
            ("RISKFLEET_TEST_DATABASE_URL", &options.database_url),
            ("RISKFLEET_TEST_AMQP_URL", &options.amqp_url),
            ("RISKFLEET_TEST_REDIS_URL", &options.redis_url),
        ] {
            match url {
                Some(url) => command.env(name, url),
                None => command.env_remove(name),
            };
        }
        let mut holder = command.spawn().with_context(|| format!("failed to run {SCRIPT}"))?;
        let output = BufReader::new(holder.stdout.take().context("the script has an output")?);
        let named = options.database_url.is_some() || options.amqp_url.is_some() || options.redis_url.is_some();
        let mut servers = Self {
            database: String::new(),
            amqp: String::new(),
            redis: String::new(),
            private: !named,
            pids: Vec::new(),
            holder: Some(holder),
        };
        for line in output.lines() {
            let line = line?;
            match line.split_once('=') {
                Some(("RISKFLEET_TEST_DATABASE_URL", url)) => servers.database = url.into(),
                Some(("RISKFLEET_TEST_AMQP_URL", url)) => servers.amqp = url.into(),
                Some(("RISKFLEET_TEST_REDIS_URL", url)) => servers.redis = url.into(),
                Some(("POSTGRES_PID", pid)) => servers.note("postgres", pid),
                Some(("RABBITMQ_PID", pid)) => servers.note("rabbitmq", pid),
                Some(("REDIS_PID", pid)) => servers.note("redis", pid),
                _ if line == "READY" => return Ok(servers),
                _ => {}
            }
        }
        bail!("the servers did not come up: see above")
    }

    fn note(&mut self, name: &'static str, pid: &str) {
        // A server that was named has no pid here, and is not measured.
        self.pids.extend(pid.parse().ok().map(|pid| (name, pid)));
    }

    /// What is to be measured of them.
    pub(crate) fn trees(&self) -> Vec<Tree> {
        self.pids.iter().map(|(name, pid)| Tree { name: (*name).into(), pid: *pid, alone: false }).collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(mut holder) = self.holder.take() {
            // The script stops everything when its input ends.
            drop(holder.stdin.take());
            let _ = holder.wait();
        }
    }
}

fn refuse_foreign(url: &str) -> anyhow::Result<()> {
    // The URL may hold a password: it is not shown.
    let parsed = reqwest::Url::parse(url).context("a server's URL is none")?;
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !loopback {
        bail!("{host:?} is not this machine: a load is only put on loopback addresses");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::refuse_foreign;

    #[test]
    fn only_this_machine_is_loaded() {
        for own in ["postgres://p@127.0.0.1:5432/x", "redis://localhost/0", "amqp://g:g@[::1]:5672/%2f"] {
            assert!(refuse_foreign(own).is_ok(), "{own}");
        }
        for foreign in
            ["postgres://p@db.example.com/x", "redis://10.0.0.1/0", "amqp://127.0.0.1.example.com", "nonsense"]
        {
            assert!(refuse_foreign(foreign).is_err(), "{foreign}");
        }
    }
}
