//! Owns the walk over all faults, one after the other, since they share the machine: a fleet, a load,
//! a fault, its end, quiet, the verdict, a row. And the walk over all mutants.

mod brokers;
mod catalogue;
mod fleets;
mod long;
mod probes;
mod scene;
mod stores;
mod supervisor;

use std::time::{Duration, Instant};

use catalogue::{FAULTS, Fault, MUTANTS};
use scene::{Scene, Size};

use crate::harness::fleet::alone;
use crate::servers::Servers;
use crate::table::{self, Caught, Row};

/// What the caller asked for.
struct Choice {
    full: bool,
    only: Vec<String>,
    minutes: Option<u64>,
    seed: u64,
}

impl Choice {
    fn read() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str| {
            variable(name).map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is {v}, and must be a whole number")))
        };
        let only = variable("RISKFLEET_CHAOS_ONLY").unwrap_or_default();
        Self {
            full: variable("RISKFLEET_CHAOS").is_some_and(|v| v == "full"),
            only: only.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
            minutes: number("RISKFLEET_CHAOS_MINUTES"),
            seed: number("RISKFLEET_CHAOS_SEED").unwrap_or(20_261_121),
        }
    }

    fn wants(&self, name: &str, short: bool) -> bool {
        if self.only.is_empty() { self.full || short } else { self.only.iter().any(|word| name.contains(word)) }
    }

    fn size(&self) -> Size {
        if self.full { Size::FULL } else { Size::SHORT }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fault_is_survived_and_every_mutant_is_caught() {
    let _alone = alone().await;
    let choice = Choice::read();
    eprintln!("chaos: seed {}", choice.seed);
    let mut servers = Servers::start().await.expect("start the servers of the suite");
    let mut wrong = Vec::new();
    if let Some(minutes) = choice.minutes {
        let row = long::run(&mut servers, Duration::from_secs(60 * minutes), choice.seed).await;
        let row = row.expect("the long run");
        wrong.extend(row.verdict.wrong.iter().map(|w| format!("long run: {w}")));
        show(&table::faults(&[row]));
    } else {
        let rows = walk(&mut servers, &choice, &mut wrong).await;
        let caught = hunt(&mut servers, &choice, &mut wrong).await;
        show(&format!("\n{}\n{}", table::faults(&rows), table::mutants(&caught)));
    }
    assert!(wrong.is_empty(), "{} findings (seed {}):\n  {}", wrong.len(), choice.seed, wrong.join("\n  "));
}

#[expect(clippy::print_stdout, reason = "the tables are what a run is for")]
fn show(tables: &str) {
    println!("{tables}");
}

async fn walk(servers: &mut Servers, choice: &Choice, wrong: &mut Vec<String>) -> Vec<Row> {
    let mut rows = Vec::new();
    for fault in FAULTS.iter().filter(|fault| choice.wants(fault.name, fault.short)) {
        let began = Instant::now();
        match play(servers, fault, choice.size(), choice.seed, None).await {
            Ok(mut row) => {
                row.took = began.elapsed();
                wrong.extend(row.verdict.wrong.iter().map(|w| format!("{}: {w}", fault.name)));
                eprint!("{}", table::faults(std::slice::from_ref(&row)));
                rows.push(row);
            }
            Err(e) => {
                eprintln!("{} failed after {:?}: {e:#}", fault.name, began.elapsed());
                wrong.push(format!("{}: {e:#}", fault.name));
            }
        }
    }
    rows
}

/// A mutant is caught when its fault fails for the reason that belongs to it.
async fn hunt(servers: &mut Servers, choice: &Choice, wrong: &mut Vec<String>) -> Vec<Caught> {
    let mut all = Vec::new();
    for hunt in &MUTANTS {
        let mutant = hunt.mutant.name();
        if !choice.wants(&format!("mutant {mutant}"), hunt.short) {
            continue;
        }
        let began = Instant::now();
        let fault = FAULTS.iter().find(|fault| fault.name == hunt.by).expect("a mutant names a fault");
        let all_said = match play(servers, fault, Size::MUTANT, choice.seed, Some(mutant)).await {
            Ok(row) => row.verdict.wrong,
            Err(e) => vec![format!("{e:#}")],
        };
        let said = all_said.iter().find(|said| said.contains(hunt.said)).cloned();
        if said.is_none() {
            wrong.push(format!("the mutant {mutant} was not caught by: {}; it said {all_said:?}", hunt.by));
        }
        let caught = Caught { mutant, by: hunt.by, said };
        eprintln!("{:?}\n{}", began.elapsed(), table::mutants(std::slice::from_ref(&caught)));
        all.push(caught);
    }
    all
}

/// One fault, from the empty stage to the verdict.
async fn play(
    servers: &mut Servers,
    fault: &'static Fault,
    size: Size,
    seed: u64,
    mutant: Option<&'static str>,
) -> anyhow::Result<Row> {
    let mut scene = Scene::set(servers, fault, size, seed, mutant).await?;
    let result = scene.play(fault).await;
    let keep_logs = mutant.is_none() && !matches!(&result, Ok(row) if row.verdict.wrong.is_empty());
    scene.strike(keep_logs).await;
    result
}
