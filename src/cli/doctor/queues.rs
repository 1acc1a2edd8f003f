//! Judges the partitions' queues against what the store knows: what is stored, owned and pending
//! must be in a queue, or in the hands of somebody who works on it.
//!
//! AMQP tells ready messages and consumers, not what a consumer holds unacknowledged. So orphans are
//! inferred: the owner reports, it consumes, nothing is ready, and still something has been pending
//! for longer than a minute.

use super::super::ownership::{Owner, owner};
use super::finding::{Finding, some, thousands};
use crate::domain::PartitionId;
use crate::ports::broker::Route;
use crate::ports::checkup::{FleetSeen, QueueSeen, RabbitSeen};

pub(super) fn judge(rabbit: &RabbitSeen, fleet: &FleetSeen) -> Vec<Finding> {
    let mut lists = Lists::default();
    for queue in &rabbit.queues {
        lists.sort(queue, fleet);
    }
    lists.orphaned = orphaned(rabbit, fleet);
    let mut findings = vec![lists.queues(rabbit)];
    findings.extend([lists.types(), lists.orphans()].into_iter().flatten());
    findings
}

/// Whether the owner should be consuming: one that leaves stops to consume first.
fn served(fleet: &FleetSeen, partition: PartitionId) -> bool {
    matches!(owner(&fleet.status, partition, fleet.now), Owner::Reports { draining: false, .. })
}

/// Partitions with events that wait for too long, while both queues are consumed and empty.
fn orphaned(rabbit: &RabbitSeen, fleet: &FleetSeen) -> Vec<PartitionId> {
    let drained = |p: PartitionId| {
        let mut own = rabbit.queues.iter().filter(|q| q.route.partition == p);
        own.all(|q| q.depth.is_some_and(|d| d.consumers > 0 && d.ready == 0))
    };
    let stale = fleet.stale.iter().map(|s| s.partition);
    stale.filter(|p| served(fleet, *p) && drained(*p)).collect()
}

#[derive(Default)]
struct Lists {
    missing: Vec<Route>,
    unread: Vec<Route>,
    orphaned: Vec<PartitionId>,
    mismatched: Vec<Route>,
    mismatch: Option<String>,
}

impl Lists {
    fn sort(&mut self, queue: &QueueSeen, fleet: &FleetSeen) {
        if let Some(why) = &queue.mismatch {
            self.mismatched.push(queue.route);
            self.mismatch.get_or_insert_with(|| why.clone());
        }
        if !served(fleet, queue.route.partition) {
            return;
        }
        match queue.depth {
            None => self.missing.push(queue.route),
            Some(depth) if depth.consumers == 0 => self.unread.push(queue.route),
            Some(_) => {}
        }
    }

    fn queues(&self, rabbit: &RabbitSeen) -> Finding {
        let check = "queues";
        if !self.missing.is_empty() {
            return Finding::failed(
                check,
                format!("the queues of {} are gone, and their owners report", some(&self.missing)),
                "their owners make them again and refill them within a minute; if not, restart these workers",
            );
        }
        if !self.unread.is_empty() {
            return Finding::failed(
                check,
                format!("nobody consumes the queues of {}, and their owners report", some(&self.unread)),
                "look at the log of the owner (`riskfleet fleet status`) for its connection to RabbitMQ; if it does \
                 not come back within a minute, restart it",
            );
        }
        let ready: u64 = rabbit.queues.iter().filter_map(|q| q.depth).map(|d| u64::from(d.ready)).sum();
        let there = rabbit.queues.iter().filter(|q| q.depth.is_some()).count();
        Finding::ok(check, format!("{there} of {} stand, {} packs ready", rabbit.queues.len(), thousands(ready)))
    }

    fn types(&self) -> Option<Finding> {
        let why = self.mismatch.as_deref()?;
        Some(Finding::warning(
            "queues.type",
            format!(
                "{} queues stand otherwise than the settings say ({}): {why}",
                self.mismatched.len(),
                some(&self.mismatched)
            ),
            "they are used as they stand; to change them, set RISKFLEET_QUEUE_TYPE to what they are, or stop the \
             workers and delete the queues: they are made again and refilled from the store",
        ))
    }

    fn orphans(&self) -> Option<Finding> {
        (!self.orphaned.is_empty()).then(|| {
            Finding::failed(
                "queues.orphans",
                format!(
                    "{}: events have been pending for longer than a minute, the owner consumes, and nothing is ready: \
                     they are held unacknowledged, or lost to the broker",
                    some(&self.orphaned)
                ),
                "the owner's refill publishes them again while the partition is idle; if they still wait in a minute, \
                 run `riskfleet repair`, or restart the owner: what it holds goes back to the queue",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::sample;
    use super::*;
    use crate::domain::time;
    use crate::ports::checkup::{Depth, StaleEvents};

    fn queue(depth: Option<(u32, u32)>, mismatch: Option<&str>) -> RabbitSeen {
        let seen = |p: u16, depth: Option<(u32, u32)>, mismatch: Option<&str>| QueueSeen {
            route: Route::normal(PartitionId(p)),
            depth: depth.map(|(ready, consumers)| Depth { ready, consumers }),
            mismatch: mismatch.map(str::to_owned),
        };
        let depth_of_bulk = Some(Depth { ready: 0, consumers: 1 });
        let bulk = QueueSeen { route: Route::bulk(PartitionId(0)), depth: depth_of_bulk, mismatch: None };
        RabbitSeen {
            version: None,
            blocked: false,
            queues: vec![seen(0, depth, mismatch), bulk, seen(1, Some((0, 1)), None)],
            inbox: None,
            rejected: None,
        }
    }

    /// What is to be found, in what was seen.
    type Case<'a> = (&'a [(&'a str, Verdict)], RabbitSeen, FleetSeen);

    #[test]
    fn what_is_owned_is_consumed_and_what_is_pending_is_somewhere() {
        use Verdict::{Failed, Warning};
        let fleet = || sample::fleet(|_| {});
        let stale = || {
            sample::fleet(|f| {
                let since = time::from_millis(1);
                f.stale = vec![StaleEvents { partition: PartitionId(0), events: 1, more: false, since }];
            })
        };
        let unowned = || sample::fleet(|f| f.status.partitions[0].owner = None);
        let leaving = || sample::fleet(|f| f.status.workers[0].draining = true);
        let cases: Vec<Case<'_>> = vec![
            (&[], queue(Some((5, 1)), None), fleet()),
            (&[("queues", Failed)], queue(None, None), fleet()),
            (&[], queue(None, None), unowned()),
            (&[("queues", Failed)], queue(Some((5, 0)), None), fleet()),
            (&[], queue(Some((5, 0)), None), leaving()),
            (&[("queues.type", Warning)], queue(Some((0, 1)), Some("inequivalent arg")), fleet()),
            (&[("queues.orphans", Failed)], queue(Some((0, 1)), None), stale()),
            (&[], queue(Some((9, 1)), None), stale()),
        ];
        for (want, rabbit, fleet) in cases {
            let got: Vec<(&str, Verdict)> = judge(&rabbit, &fleet)
                .into_iter()
                .map(|f| (f.check, f.verdict))
                .filter(|f| f.1 != Verdict::Ok)
                .collect();
            assert_eq!(got, want, "{rabbit:?}");
        }
    }
}
