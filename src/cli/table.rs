//! Owns the look of tables: columns under upper-case headings, no lines, so that `awk` reads them too.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use std::fmt::Display;

use super::screen::{Screen, clean};
use crate::domain::Status;

/// An empty table under `headings`.
pub(super) fn table(screen: &Screen<'_>, headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if screen.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headings.iter().map(|h| Cell::new(h.to_uppercase())));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A cell of somebody's text.
pub(super) fn text(value: impl Display) -> Cell {
    Cell::new(clean(&value.to_string()))
}

/// A cell of a figure.
pub(super) fn figure(value: impl Display) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

/// A cell of a status, coloured by what an operator thinks of it.
pub(super) fn status(value: Status) -> Cell {
    let cell = Cell::new(value.as_str());
    match value {
        Status::Approved => cell.fg(Color::Green),
        Status::Escalated | Status::Retrying => cell.fg(Color::Yellow),
        Status::Rejected | Status::Failed => cell.fg(Color::Red),
        Status::Received | Status::Validated | Status::Processing => cell,
    }
}
