//! `fleet plan`: what would move if the fleet had another number of workers.
//!
//! Who owns what follows from the ids of the workers, which are made at their boot. So when workers
//! leave the answer is exact; when workers join it is told for many sets of ids that they may get.

use serde::Serialize;
use std::collections::BTreeSet;
use uuid::Uuid;

use super::args::FleetPlan as Args;
use super::ownership::reporting;
use super::screen::Ink;
use super::{CliError, Exit, Screen, table};
use crate::domain::assign::{Candidate, desired};
use crate::domain::{PartitionId, WorkerId};
use crate::ports::EventStore;
use crate::ports::store::{FleetStatus, WorkerRow};

/// Sets of ids that are tried for workers that are not there yet.
const DRAWS: u64 = 100;

pub(super) async fn run(args: &Args, store: &dyn EventStore, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
    let (status, now) = (store.fleet_status().await?, store.now().await?);
    let live: Vec<&WorkerRow> = reporting(&status, now).filter(|w| !w.draining).collect();
    let plan = plan(args, &status, &live)?;
    if args.json {
        screen.json(&plan)?;
    } else {
        print(&plan, screen)?;
    }
    Ok(Exit::Done)
}

/// What would move.
#[derive(Debug, PartialEq, Serialize)]
struct Plan {
    workers_now: usize,
    workers_then: usize,
    leaving: Vec<WorkerId>,
    joining: usize,
    /// How many sets of ids were tried; 1 where nobody joins, since then there is nothing to draw.
    draws: u64,
    moves: Spread,
    /// Partitions of the worker that owns the most then.
    most_owned: Spread,
    partitions: Vec<Move>,
}

/// A figure over all draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    mean: f64,
    least: usize,
    most: usize,
}

#[derive(Debug, PartialEq, Serialize)]
struct Move {
    partition: PartitionId,
    backlog: i64,
    owner: Option<WorkerId>,
    /// Who owns it then; null where nobody can, or where it depends on ids that are not made yet.
    then: Option<WorkerId>,
    /// In how many of the draws somebody else owns it then.
    moves_in: u64,
}

fn plan(args: &Args, status: &FleetStatus, live: &[&WorkerRow]) -> Result<Plan, CliError> {
    let then = usize::from(args.workers);
    let leaving = leaving(args, live, live.len().saturating_sub(then))?;
    let staying: Vec<Candidate> =
        live.iter().filter(|w| !leaving.contains(&w.id)).map(|w| Candidate { id: w.id, weight: 1 }).collect();
    let joining = then.saturating_sub(staying.len());
    let draws = if joining == 0 { 1 } else { DRAWS };
    // As many as there are rows; a fleet has at most 4,096.
    let count = status.partitions.len() as u16;
    let mut moves_in = vec![0_u64; status.partitions.len()];
    let (mut moves, mut most_owned, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for draw in 0..draws {
        let mut candidates = staying.clone();
        candidates.extend((0..joining).map(|n| Candidate { id: newcomer(draw, n), weight: args.joining_weight }));
        owners = desired(&candidates, count);
        let mut moved = 0;
        for (at, row) in status.partitions.iter().enumerate() {
            if row.owner != owners[at] {
                moved += 1;
                moves_in[at] += 1;
            }
        }
        moves.push(moved);
        let load = |c: &Candidate| owners.iter().filter(|o| **o == Some(c.id)).count();
        most_owned.push(candidates.iter().map(load).max().unwrap_or(0));
    }
    let partitions = status.partitions.iter().enumerate().map(|(at, row)| Move {
        partition: row.partition,
        backlog: row.backlog,
        owner: row.owner,
        then: match moves_in[at] {
            0 => row.owner,
            _ if joining == 0 => owners[at],
            _ => None,
        },
        moves_in: moves_in[at],
    });
    Ok(Plan {
        workers_now: live.len(),
        workers_then: then,
        joining,
        draws,
        moves: spread(&moves),
        most_owned: spread(&most_owned),
        partitions: partitions.collect(),
        leaving,
    })
}

/// Those that were named, then those that own the least: their leaving moves the least.
fn leaving(args: &Args, live: &[&WorkerRow], count: usize) -> Result<Vec<WorkerId>, CliError> {
    let named: BTreeSet<WorkerId> = args.leaving.iter().copied().collect();
    if let Some(unknown) = named.iter().find(|id| !live.iter().any(|w| w.id == **id)) {
        return Err(CliError::Misuse(format!(
            "{unknown} is no worker that reports and stays: see `riskfleet fleet status`"
        )));
    }
    let mut rest: Vec<&&WorkerRow> = live.iter().filter(|w| !named.contains(&w.id)).collect();
    rest.sort_by_key(|w| (w.partitions.len(), w.id));
    let more = count.saturating_sub(named.len());
    Ok(named.into_iter().chain(rest.into_iter().take(more).map(|w| w.id)).collect())
}

/// The id of a worker that does not exist: any bits serve, the same at every run (SplitMix64; Steele,
/// Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn newcomer(draw: u64, n: usize) -> WorkerId {
    let mut state = (draw << 20) ^ n as u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    WorkerId(Uuid::from_u64_pair(next(), next()))
}

fn spread(figures: &[usize]) -> Spread {
    let sum: usize = figures.iter().sum();
    Spread {
        mean: (sum as f64 / figures.len().max(1) as f64 * 10.0).round() / 10.0,
        least: figures.iter().copied().min().unwrap_or(0),
        most: figures.iter().copied().max().unwrap_or(0),
    }
}

impl Spread {
    fn text(self) -> String {
        if self.least == self.most {
            self.least.to_string()
        } else {
            format!("{} ({}–{})", self.mean, self.least, self.most)
        }
    }
}

fn print(plan: &Plan, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let mut rows = table::table(screen, &["partition", "backlog", "now", "then"]);
    for p in &plan.partitions {
        let now = p.owner.map_or_else(|| "nobody".to_owned(), |o| o.to_string());
        let then = match (p.moves_in, p.then) {
            (0, _) => "stays".to_owned(),
            (_, Some(then)) => then.to_string(),
            (n, None) => format!("moves in {n} of {} draws", plan.draws),
        };
        rows.add_row([table::text(p.partition), table::figure(p.backlog), table::text(now), table::text(then)]);
    }
    writeln!(screen.out, "{}\n", rows.trim_fmt())?;
    for id in &plan.leaving {
        writeln!(screen.out, "leaves: {id}")?;
    }
    if plan.joining > 0 {
        let n = plan.joining;
        writeln!(screen.out, "joins:  {n} whose ids are made at their boot; told for {} sets of ids", plan.draws)?;
    }
    let all = plan.partitions.len();
    let sum = format!(
        "{} workers → {}: {} of {all} partitions change hands; the fullest worker then owns {}",
        plan.workers_now,
        plan.workers_then,
        plan.moves.text(),
        plan.most_owned.text()
    );
    let sum = screen.paint(Ink::Bold, &sum);
    writeln!(screen.out, "{sum}")?;
    if plan.workers_then > all {
        let idle = plan.workers_then - all;
        writeln!(screen.out, "{idle} or more workers would own nothing: there are {all} partitions")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, time};
    use crate::ports::store::{Ledger, PartitionRow};

    fn args(workers: u16, leaving: &[WorkerId]) -> Args {
        Args { workers, joining_weight: 1, leaving: leaving.to_vec(), json: false }
    }

    /// A settled fleet: everybody owns what is desired.
    fn fleet(workers: usize, partitions: u16) -> FleetStatus {
        let ids: Vec<WorkerId> = (0..workers).map(|n| newcomer(7_777, n)).collect();
        let candidates: Vec<Candidate> = ids.iter().map(|id| Candidate { id: *id, weight: 1 }).collect();
        let owners = desired(&candidates, partitions);
        let owned = |id: WorkerId| -> Vec<PartitionId> {
            (0..partitions).map(PartitionId).filter(|p| owners[usize::from(p.0)] == Some(id)).collect()
        };
        let worker = |id: &WorkerId| WorkerRow {
            id: *id,
            version: "1".into(),
            partitions: owned(*id),
            draining: false,
            seen_at: time::from_millis(0),
            load: None,
        };
        let rows = (0..partitions).map(|p| PartitionRow {
            partition: PartitionId(p),
            owner: owners[usize::from(p)],
            epoch: Epoch(1),
            backlog: 0,
        });
        FleetStatus { workers: ids.iter().map(worker).collect(), partitions: rows.collect(), ledger: Ledger::default() }
    }

    fn planned(status: &FleetStatus, args: &Args) -> Plan {
        plan(args, status, &status.workers.iter().collect::<Vec<_>>()).expect("planned")
    }

    #[test]
    fn the_same_number_moves_nothing() {
        let status = fleet(4, 16);
        let plan = planned(&status, &args(4, &[]));
        assert_eq!((plan.moves, plan.draws), (Spread { mean: 0.0, least: 0, most: 0 }, 1));
        assert!(plan.partitions.iter().all(|p| p.then == p.owner && p.then.is_some()));
    }

    #[test]
    fn a_join_moves_about_the_newcomers_share() {
        let plan = planned(&fleet(3, 64), &args(4, &[]));
        assert_eq!((plan.joining, plan.draws), (1, DRAWS));
        assert!(plan.moves.least >= 8 && plan.moves.most <= 32, "{:?}", plan.moves);
        assert!((14.0..24.0).contains(&plan.moves.mean), "64 / 4 and what the caps push around: {:?}", plan.moves);
        // ⌈1.15 · 64 / 4⌉
        assert!(plan.most_owned.most <= 19, "{:?}", plan.most_owned);
        let sum: u64 = plan.partitions.iter().map(|p| p.moves_in).sum();
        assert!((sum as f64 / DRAWS as f64 - plan.moves.mean).abs() < 0.06, "rows and total agree");
    }

    #[test]
    fn a_named_worker_leaves_and_what_it_owned_is_elsewhere() {
        let status = fleet(4, 16);
        let gone = status.workers[2].id;
        let plan = planned(&status, &args(3, &[gone]));
        assert_eq!((plan.leaving.as_slice(), plan.joining, plan.draws), (&[gone][..], 0, 1));
        for p in &plan.partitions {
            assert!(p.then.is_some() && p.then != Some(gone), "{p:?}");
        }
        assert!(plan.moves.least >= status.workers[2].partitions.len());
        // Named, and replaced.
        let plan = planned(&status, &args(4, &[gone]));
        assert_eq!((plan.leaving.as_slice(), plan.joining), (&[gone][..], 1));
    }

    #[test]
    fn unnamed_the_emptiest_leaves_and_a_stranger_is_refused() {
        let mut status = fleet(3, 16);
        status.workers[1].partitions.truncate(1);
        assert_eq!(planned(&status, &args(2, &[])).leaving, [status.workers[1].id]);
        let stranger = newcomer(1, 1);
        let live: Vec<&WorkerRow> = status.workers.iter().collect();
        assert!(matches!(plan(&args(2, &[stranger]), &status, &live), Err(CliError::Misuse(_))));
    }

    #[test]
    fn a_fleet_without_workers_can_be_planned() {
        let mut status = fleet(1, 4);
        status.workers.clear();
        status.partitions.iter_mut().for_each(|p| p.owner = None);
        let plan = planned(&status, &args(2, &[]));
        assert_eq!((plan.workers_now, plan.joining, plan.moves.least), (0, 2, 4));
    }
}
