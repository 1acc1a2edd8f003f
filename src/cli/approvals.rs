//! `approvals`: what the workflow escalates to people. Reading takes the store; what changes a
//! request goes through the control API, so that roles and audit hold for it.

mod change;
mod list;
mod show;

use super::args::{ApprovalsChange, ApprovalsRead};
use super::{Exit, Reading, Screen};
use crate::domain::ApprovalRules;
use crate::ports::Approvals;

/// Runs `approvals list` or `approvals show`.
pub async fn approvals_read(
    command: &ApprovalsRead,
    (reading, approvals): (Reading<'_>, &dyn Approvals),
    rules: &ApprovalRules,
    screen: &mut Screen<'_>,
) -> Exit {
    let done = match command {
        ApprovalsRead::List(list) => list::run(list, (reading.store, approvals), rules, screen).await,
        ApprovalsRead::Show(one) => show::run(one, reading, rules, screen).await,
    };
    screen.conclude(done)
}

/// Runs `approvals approve|reject|claim|release|comment`.
pub async fn approvals_change(command: &ApprovalsChange, screen: &mut Screen<'_>) -> Exit {
    let done = change::run(command, screen).await;
    screen.conclude(done)
}
