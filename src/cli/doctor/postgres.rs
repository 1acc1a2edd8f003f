//! Judges a Postgres server: whether what it confirms survives, whether its sessions are what the
//! fleet's safety stands on, and whether it lasts.

use super::finding::{Finding, clock, some, thousands};
use crate::ports::checkup::FleetSeen;
use crate::ports::checkup::{Connections, Isolation, Looked, PostgresSeen, Schema};

/// The oldest version that the schema runs on.
const VERSION_MIN: i32 = 140_000;
/// Vacuum removes nothing younger than the oldest transaction: queue-like tables grow meanwhile.
const TRANSACTION_WARN_S: i64 = 60;
const TRANSACTION_FAIL_S: i64 = 3_600;
/// Of the 2³¹ transaction numbers; the server itself warns at 40 million from the end (PostgreSQL
/// manual, "Preventing Transaction ID Wraparound Failures").
const FROZEN_WARN: i64 = 1_000_000_000;
const FROZEN_FAIL: i64 = 1_900_000_000;
/// Time partitions are made four days ahead: fewer than two left means that nobody makes them.
const DAYS_AHEAD_MIN: u32 = 2;

/// What to do about a server that could not be looked at.
pub(super) fn advice(looked: &Looked<PostgresSeen>) -> &'static str {
    match looked {
        // PgBouncer refuses session settings at the start of a connection.
        Looked::Away(why) if why.contains("startup parameter") => {
            "connect to Postgres itself, or to a pooler in session mode that hands `options` on: the fleet's timeouts \
             are session settings"
        }
        Looked::Away(_) | Looked::Seen(_) | Looked::Skipped(_) => {
            "start the server, or correct RISKFLEET_DATABASE_URL; until then nothing is accepted or decided"
        }
    }
}

pub(super) fn judge(seen: &PostgresSeen, fleet: Option<&FleetSeen>) -> Vec<Finding> {
    let mut findings = vec![version(seen), durability(seen), sessions(seen)];
    let members = "tokens, TTLs and log lines are read by this host's clock; event ids are minted by Postgres's";
    findings.push(clock("postgres.clock", seen.clock, members));
    findings.push(connections(&seen.connections, fleet));
    findings.push(transactions(seen));
    findings.push(frozen(seen.frozen_age));
    findings.extend(schema(&seen.schema));
    if matches!(seen.schema, Schema::There { .. }) {
        findings.push(isolation(&seen.isolation));
    }
    findings
}

fn version(seen: &PostgresSeen) -> Finding {
    let shown = format!("version {}.{}", seen.version / 10_000, seen.version % 10_000);
    if seen.standby {
        let advice = "name the primary in RISKFLEET_DATABASE_URL (target_session_attrs, or the proxy's writing port)";
        return Finding::failed("postgres", format!("{shown}, a standby: it takes no writes"), advice);
    }
    if seen.version < VERSION_MIN {
        return Finding::failed("postgres", format!("{shown}, older than 14"), "update the server to 14 or newer");
    }
    Finding::ok("postgres", shown)
}

fn durability(seen: &PostgresSeen) -> Finding {
    let d = &seen.durability;
    let on = |on| if on { "on" } else { "off" };
    let shown = format!(
        "fsync {}, full_page_writes {}, synchronous_commit {}",
        on(d.fsync),
        on(d.full_page_writes),
        d.synchronous_commit
    );
    if !d.fsync || !d.full_page_writes || d.synchronous_commit == "off" {
        let advice = "set all three on and restart the server: accepted events and decisions may be lost with its \
                      machine, and the audit may end before what was published";
        return Finding::failed("postgres.durability", shown, advice);
    }
    Finding::ok("postgres.durability", shown)
}

fn sessions(seen: &PostgresSeen) -> Finding {
    let check = "postgres.session";
    if seen.shared_session {
        return Finding::failed(
            check,
            "two open sessions are one process of the server: a pooler in transaction mode stands between",
            "connect to Postgres itself, or use the pooler in session mode: timeouts, search_path and prepared \
             statements of a session are lost between transactions, and a paused worker is not cut off",
        );
    }
    let differ: Vec<String> = seen
        .session
        .iter()
        .filter(|s| s.asked != s.has)
        .map(|s| format!("{} is {:?}, not {:?}", s.name, s.has, s.asked))
        .collect();
    if !differ.is_empty() {
        return Finding::failed(
            check,
            format!("the session does not have what was asked for: {}", differ.join(", ")),
            "find what stands between (a pooler that drops `options`) or resets it (ALTER ROLE … SET does not): a \
             paused holder of a lock is cut off only by these",
        );
    }
    let has = |name: &str| seen.session.iter().find(|s| s.name == name).map_or("?", |s| s.has.as_str());
    let (statement, lock) = (has("statement_timeout"), has("lock_timeout"));
    let idle = has("idle_in_transaction_session_timeout");
    Finding::ok(
        check,
        format!("direct; statement_timeout {statement}, lock_timeout {lock}, idle in transaction {idle}"),
    )
}

/// What the present workers and one more may open, one ingest, and what other programs have open.
fn connections(c: &Connections, fleet: Option<&FleetSeen>) -> Finding {
    let check = "postgres.connections";
    let workers = fleet.map_or(1, |f| f.status.workers.len().max(1)) as u32;
    let others = c.used.saturating_sub(c.own);
    let need = others + (workers + 1).saturating_mul(c.per_worker) + c.per_ingest;
    let shown = format!(
        "{} of {} in use ({} of other programs); {workers} workers and one more need up to {} each, an ingest {}",
        c.used, c.limit, others, c.per_worker, c.per_ingest
    );
    let advice = format!("set max_connections to {} or more, or RISKFLEET_LANES lower", need.saturating_mul(5) / 4);
    if c.used >= c.limit.saturating_sub(1) {
        return Finding::failed(check, shown, advice);
    }
    if need > c.limit { Finding::warning(check, shown, advice) } else { Finding::ok(check, shown) }
}

fn transactions(seen: &PostgresSeen) -> Finding {
    let check = "postgres.transactions";
    let advice = "end it (pg_terminate_backend, ROLLBACK PREPARED, pg_drop_replication_slot): vacuum removes nothing \
                  that is younger, and the tables of what is in flight grow";
    if !seen.holders.is_empty() {
        return Finding::warning(check, format!("{} stands, read by nobody", some(&seen.holders)), advice);
    }
    let Some(oldest) = seen.transactions.first() else {
        return Finding::ok(check, "none older than a second");
    };
    let who = if oldest.application.is_empty() { "a program without a name" } else { &oldest.application };
    let shown = format!("the oldest is {} s old: {who}, {}, pid {}", oldest.seconds, oldest.state, oldest.pid);
    match oldest.seconds {
        ..TRANSACTION_WARN_S => Finding::ok(check, shown),
        TRANSACTION_WARN_S..TRANSACTION_FAIL_S => Finding::warning(check, shown, advice),
        _ => Finding::failed(check, shown, advice),
    }
}

fn frozen(age: i64) -> Finding {
    let check = "postgres.freezing";
    let shown = format!("{} of 2,147,000,000 transactions since the oldest freeze", thousands(age));
    let advice = "find what keeps autovacuum from freezing (a long transaction, a slot, autovacuum off): at the end \
                  the server refuses every write";
    match age {
        ..FROZEN_WARN => Finding::ok(check, shown),
        FROZEN_WARN..FROZEN_FAIL => Finding::warning(check, shown, advice),
        _ => Finding::failed(check, shown, advice),
    }
}

fn schema(schema: &Schema) -> Vec<Finding> {
    let Schema::There { version, wanted, days_ahead, spilled } = schema else {
        let advice = "run `riskfleet migrate`, or name the right fleet with RISKFLEET_NAMESPACE";
        return vec![Finding::failed("schema", "there is none in this namespace", advice)];
    };
    let shown = format!("version {version}, this program needs {wanted}");
    let first = match version.cmp(wanted) {
        std::cmp::Ordering::Less => Finding::failed("schema", shown, "run `riskfleet migrate` with this version"),
        std::cmp::Ordering::Equal => Finding::ok("schema", format!("version {version}, as this program needs")),
        std::cmp::Ordering::Greater => {
            Finding::warning("schema", shown, "a newer version has migrated: update this program")
        }
    };
    vec![first, time_partitions(*days_ahead, spilled)]
}

/// A tenant's rows are kept from another's callers by the role of the session and the policies of the
/// tables; either alone is nothing.
fn isolation(seen: &Isolation) -> Finding {
    let check = "postgres.isolation";
    for role in &seen.roles {
        let name = &role.name;
        let runs_as = match &role.runs_as {
            Looked::Seen(user) => user,
            Looked::Away(why) | Looked::Skipped(why) => {
                let advice =
                    format!("run `riskfleet migrate`, or let an administrator GRANT {name} to the database user");
                return Finding::failed(check, format!("no session runs as {name}: {why}"), advice);
            }
        };
        if runs_as != name {
            let advice = "connect to Postgres itself, or to a pooler that hands `options` on";
            return Finding::failed(check, format!("a session that asked for {name} runs as {runs_as}"), advice);
        }
        if role.passes {
            let advice = format!("run ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS");
            return Finding::failed(check, format!("{name} passes row-level security"), advice);
        }
    }
    if !seen.open.is_empty() {
        let shown = format!("no forced row-level security on {}", some(&seen.open));
        return Finding::failed(
            check,
            shown,
            "run `riskfleet migrate`: these tables are open to every tenant's callers",
        );
    }
    let shown = format!("sessions run as {} roles; row-level security is forced", seen.roles.len());
    Finding::ok(check, shown)
}

fn time_partitions(days: u32, spilled: &[String]) -> Finding {
    let check = "schema.partitions";
    let advice = "start a worker, which makes them ahead, or run `riskfleet migrate`";
    if !spilled.is_empty() {
        return Finding::failed(
            check,
            format!("{} holds rows that fell outside every day's partition", spilled.join(" and ")),
            "run `riskfleet migrate`; then move these rows: a day whose rows stand there can't have a partition",
        );
    }
    match days {
        0 => Finding::failed(check, "there is none for today: rows fall into the default partitions", advice),
        1..DAYS_AHEAD_MIN => Finding::warning(check, "only today's stand", advice),
        _ => Finding::ok(check, format!("made for {days} days, today the first; nothing in the default partitions")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::ports::checkup::{ClockPair, Durability, OpenTransaction, RoleSeen, SessionSetting};

    fn well() -> PostgresSeen {
        let setting = |name: &str, v: &str| SessionSetting { name: name.into(), asked: v.into(), has: v.into() };
        PostgresSeen {
            version: 170_002,
            standby: false,
            clock: ClockPair { ahead_ms: 3, error_ms: 1 },
            durability: Durability { fsync: true, full_page_writes: true, synchronous_commit: "on".into() },
            session: vec![setting("lock_timeout", "3s"), setting("statement_timeout", "10s")],
            shared_session: false,
            connections: Connections { limit: 97, used: 20, own: 12, per_worker: 8, per_ingest: 8 },
            transactions: vec![],
            holders: vec![],
            frozen_age: 1_000,
            schema: Schema::There { version: 1, wanted: 1, days_ahead: 4, spilled: vec![] },
            isolation: Isolation { roles: vec![role("r_api"), role("r_worker")], open: vec![] },
        }
    }

    fn role(name: &str) -> RoleSeen {
        RoleSeen { name: name.into(), runs_as: Looked::Seen(name.into()), passes: false }
    }

    fn transaction(seconds: i64) -> Vec<OpenTransaction> {
        vec![OpenTransaction { pid: 7, application: "psql".into(), state: "idle in transaction".into(), seconds }]
    }

    fn there(version: i64, days_ahead: u32, spilled: &[&str]) -> Schema {
        Schema::There { version, wanted: 2, days_ahead, spilled: spilled.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn every_bad_state_is_one_finding() {
        use Verdict::{Failed, Warning};
        type Break = fn(&mut PostgresSeen);
        let cases: &[(&str, Verdict, Break)] = &[
            ("postgres", Failed, |p| p.standby = true),
            ("postgres", Failed, |p| p.version = 130_009),
            ("postgres.durability", Failed, |p| p.durability.fsync = false),
            ("postgres.durability", Failed, |p| p.durability.full_page_writes = false),
            ("postgres.durability", Failed, |p| p.durability.synchronous_commit = "off".into()),
            ("postgres.session", Failed, |p| p.shared_session = true),
            ("postgres.session", Failed, |p| p.session[0].has = "0".into()),
            ("postgres.clock", Warning, |p| p.clock.ahead_ms = -1_500),
            ("postgres.clock", Failed, |p| p.clock.ahead_ms = 60_000),
            ("postgres.connections", Failed, |p| p.connections.used = 96),
            ("postgres.connections", Warning, |p| p.connections.limit = 31),
            ("postgres.transactions", Warning, |p| p.transactions = transaction(60)),
            ("postgres.transactions", Failed, |p| p.transactions = transaction(3_600)),
            ("postgres.transactions", Warning, |p| p.holders = vec!["the replication slot old".into()]),
            ("postgres.freezing", Warning, |p| p.frozen_age = FROZEN_WARN),
            ("postgres.freezing", Failed, |p| p.frozen_age = FROZEN_FAIL),
            ("postgres.isolation", Failed, |p| p.isolation.roles[1].runs_as = Looked::Away("no such role".into())),
            ("postgres.isolation", Failed, |p| p.isolation.roles[0].runs_as = Looked::Seen("postgres".into())),
            ("postgres.isolation", Failed, |p| p.isolation.roles[0].passes = true),
            ("postgres.isolation", Failed, |p| p.isolation.open = vec!["events".into()]),
            ("schema", Failed, |p| p.schema = Schema::Missing),
            ("schema", Failed, |p| p.schema = there(1, 4, &[])),
            ("schema", Warning, |p| p.schema = there(3, 4, &[])),
            ("schema.partitions", Failed, |p| p.schema = there(2, 4, &["events_default"])),
            ("schema.partitions", Failed, |p| p.schema = there(2, 0, &[])),
            ("schema.partitions", Warning, |p| p.schema = there(2, 1, &[])),
        ];
        let bad = |seen: &PostgresSeen| -> Vec<(&'static str, Verdict)> {
            judge(seen, None).into_iter().map(|f| (f.check, f.verdict)).filter(|f| f.1 != Verdict::Ok).collect()
        };
        assert_eq!(bad(&well()), []);
        let mut quick = well();
        quick.transactions = transaction(59);
        assert_eq!(bad(&quick), []);
        for (check, verdict, breaks) in cases {
            let mut seen = well();
            breaks(&mut seen);
            assert_eq!(bad(&seen), [(*check, *verdict)], "{seen:?}");
        }
    }

    #[test]
    fn a_pooler_that_refuses_the_settings_is_known_by_its_words() {
        let refused = Looked::Away("reach the store: unsupported startup parameter: options".into());
        assert!(advice(&refused).contains("session mode"));
        assert!(advice(&Looked::Away("connection refused".into())).contains("start the server"));
    }
}
