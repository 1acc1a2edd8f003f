//! Judges the settings against each other: what each program would start with, and what then hurts.

use super::finding::{Finding, thousands};
use crate::config::{Auth, Settings};
use crate::ports::checkup::FleetSeen;

/// What an orchestrator gives a process between SIGTERM and SIGKILL by default (Kubernetes,
/// `terminationGracePeriodSeconds`); Docker gives 10 s.
const GRACE_S: u64 = 30;
/// What a worker's undecided packs may hold before it counts as too much.
const HELD_BYTES_MAX: u64 = 1 << 30;
/// Below this, a commit's fixed cost halves what a lane decides in a second.
const COMMIT_EVENTS_MIN: usize = 100;

pub(super) fn judge(s: &Settings, fleet: Option<&FleetSeen>) -> Vec<Finding> {
    let whole = format!(
        "namespace {}, {} lanes, {} packs of {} bytes a partition",
        s.namespace.as_str(),
        s.lanes,
        s.prefetch,
        s.pack_bytes_max
    );
    let mut findings = vec![Finding::ok("settings", whole)];
    findings.extend([callers(s), proof(s), drain(s), memory(s, fleet)].into_iter().flatten());
    findings.extend([lanes(s, fleet), batches(s), partitions(s, fleet)].into_iter().flatten());
    findings
}

fn callers(s: &Settings) -> Option<Finding> {
    let check = "settings.auth";
    match (s.auth, s.behind_proxy, s.jwt_secret.is_some() || s.jwks_file.is_some()) {
        (Auth::Off, true, _) => Some(Finding::failed(
            check,
            "auth is off and behind_proxy is true: whoever reaches the proxy comes from loopback, and may do everything",
            "set RISKFLEET_AUTH=on, or take the proxy away",
        )),
        (Auth::Off, false, _) => Some(Finding::warning(
            check,
            "auth is off: everybody on this machine may do everything",
            "set RISKFLEET_AUTH=on and RISKFLEET_JWT_SECRET before anybody else has an account here",
        )),
        (Auth::On, _, false) => Some(Finding::warning(
            check,
            "auth is on, and neither RISKFLEET_JWT_SECRET nor RISKFLEET_JWKS_FILE is set here: callers can only show API keys",
            "make the first one (riskfleet keys create --bootstrap --name NAME), or set one of them; workers need none",
        )),
        (Auth::On, _, true) => None,
    }
}

fn proof(s: &Settings) -> Option<Finding> {
    let check = "settings.audit";
    match (&s.audit_key, &s.checkpoint_file) {
        (None, _) => Some(Finding::warning(
            check,
            "RISKFLEET_AUDIT_KEY is not set here: nobody signs, and whoever owns the database can write the audit anew",
            "make a key (riskfleet audit key --new FILE), and set it for riskfleet-console; the others need none",
        )),
        (Some(_), None) => Some(Finding::warning(
            check,
            "RISKFLEET_CHECKPOINT_FILE is not set here: checkpoints stand in the database alone, and go with its end",
            "set it for riskfleet-console to a file that the database's administrators can't change",
        )),
        (Some(_), Some(_)) => None,
    }
}

fn drain(s: &Settings) -> Option<Finding> {
    (s.drain_timeout_s > GRACE_S).then(|| {
        Finding::warning(
            "settings.drain",
            format!(
                "drain_timeout_s is {}, longer than the {GRACE_S} s that orchestrators give by default",
                s.drain_timeout_s
            ),
            format!(
                "give the process {} s or more (terminationGracePeriodSeconds, stop_grace_period, TimeoutStopSec), or \
                 set RISKFLEET_DRAIN_TIMEOUT_S lower: a process that is killed leaves its leases to run out",
                s.drain_timeout_s + 10
            ),
        )
    })
}

/// What one worker may hold unacknowledged when it owns as much as it can come to own: everything,
/// when the others have gone.
fn memory(s: &Settings, fleet: Option<&FleetSeen>) -> Option<Finding> {
    let partitions = fleet.map_or(s.partitions, |f| f.constants.partitions);
    let held = u64::from(s.prefetch) * s.pack_bytes_max as u64 * u64::from(partitions);
    (held > HELD_BYTES_MAX).then(|| {
        Finding::warning(
            "settings.memory",
            format!(
                "a worker that owns all {partitions} partitions may hold {} MiB of packs (prefetch × pack_bytes_max × \
                 partitions)",
                thousands(held >> 20)
            ),
            "set RISKFLEET_PREFETCH or RISKFLEET_PACK_BYTES_MAX lower, unless workers have that memory to spare",
        )
    })
}

fn lanes(s: &Settings, fleet: Option<&FleetSeen>) -> Option<Finding> {
    let partitions = fleet.map_or(s.partitions, |f| f.constants.partitions);
    (s.lanes > partitions).then(|| {
        Finding::warning(
            "settings.lanes",
            format!(
                "{} lanes for {partitions} partitions: {} of them never have anything to do",
                s.lanes,
                s.lanes - partitions
            ),
            format!("set RISKFLEET_LANES to at most {partitions}: each lane holds a Postgres connection"),
        )
    })
}

fn batches(s: &Settings) -> Option<Finding> {
    (s.commit_batch_max < COMMIT_EVENTS_MIN).then(|| {
        Finding::warning(
            "settings.batches",
            format!(
                "commits hold at most {} events: their fixed cost then halves what is decided in a second",
                s.commit_batch_max
            ),
            "set RISKFLEET_COMMIT_BATCH_MAX to 500, the default, unless this was measured",
        )
    })
}

fn partitions(s: &Settings, fleet: Option<&FleetSeen>) -> Option<Finding> {
    let stored = fleet?.constants.partitions;
    (s.partitions != stored).then(|| {
        Finding::warning(
            "settings.partitions",
            format!("the settings say {} partitions, the fleet has {stored}: the fleet's number counts", s.partitions),
            format!("set RISKFLEET_PARTITIONS={stored}, or the next `riskfleet migrate` is refused"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::config::{Sources, load};

    const SECRET: (&str, &str) = ("jwt_secret", "0123456789abcdef0123456789abcdef");
    const KEY: (&str, &str) = ("audit_key", "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed");
    const FILE: (&str, &str) = ("checkpoint_file", "/elsewhere/checkpoints.jsonl");

    fn judged(given: &[(&str, &str)]) -> Vec<(&'static str, Verdict)> {
        let flags = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let settings = load(&Sources { flags, ..Sources::default() }).expect("legal");
        judge(&settings, None).into_iter().map(|f| (f.check, f.verdict)).filter(|f| f.1 != Verdict::Ok).collect()
    }

    /// Settings, the check that they are for, and what it finds.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Verdict);

    #[test]
    fn what_hurts_is_named_and_nothing_else() {
        assert_eq!(judged(&[SECRET, KEY, FILE]), [], "the defaults are well");
        let cases: &[Case<'_>] = &[
            (&[("auth", "off"), ("behind_proxy", "true")], "settings.auth", Verdict::Failed),
            (&[("auth", "off")], "settings.auth", Verdict::Warning),
            (&[], "settings.auth", Verdict::Warning),
            (&[SECRET, ("drain_timeout_s", "31")], "settings.drain", Verdict::Warning),
            (&[SECRET, ("prefetch", "2000"), ("pack_bytes_max", "16777216")], "settings.memory", Verdict::Warning),
            (&[SECRET, ("lanes", "17")], "settings.lanes", Verdict::Warning),
            (&[SECRET, ("commit_batch_max", "99")], "settings.batches", Verdict::Warning),
        ];
        for (given, check, verdict) in cases {
            let given = [given, &[KEY, FILE][..]].concat();
            assert_eq!(judged(&given), [(*check, *verdict)], "{given:?}");
        }
        let unproven = [("settings.audit", Verdict::Warning)];
        assert_eq!(judged(&[SECRET]), unproven, "nobody signs");
        assert_eq!(judged(&[SECRET, KEY]), unproven, "what is signed goes with the database");
    }
}
