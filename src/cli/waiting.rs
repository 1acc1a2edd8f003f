//! Owns the answer to "what does it wait for?": one reason, one sentence.
//!
//! Pure over what the store knows. Never guesses: what AMQP or Redis alone could tell is left to
//! `riskfleet doctor`.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::CliError;
use super::ownership::{Owner, owner, reporting};
use super::timeline::Step;
use crate::domain::time;
use crate::ports::EventStore;
use crate::ports::store::{EventRecord, FleetStatus, OutboxKind, PastAct, PastDeath, RetryState};

/// Older events of its partition that are counted.
const OLDER_MAX: u32 = 200;
/// An event that is younger is on its way: a healthy fleet decides within milliseconds.
const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(2);

/// What a pending event stands among.
pub(super) struct Around {
    /// The store's clock.
    pub(super) now: DateTime<Utc>,
    /// The fleet; none for an event that has ended.
    pub(super) fleet: Option<FleetStatus>,
    /// Pending events of its partition that were accepted before it, [`OLDER_MAX`] at most.
    pub(super) older: usize,
}

impl Around {
    /// Looks around an event. One that has ended waits for nothing here.
    pub(super) async fn of(record: &EventRecord, store: &dyn EventStore) -> Result<Self, CliError> {
        let now = store.now().await?;
        if record.end.is_some() {
            return Ok(Self { now, fleet: None, older: 0 });
        }
        let event = &record.event;
        let older = store.pending_page(event.partition, None, event.id, OLDER_MAX).await?.len();
        Ok(Self { now, fleet: Some(store.fleet_status().await?), older })
    }
}

/// What an event waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Waiting {
    /// Stable name for programs.
    pub(super) reason: &'static str,
    /// One sentence for people.
    pub(super) text: String,
}

/// What the event waits for; nothing when it has ended and no person is asked.
pub(super) fn waiting(record: &EventRecord, around: &Around) -> Option<Waiting> {
    let because = |reason, text| Some(Waiting { reason, text });
    if record.end.is_some() {
        let open = record.approval.as_ref().filter(|a| a.verdict.is_none())?;
        let since = time::text(open.opened_at);
        return because(
            "approval",
            format!("for a person, who was asked {} ago, at {since}", ago(around.now - open.opened_at)),
        );
    }
    let fleet = around.fleet.as_ref()?;
    let (p, age) = (record.event.partition, around.now - record.event.id.created_at());
    let owner = owner(fleet, p, around.now);
    // A try that is due, and nobody to try it, waits for somebody.
    let served = matches!(owner, Owner::Reports { draining: false, .. });
    if let Some((retry, due)) = next_try(record).filter(|(_, due)| *due > around.now || served) {
        return because("retry", again(retry, due, around.now));
    }
    // The order of its way: what comes first holds up all that follows.
    if record.unpublished.contains(&OutboxKind::Accept) && age > ON_ITS_WAY {
        let text = format!(
            "its pack is not confirmed by the broker; the outbox keeps it, {}, and an ingest that reaches RabbitMQ \
             publishes it again",
            ago(age)
        );
        return because("unpublished", text);
    }
    let live = reporting(fleet, around.now).count();
    match owner {
        _ if live == 0 => because("no_worker", "no worker reports: start one (riskfleet-worker)".into()),
        Owner::Nobody => because(
            "no_owner",
            format!(
                "no worker owns partition {p}; {live} report, and one of them claims it within seconds while it reaches \
                 Redis"
            ),
        ),
        Owner::Silent { id, seconds } => {
            let since = seconds.map_or("over a minute".to_owned(), |s| format!("{s} s"));
            let text = format!(
                "partition {p} belongs to worker {id}, which has not reported for {since}; another claims it once its \
                 lease has run out (10 s)"
            );
            because("owner_silent", text)
        }
        Owner::Reports { id, draining: true } => because(
            "owner_leaving",
            format!(
                "worker {id}, which owns partition {p}, is leaving: it finishes what it has begun, and another claims \
                 the partition"
            ),
        ),
        Owner::Reports { .. } if around.older > 0 => because("behind", behind(record, fleet, around)),
        Owner::Reports { .. } if age <= ON_ITS_WAY => {
            because("on_its_way", "for its worker, to which it is on its way".into())
        }
        Owner::Reports { id, .. } => because(
            "next",
            format!(
                "for worker {id}: it is the oldest of partition {p} and should have been decided {} ago; a message that \
                 was lost is published again within a minute, else run `riskfleet doctor`",
                ago(age)
            ),
        ),
    }
}

/// The tries of an event that waits for its next one, and when that is due.
fn next_try(record: &EventRecord) -> Option<(&RetryState, DateTime<Utc>)> {
    let retry = record.retry.as_ref()?;
    Some((retry, retry.due_at?))
}

fn again(retry: &RetryState, due: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let why = match (retry.class, &retry.error) {
        (Some(class), Some(error)) => format!(" ({class}: {error})"),
        (Some(class), None) => format!(" ({class})"),
        (None, _) => String::new(),
    };
    let tries = match retry.attempts {
        0 => "it was replayed from the dead letters".to_owned(),
        1 => format!("it failed once{why}"),
        n => format!("it failed {n} times{why}"),
    };
    let when = time::text(due);
    if due > now {
        return format!("{tries}; next try in {}, at {when}", ago(due - now));
    }
    format!(
        "{tries}; its next try has been due for {}, since {when}: the owner of its partition takes it up",
        ago(now - due)
    )
}

/// What is known of the tries of an event that has no end.
pub(super) fn tries(record: &EventRecord) -> Option<Step> {
    let retry = record.retry.as_ref().filter(|_| record.end.is_none())?;
    let holder = retry.worker.map(|id| format!("; worker {id} has begun it and not come to an end with it"));
    let text = format!("begun {} times{}", retry.attempts, holder.unwrap_or_default());
    let due = retry.due_at.map(|due| format!("next try due at {}", time::text(due)));
    let failure = retry.class.map(|class| format!("{class}: {}", retry.error.as_deref().unwrap_or("no words")));
    Some(Step::open("tries", text).with(failure.into_iter().chain(due).collect()))
}

/// A death that somebody has dealt with: when it died, of what, and what became of it.
pub(super) fn past(death: &PastDeath) -> [Step; 2] {
    let text = format!("dead letter after {} attempts: {}", death.attempts, death.class);
    let died = Step::done("died", Some(death.died_at), text).with(vec![death.error.clone()]);
    let (step, act) = match death.act {
        PastAct::Replayed => ("replayed", "made pending again"),
        PastAct::Discarded => ("discarded", "taken off the list of dead letters; it stays dead"),
    };
    let acted = Step::done(step, Some(death.acted_at), format!("{act}, by {}", death.by));
    [died, acted.with(death.reason.iter().cloned().collect())]
}

fn behind(record: &EventRecord, fleet: &FleetStatus, around: &Around) -> String {
    let p = record.event.partition;
    let backlog = fleet.partitions.iter().find(|row| row.partition == p).map_or(0, |row| row.backlog);
    let older = match around.older {
        n if n >= OLDER_MAX as usize => format!("{n} or more"),
        n => n.to_string(),
    };
    format!("behind {older} older events of partition {p}, where {backlog} are pending")
}

/// Where the partition of a pending event is.
pub(super) fn partition(record: &EventRecord, around: &Around) -> Option<Step> {
    let (p, fleet) = (record.event.partition, around.fleet.as_ref()?);
    let row = fleet.partitions.iter().find(|row| row.partition == p)?;
    let text = match owner(fleet, p, around.now) {
        Owner::Nobody => format!("{p} has no owner"),
        Owner::Silent { id, .. } => format!("{p} belongs to worker {id}, which does not report"),
        Owner::Reports { id, draining: true } => format!("{p} belongs to worker {id}, which is leaving"),
        Owner::Reports { id, draining: false } => format!("{p} belongs to worker {id}, which reports"),
    };
    let owned = matches!(owner(fleet, p, around.now), Owner::Reports { draining: false, .. });
    let text = format!("{text}; epoch {}, {} events pending", row.epoch.0, row.backlog);
    Some(if owned { Step::done("partition", None, text) } else { Step::open("partition", text) })
}

/// `14 s`, `3 min`, `2 h`, `5 d`: as exact as an operator needs.
pub(super) fn ago(span: TimeDelta) -> String {
    match span.num_seconds().max(0) {
        s @ ..120 => format!("{s} s"),
        s @ ..7_200 => format!("{} min", s / 60),
        s @ ..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_at_a_glance() {
        let spans = [-5, 0, 119, 120, 7_199, 7_200, 172_800].map(|s| ago(TimeDelta::seconds(s)));
        assert_eq!(spans, ["0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
