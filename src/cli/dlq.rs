//! `dlq`: dead letters, the events that failed for good. Reading takes the store; what changes one
//! goes through the control API, so that roles and audit hold for it.

mod discard;
mod list;
mod replay;
mod show;
mod tally;

use super::args::{DlqChange, DlqRead};
use super::{Exit, Reading, Screen};

/// Runs `dlq list` or `dlq show`.
pub async fn dlq_read(command: &DlqRead, reading: Reading<'_>, screen: &mut Screen<'_>) -> Exit {
    let done = match command {
        DlqRead::List(list) => list::run(list, reading.store, screen).await,
        DlqRead::Show(one) => show::run(one, reading, screen).await,
    };
    screen.conclude(done)
}

/// Runs `dlq replay` or `dlq discard`.
pub async fn dlq_change(command: &DlqChange, screen: &mut Screen<'_>) -> Exit {
    let done = match command {
        DlqChange::Replay(replay) => replay::run(replay, screen).await,
        DlqChange::Discard(discard) => discard::run(discard, screen).await,
    };
    screen.conclude(done)
}
