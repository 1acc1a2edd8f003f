//! Owns the changing of many dead letters: a few at once, each with its own answer, the whole with
//! one exit code.

use futures::stream::{self, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::http::{Api, Refused};
use crate::cli::screen::{Ink, clean};
use crate::cli::{CliError, Exit, Screen, table};

/// Requests on the way at once.
const IN_FLIGHT: usize = 4;

/// Up to so many answers, people see each of them; of more, only the failed ones.
const SHOWN: usize = 20;

/// How many failed ones people see.
const FAILED_SHOWN: usize = 100;

/// One change, for every dead letter named.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    /// The last part of the path: `replay`, `discard`.
    pub(super) verb: &'static str,
    /// `replayed`, `discarded`.
    pub(super) done: &'static str,
    /// Why.
    pub(super) reason: Option<&'a str>,
}

/// What became of one dead letter.
#[derive(Debug, Serialize)]
struct Item {
    event_id: String,
    /// `replayed`, `discarded` or `failed`.
    result: &'static str,
    /// Of a failed one.
    why: Option<String>,
}

/// What became of all.
#[derive(Debug)]
pub(super) struct Tally {
    done_word: &'static str,
    asked: usize,
    items: Vec<Item>,
    failed: usize,
    broke_off: Option<CliError>,
}

/// Changes each of the dead letters; stops where every other would fare the same.
pub(super) async fn each(api: &Api, events: Vec<String>, change: Change<'_>, screen: &Screen<'_>) -> Tally {
    let mut tally =
        Tally { done_word: change.done, asked: events.len(), items: Vec::new(), failed: 0, broke_off: None };
    let bar = screen.bar(Some(events.len() as u64), "dead letters");
    let requests = events.into_iter().map(|event| async move {
        let answer = api.change(&format!("/v1/dead-letters/{event}/{}", change.verb), change.reason).await;
        (event, answer)
    });
    let mut answers = stream::iter(requests).buffered(IN_FLIGHT);
    while let Some((event_id, answer)) = answers.next().await {
        bar.inc(1);
        match answer {
            Ok(_) => tally.items.push(Item { event_id, result: change.done, why: None }),
            Err(Refused::One(why)) => {
                tally.failed += 1;
                tally.items.push(Item { event_id, result: "failed", why: Some(why) });
            }
            Err(Refused::All(error)) => {
                tally.broke_off = Some(error);
                break;
            }
        }
    }
    bar.finish_and_clear();
    tally
}

impl Tally {
    /// Says what became of them: what was done before it broke off was done, and is said first.
    pub(super) fn tell(self, as_json: bool, screen: &mut Screen<'_>) -> Result<Exit, CliError> {
        if as_json {
            screen.json(&self.document())?;
        } else if self.broke_off.is_none() || !self.items.is_empty() {
            self.print(screen)?;
        }
        match self.broke_off {
            Some(error) => Err(error),
            None => Ok(Exit::when(self.failed == 0)),
        }
    }

    fn done(&self) -> usize {
        self.items.len() - self.failed
    }

    /// `{asked,replayed,failed,items}`, and `error` where it broke off.
    fn document(&self) -> Value {
        let mut shown = json!({ "asked": self.asked, "failed": self.failed, "items": self.items });
        shown[self.done_word] = self.done().into();
        if let Some(error) = &self.broke_off {
            shown["error"] = format!("failed to {error}").into();
        }
        shown
    }

    fn print(&self, screen: &mut Screen<'_>) -> Result<(), CliError> {
        let all = self.items.len() <= SHOWN;
        let limit = if all { SHOWN } else { FAILED_SHOWN };
        let shown: Vec<&Item> = self.items.iter().filter(|i| all || i.why.is_some()).take(limit).collect();
        if !shown.is_empty() {
            let mut table = table::table(screen, &["event", "answer", "why"]);
            for item in &shown {
                let why = item.why.as_deref().unwrap_or("-");
                table.add_row([table::text(&item.event_id), table::text(item.result), table::text(why)]);
            }
            writeln!(screen.out, "{}", table.trim_fmt())?;
        }
        if !all && self.failed > shown.len() {
            writeln!(screen.out, "the first {} that failed; more with --json", shown.len())?;
        }
        let well = self.failed == 0 && self.broke_off.is_none();
        let line = format!("{} {} of {} dead letters, {} failed", self.done_word, self.done(), self.asked, self.failed);
        let line = screen.paint(if well { Ink::Green } else { Ink::Red }, &clean(&line));
        writeln!(screen.out, "{line}")?;
        if self.failed > 0 {
            writeln!(screen.err, "next: `riskfleet dlq show EVENT` says where each that failed stands")?;
        }
        Ok(())
    }
}
