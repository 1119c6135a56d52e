//! Tables for people.

use std::io::{self, Write};
use std::time::Duration;

use crate::domain::clock::Millis;
use crate::runtime::time;

/// Columns, as wide as what is in them.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    pub(super) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| head.to_uppercase()).collect()] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { printable(&cell) };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// Prints it.
    pub(super) fn print(&self) -> io::Result<()> {
        io::stdout().lock().write_all(self.text().as_bytes())
    }

    fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Names are chosen by clients, and must not move the cursor.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// As `1.5 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// As `3 minutes`, to the past.
pub(super) fn ago(ms: u64) -> String {
    if ms == 0 { String::new() } else { duration(time::now().since(Millis(ms))) }
}

/// As `3 minutes`.
pub(super) fn duration(duration: Duration) -> String {
    indicatif::HumanDuration(duration).to_string()
}

/// `yes` or nothing.
pub(super) fn flag(on: bool) -> String {
    if on { "yes".to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["name", "n"]);
        table.row(["long\nname".to_owned(), "1".to_owned()]);
        table.row([String::new(), "22".to_owned()]);
        assert_eq!(table.text(), "NAME       N\nlong?name  1\n-          22\n");
    }
}
