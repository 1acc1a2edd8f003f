//! Judges a Redis server: whether leases last as long as they say.

use super::finding::{Finding, clock, thousands};
use crate::domain::WorkerId;
use crate::ports::checkup::{FleetSeen, RedisSeen};

/// The oldest version that the scripts run on.
const VERSION_MIN: (u32, u32) = (6, 2);
/// Of its memory.
const FULL_PERCENT: u64 = 90;
/// A worker that reported to the store this lately should have a membership, which lasts 6 s.
const LATELY_S: i64 = 4;

pub(super) fn judge(seen: &RedisSeen, fleet: Option<&FleetSeen>) -> Vec<Finding> {
    let mut findings = vec![server(seen), memory(seen)];
    findings.push(clock("redis.clock", seen.clock, "leases end by Redis's clock alone, histories by both"));
    findings.extend(fleet.map(|f| members(seen, f)));
    findings
}

fn server(seen: &RedisSeen) -> Finding {
    let shown = format!("version {}, {}", seen.version, seen.role);
    if seen.role == "slave" {
        return Finding::failed(
            "redis",
            format!("{shown}: it takes no writes"),
            "name the primary in RISKFLEET_REDIS_URL",
        );
    }
    if version(&seen.version).is_some_and(|v| v < VERSION_MIN) {
        return Finding::failed("redis", format!("{shown}, older than 6.2"), "update the server to 6.2 or newer");
    }
    Finding::ok("redis", shown)
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn memory(seen: &RedisSeen) -> Finding {
    let check = "redis.memory";
    let bound =
        if seen.memory_max == 0 { "without a bound".into() } else { format!("of {} MiB", mib(seen.memory_max)) };
    let shown = format!(
        "{} MiB {bound}, policy {}, {} keys evicted",
        mib(seen.memory_used),
        seen.memory_policy,
        thousands(seen.evicted)
    );
    let advice = "set maxmemory-policy noeviction and more memory: a lease that is thrown away lets two workers claim \
                  one partition in turn, and a history that is thrown away is missing in decisions";
    let evicts = seen.memory_policy != "noeviction";
    if evicts && seen.evicted > 0 {
        return Finding::failed(check, shown, advice);
    }
    if evicts && seen.memory_max > 0 {
        return Finding::warning(check, shown, advice);
    }
    if seen.memory_max > 0 && seen.memory_used.saturating_mul(100) >= seen.memory_max.saturating_mul(FULL_PERCENT) {
        return Finding::warning(check, shown, "give it more memory: when it is full, leases can't be renewed");
    }
    Finding::ok(check, shown)
}

fn mib(bytes: u64) -> String {
    thousands(bytes.div_ceil(1 << 20))
}

/// A worker that reports to the store and has no membership owns nothing new, and others take what
/// it owns: it does not reach Redis, or another Redis.
fn members(seen: &RedisSeen, fleet: &FleetSeen) -> Finding {
    let check = "redis.members";
    let lately =
        fleet.status.workers.iter().filter(|w| !w.draining && (fleet.now - w.seen_at).num_seconds() <= LATELY_S);
    let missing: Vec<WorkerId> = lately.map(|w| w.id).filter(|id| !seen.members.contains(id)).collect();
    if let Some(first) = missing.first() {
        return Finding::failed(
            check,
            format!("{} of the workers that report to the store are not there ({first} …)", missing.len()),
            "compare RISKFLEET_REDIS_URL and RISKFLEET_NAMESPACE of these workers with this one, and look at their logs",
        );
    }
    Finding::ok(check, format!("{} workers have a membership", seen.members.len()))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::ports::checkup::ClockPair;

    #[test]
    fn every_bad_state_is_one_finding() {
        use Verdict::{Failed, Warning};
        let well = RedisSeen {
            version: "7.0.15".into(),
            role: "master".into(),
            clock: ClockPair { ahead_ms: 0, error_ms: 0 },
            memory_max: 0,
            memory_used: 1 << 20,
            memory_policy: "noeviction".into(),
            evicted: 0,
            members: vec![],
        };
        type Break = fn(&mut RedisSeen);
        let cases: &[(&str, Verdict, Break)] = &[
            ("redis", Failed, |r| r.role = "slave".into()),
            ("redis", Failed, |r| r.version = "6.0.16".into()),
            ("redis.memory", Warning, |r| (r.memory_policy, r.memory_max) = ("allkeys-lru".into(), 1 << 30)),
            ("redis.memory", Failed, |r| (r.memory_policy, r.evicted) = ("volatile-ttl".into(), 1)),
            ("redis.memory", Warning, |r| (r.memory_max, r.memory_used) = (100, 90)),
            ("redis.clock", Failed, |r| r.clock.ahead_ms = -2_001),
        ];
        let bad = |seen: &RedisSeen| -> Vec<(&'static str, Verdict)> {
            judge(seen, None).into_iter().map(|f| (f.check, f.verdict)).filter(|f| f.1 != Verdict::Ok).collect()
        };
        assert_eq!(bad(&well), []);
        for (check, verdict, breaks) in cases {
            let mut seen = well.clone();
            breaks(&mut seen);
            assert_eq!(bad(&seen), [(*check, *verdict)], "{seen:?}");
        }
    }
}
