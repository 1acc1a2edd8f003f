//! `doctor`: looks at the settings, the servers and the fleet, and says of each thing that hurts
//! what was seen and what to do.
//!
//! Judges only: what was seen comes as plain values ([`crate::ports::checkup`]). What could not be
//! looked at is said, and everything else is judged all the same.

mod finding;
mod fleet;
mod folder;
mod postgres;
mod queues;
mod rabbitmq;
mod redis;
#[cfg(test)]
mod sample;
mod settings;

use serde_json::json;

use self::finding::{Finding, Verdict};
use super::args::Doctor;
use super::screen::{Ink, clean};
use super::{CliError, Exit, Screen};
use crate::config::Settings;
use crate::ports::checkup::{FleetSeen, FolderSeen, Looked, PostgresSeen, RabbitSeen, RedisSeen};

/// Everything that could be looked at.
pub struct Examination {
    /// The settings; [`Looked::Away`] with the line that says what is wrong with them.
    pub settings: Looked<Settings>,
    /// The folder of an `up` fleet.
    pub folder: Looked<FolderSeen>,
    /// The Postgres server.
    pub postgres: Looked<PostgresSeen>,
    /// Which master key wraps the fleet's data keys, and is this process's too.
    pub vault: Looked<String>,
    /// The fleet, as its store knows it.
    pub fleet: Looked<FleetSeen>,
    /// The Redis server.
    pub redis: Looked<RedisSeen>,
    /// The RabbitMQ server.
    pub rabbitmq: Looked<RabbitSeen>,
}

/// Judges an examination and prints it. Failed when any check has failed.
pub fn doctor(args: &Doctor, seen: &Examination, screen: &mut Screen<'_>) -> Exit {
    let findings = judge(seen);
    let done = print(args, &findings, screen);
    screen.conclude(done)
}

/// Every finding, in the order in which an operator repairs: settings, store, fleet, leases, broker.
fn judge(seen: &Examination) -> Vec<Finding> {
    let mut findings = Vec::new();
    let settings = seen.settings.seen();
    let fleet = seen.fleet.seen();
    about(&mut findings, "settings", &seen.settings, "correct it", |s| settings::judge(s, fleet));
    about(&mut findings, "folder", &seen.folder, "check --data: it names the folder of `riskfleet up`", folder::judge);
    about(&mut findings, "postgres", &seen.postgres, postgres::advice(&seen.postgres), |p| postgres::judge(p, fleet));
    let set = "set the master key that the fleet was made with: without it no program starts, and nothing can be read";
    about(&mut findings, "vault", &seen.vault, set, |said| vec![Finding::ok("vault", said.clone())]);
    about(&mut findings, "fleet", &seen.fleet, "run `riskfleet migrate`, or name the right fleet", fleet::judge);
    let start = "start the server, or correct RISKFLEET_REDIS_URL; until then no partition changes hands";
    about(&mut findings, "redis", &seen.redis, start, |r| redis::judge(r, fleet));
    let start = "start the server, or correct RISKFLEET_AMQP_URL; until then what is accepted waits in the outbox";
    about(&mut findings, "rabbitmq", &seen.rabbitmq, start, |r| rabbitmq::judge(r, settings));
    if let (Some(rabbit), Some(fleet)) = (seen.rabbitmq.seen(), fleet) {
        findings.extend(queues::judge(rabbit, fleet));
    }
    findings
}

/// The findings about one thing; one, failed, when it could not be looked at.
fn about<T>(
    findings: &mut Vec<Finding>,
    check: &'static str,
    looked: &Looked<T>,
    advice: &str,
    judge: impl FnOnce(&T) -> Vec<Finding>,
) {
    match looked {
        Looked::Seen(seen) => findings.extend(judge(seen)),
        Looked::Away(why) => findings.push(Finding::failed(check, why.clone(), advice)),
        Looked::Skipped(_) => {}
    }
}

fn print(args: &Doctor, findings: &[Finding], screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let (failed, warnings) = (count(Verdict::Failed), count(Verdict::Warning));
    if args.json {
        screen.json(&json!({ "ok": failed == 0, "failed": failed, "warnings": warnings, "checks": findings }))?;
        return Ok(Exit::when(failed == 0));
    }
    let width = findings.iter().map(|f| f.check.len()).max().unwrap_or(0);
    for finding in findings {
        let (word, ink) = match finding.verdict {
            Verdict::Ok => ("ok     ", Ink::Green),
            Verdict::Warning => ("warning", Ink::Yellow),
            Verdict::Failed => ("failed ", Ink::Red),
        };
        let word = screen.paint(ink, word);
        writeln!(screen.out, "{word}  {:width$}  {}", finding.check, clean(&finding.seen))?;
        if let Some(advice) = &finding.advice {
            writeln!(screen.out, "{:1$}next: {2}", "", 11 + width, clean(advice))?;
        }
    }
    let sum = match (failed, warnings) {
        (0, 0) => screen.paint(Ink::Green, "everything is well"),
        (0, _) => screen.paint(Ink::Yellow, &format!("nothing has failed; {warnings} to look at")),
        _ => screen.paint(Ink::Red, &format!("{failed} failed, {warnings} to look at")),
    };
    writeln!(screen.out, "\n{} checks: {sum}", findings.len())?;
    Ok(Exit::when(failed == 0))
}
