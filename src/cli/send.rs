//! `send`: events from a file, in batches, to a fleet's API.
//!
//! Every event goes with a key (its own, or the file's hash and its line), so that a command that
//! was broken off, or a batch whose answer was lost, can be sent again and stores nothing twice.

mod answer;
mod client;
mod input;

use futures::stream::{FuturesOrdered, StreamExt};
use indicatif::ProgressBar;

use super::args::Send as Args;
use super::screen::{Ink, clean};
use super::{CliError, Exit, Screen, table};
use answer::{Answer, Tally};
use client::Client;
use input::{Batch, Input};

/// Batches on the way at once.
const IN_FLIGHT: usize = 4;

/// Up to so many answers, people see each of them; of more, only the refused ones.
const SHOWN: usize = 20;

/// How many refused lines people see.
const REFUSED_SHOWN: usize = 100;

/// Sends the events of a file. Fails when any of them was refused.
pub async fn send(args: &Args, screen: &mut Screen<'_>) -> Exit {
    let mut tally = Tally::default();
    let sent = send_all(args, screen, &mut tally).await;
    // What was answered before it broke off was done, and is said first.
    let said = match &sent {
        Err(_) if tally.sent == 0 && !args.json => Ok(()),
        Err(e) => print(args, screen, &tally, Some(&e.to_string())),
        Ok(()) => print(args, screen, &tally, None),
    };
    screen.conclude(sent.and(said).map(|()| Exit::when(tally.refused == 0)))
}

async fn send_all(args: &Args, screen: &Screen<'_>, tally: &mut Tally) -> Result<(), CliError> {
    let client = Client::new(args)?;
    let mut input = Input::open(&args.file).await?;
    let bar = screen.bar(None, "events");
    let done = pump(&client, &mut input, tally, &bar).await;
    bar.finish_and_clear();
    done
}

/// Keeps [`IN_FLIGHT`] batches on the way, and takes their answers in order.
async fn pump(client: &Client, input: &mut Input, tally: &mut Tally, bar: &ProgressBar) -> Result<(), CliError> {
    let mut on_the_way = FuturesOrdered::new();
    let mut more = true;
    loop {
        while more && on_the_way.len() < IN_FLIGHT {
            match input.next_batch().await? {
                Some(batch) => on_the_way.push_back(deliver(client, batch)),
                None => more = false,
            }
        }
        let Some(answers) = on_the_way.next().await else { return Ok(()) };
        let answers = answers?;
        bar.inc(answers.len() as u64);
        answers.into_iter().for_each(|a| tally.add(a));
    }
}

async fn deliver(client: &Client, batch: Batch) -> Result<Vec<Answer>, CliError> {
    let mut answers = if batch.numbers.is_empty() { Vec::new() } else { client.post(&batch).await? };
    answers.extend(batch.refused);
    answers.sort_by_key(|a| a.line);
    Ok(answers)
}

fn print(args: &Args, screen: &mut Screen<'_>, tally: &Tally, broke_off: Option<&str>) -> Result<(), CliError> {
    if args.json {
        return screen.json(&tally.document(broke_off));
    }
    let all = tally.items.len() <= SHOWN && tally.sent == tally.items.len() as u64;
    let shown: Vec<&Answer> =
        tally.items.iter().filter(|a| all || a.is_refused()).take(if all { SHOWN } else { REFUSED_SHOWN }).collect();
    if !shown.is_empty() {
        let mut table = table::table(screen, &["line", "answer", "event", "why"]);
        for a in &shown {
            let event = a.event_id.as_deref().unwrap_or("-");
            table.add_row([table::figure(a.line), table::text(a.result), table::text(event), table::text(a.why())]);
        }
        writeln!(screen.out, "{}", table.trim_fmt())?;
    }
    if !all && tally.refused > shown.len() as u64 {
        writeln!(screen.out, "the first {} refused lines; more with --json", shown.len())?;
    }
    let ink = if tally.refused == 0 { Ink::Green } else { Ink::Red };
    let line = format!(
        "sent {}: {} accepted, {} replayed, {} refused",
        tally.sent, tally.accepted, tally.replayed, tally.refused
    );
    let line = screen.paint(ink, &clean(&line));
    writeln!(screen.out, "{line}")?;
    if broke_off.is_some() {
        writeln!(screen.err, "it broke off there; send the same file again: what was taken is not stored twice")?;
    }
    Ok(())
}
