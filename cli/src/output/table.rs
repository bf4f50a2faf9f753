//! Lists: tables with aligned columns, JSON arrays, or ids.
//!
//! A list may have a million entries, so it is printed page by page. A column keeps the width of the pages before, and
//! grows if a later page needs more.

use serde_json::Value;

use super::style::{Style, paint};
use super::text::{clean, shorten, width};
use super::{Kind, Output};
use crate::exit::Failure;

/// No column is narrower than this on a terminal that is too narrow for all of them.
const NARROWEST: usize = 12;
const GAP: usize = 2;

/// The entries of a list, and how they are shown.
#[derive(Debug)]
pub(crate) struct List {
    pub columns: &'static [Column],
    /// The part of an entry that `--quiet` prints.
    pub id: fn(&Value) -> String,
    /// The message if there are no entries: that there are none yet, and what to do.
    pub empty: &'static str,
}

/// A column of a table.
#[derive(Debug)]
pub(crate) struct Column {
    title: &'static str,
    cell: fn(&Value) -> String,
    look: Look,
    /// 0: it is always shown. Others are left out on a terminal that is too narrow, the highest first.
    spare: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Text,
    /// Aligned to the right.
    Number,
    /// In the colour of the state.
    State,
    Time,
}

impl Column {
    pub(crate) const fn text(title: &'static str, cell: fn(&Value) -> String) -> Self {
        Self::new(title, cell, Look::Text)
    }

    /// A column of numbers, which are aligned to the right.
    pub(crate) const fn number(title: &'static str, cell: fn(&Value) -> String) -> Self {
        Self::new(title, cell, Look::Number)
    }

    /// A column of states such as `valid`, which have colours.
    pub(crate) const fn state(title: &'static str, cell: fn(&Value) -> String) -> Self {
        Self::new(title, cell, Look::State)
    }

    /// A column of times, of [`time`](super::time), which are never cut.
    pub(crate) const fn time(title: &'static str, cell: fn(&Value) -> String) -> Self {
        Self::new(title, cell, Look::Time)
    }

    /// Leaves the column out on a terminal that is too narrow. Of several, the one with the highest rank goes first.
    pub(crate) const fn spare(self, rank: u8) -> Self {
        Self {
            spare: rank,
            ..self
        }
    }

    const fn new(title: &'static str, cell: fn(&Value) -> String, look: Look) -> Self {
        Self {
            title,
            cell,
            look,
            spare: 0,
        }
    }

    /// The least width, if the longest cell has `most`.
    fn least(&self, most: usize) -> usize {
        match self.look {
            Look::Time | Look::Number => most,
            Look::Text | Look::State => width(self.title).max(NARROWEST).min(most),
        }
    }
}

/// A list that is being printed.
#[derive(Debug)]
#[must_use = "`end` closes it"]
pub(crate) struct Rows {
    output: Output,
    what: &'static List,
    /// The columns that are shown. Empty before the first entries.
    columns: Vec<&'static Column>,
    /// Of the columns so far.
    widths: Vec<usize>,
    count: usize,
}

impl Rows {
    pub(super) fn new(output: Output, what: &'static List) -> Self {
        Self {
            output,
            what,
            columns: Vec::new(),
            widths: Vec::new(),
            count: 0,
        }
    }

    /// Prints some entries.
    pub(crate) fn add<'v>(
        &mut self,
        entries: impl IntoIterator<Item = &'v Value>,
    ) -> Result<(), Failure> {
        let entries: Vec<&Value> = entries.into_iter().collect();
        if entries.is_empty() {
            return Ok(());
        }
        let text = match self.output.kind {
            Kind::Json => self.json(&entries),
            Kind::Quiet => entries.iter().map(|it| (self.what.id)(it) + "\n").collect(),
            Kind::Table => self.table(&entries),
        };
        self.count += entries.len();
        super::print(&text)
    }

    /// Ends the list. Says so if it is empty.
    pub(crate) fn end(self) -> Result<(), Failure> {
        let what = self.what;
        self.end_saying(what.empty)
    }

    /// Ends the list, with another message if it is empty: a filter may have left nothing.
    pub(crate) fn end_saying(self, empty: &str) -> Result<(), Failure> {
        let what = self.what;
        match (self.output.kind, self.count) {
            (Kind::Json, 0) => super::print("[]\n")?,
            (Kind::Json, _) => super::print("\n]\n")?,
            (Kind::Table, 0) => super::print(&titles(what))?,
            (Kind::Table | Kind::Quiet, _) => {}
        }
        if self.count == 0 {
            self.output.note(empty);
        }
        let is_shown = |it: &&Column| self.columns.iter().any(|shown| shown.title == it.title);
        let left_out = what.columns.iter().filter(|it| !is_shown(it));
        let left_out: Vec<&str> = left_out.map(|it| it.title).collect();
        if !self.columns.is_empty() && !left_out.is_empty() {
            let names = left_out.join(", ");
            let message = format!("Not shown, for lack of space: {names}");
            self.output.note(paint(Style::Faint, &message));
        }
        Ok(())
    }

    /// How many entries were printed.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    fn json(&self, entries: &[&Value]) -> String {
        let mut text = String::new();
        for (index, entry) in entries.iter().enumerate() {
            text.push_str(match self.count + index {
                0 => "[\n  ",
                _ => ",\n  ",
            });
            // Strings have no line breaks in JSON.
            text.push_str(&format!("{entry:#}").replace('\n', "\n  "));
        }
        text
    }

    fn table(&mut self, entries: &[&Value]) -> String {
        let is_first = self.columns.is_empty();
        if is_first {
            self.columns = self.what.columns.iter().collect();
            self.widths = self.columns.iter().map(|it| width(it.title)).collect();
        }
        let cells_of = |columns: &[&Column]| {
            let cells = entries.iter().map(|entry| {
                let cells = columns.iter().map(|it| clean(&(it.cell)(entry)));
                cells.collect::<Vec<_>>()
            });
            cells.collect::<Vec<_>>()
        };
        let mut cells = cells_of(&self.columns);
        for row in &cells {
            for (most, cell) in self.widths.iter_mut().zip(row) {
                *most = width(cell).max(*most);
            }
        }
        // Only on a terminal are columns left out or cut.
        if let Some(terminal) = self.output.width {
            if is_first && leave_out(&mut self.columns, &mut self.widths, terminal) {
                cells = cells_of(&self.columns);
            }
            fit(&mut self.widths, &self.columns, terminal);
            for row in &mut cells {
                for (cell, most) in row.iter_mut().zip(&self.widths) {
                    *cell = shorten(cell, *most);
                }
            }
        }
        let mut text = String::new();
        if is_first {
            let titles: Vec<String> = self.columns.iter().map(|it| it.title.into()).collect();
            text.push_str(&row(&self.columns, &titles, &self.widths, true));
        }
        for cells in cells {
            text.push_str(&row(&self.columns, &cells, &self.widths, false));
        }
        text
    }
}

/// The header of a table without entries.
fn titles(what: &'static List) -> String {
    let columns: Vec<&Column> = what.columns.iter().collect();
    let titles: Vec<String> = columns.iter().map(|it| it.title.to_owned()).collect();
    let widths: Vec<usize> = titles.iter().map(|title| width(title)).collect();
    row(&columns, &titles, &widths, true)
}

fn gaps(columns: usize) -> usize {
    GAP * columns.saturating_sub(1)
}

/// Leaves columns out until the others can fit into the terminal. Returns whether it left any out.
fn leave_out(columns: &mut Vec<&'static Column>, widths: &mut Vec<usize>, terminal: usize) -> bool {
    let before = columns.len();
    loop {
        let rest = columns.iter().zip(widths.iter()).skip(1);
        let least: usize = rest.map(|(column, most)| column.least(*most)).sum();
        let first = widths.first().copied().unwrap_or(0);
        let spare = columns.iter().enumerate().filter(|(_, it)| it.spare > 0);
        let spare = spare.max_by_key(|(_, it)| it.spare).map(|(index, _)| index);
        match spare {
            Some(index) if first + least + gaps(columns.len()) > terminal => {
                columns.remove(index);
                widths.remove(index);
            }
            Some(_) | None => return columns.len() < before,
        }
    }
}

/// Makes columns narrower, the last ones first, until a row fits into the terminal. The first column has what the other
/// commands need, so it stays whole.
fn fit(widths: &mut [usize], columns: &[&Column], terminal: usize) {
    let total = widths.iter().sum::<usize>() + gaps(widths.len());
    let mut excess = total.saturating_sub(terminal);
    for (most, column) in widths.iter_mut().zip(columns).skip(1).rev() {
        let taken = excess.min(*most - column.least(*most));
        *most -= taken;
        excess -= taken;
    }
}

fn row(columns: &[&Column], cells: &[String], widths: &[usize], is_header: bool) -> String {
    let mut line = String::new();
    let last = columns.len().saturating_sub(1);
    for (index, (column, (cell, most))) in columns.iter().zip(cells.iter().zip(widths)).enumerate()
    {
        if index > 0 {
            line.push_str("  ");
        }
        let padding = " ".repeat(most.saturating_sub(width(cell)));
        let style = match (is_header, column.look) {
            (true, _) => Style::Title,
            (false, Look::State) => Style::of_state(cell),
            (false, Look::Text | Look::Number | Look::Time) => Style::Plain,
        };
        let painted = paint(style, cell);
        match column.look {
            Look::Number => line.push_str(&(padding + &painted)),
            Look::Text | Look::State | Look::Time if index == last => line.push_str(&painted),
            Look::Text | Look::State | Look::Time => line.push_str(&(painted + &padding)),
        }
    }
    line.truncate(line.trim_end().len());
    line + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::text::{member, time};
    use super::*;

    const LIST: List = List {
        columns: &[
            Column::text("ID", |it| member(it, "id")),
            Column::state("STATE", |it| member(it, "state")),
            Column::number("COUNT", |it| member(it, "count")),
            Column::text("ERROR", |it| member(it, "error")),
        ],
        id: |it| member(it, "id"),
        empty: "There is nothing yet",
    };

    fn rows(width: Option<usize>) -> Rows {
        static WHAT: List = LIST;
        let (kind, is_quiet) = (Kind::Table, false);
        let output = Output {
            kind,
            is_quiet,
            width,
        };
        Rows::new(output, &WHAT)
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_aligned_over_all_pages() {
        let mut rows = rows(None);
        let one = json!({ "id": "größe", "state": "valid", "count": 7, "error": "漢字" });
        let expected = "\
ID     STATE  COUNT  ERROR
größe  valid      7  漢字
";
        assert_eq!(plain(&rows.table(&[&one])), expected);
        // Later pages have no header, and a wider entry does not end up in the next column.
        let two = json!({ "id": "a longer id", "state": "-", "count": 12_345_678 });
        let expected = "a longer id  -      12345678  -\n";
        assert_eq!(plain(&rows.table(&[&two])), expected);
        let three = json!({ "id": "b", "state": "x", "count": 1, "error": "e" });
        let expected = "b            x             1  e\n";
        assert_eq!(plain(&rows.table(&[&three])), expected);
    }

    #[test]
    fn terminal_cuts_the_last_columns_and_never_the_first() {
        let entry = json!({
            "id": "install_0123456789", "state": "valid", "count": 1,
            "error": "a long explanation that does not fit",
        });
        let mut narrow = rows(Some(50));
        let text = plain(&narrow.table(&[&entry]));
        let line = text.lines().last().unwrap();
        assert!(line.starts_with("install_0123456789  valid"), "{text}");
        assert!(line.ends_with('…') && width(line) <= 50, "{text}");
        // Even in a terminal for which nothing is narrow enough.
        let mut tiny = rows(Some(10));
        let text = plain(&tiny.table(&[&entry]));
        assert!(text.contains("install_0123456789"), "{text}");
        // A pipe gets all of it.
        let mut piped = rows(None);
        let text = plain(&piped.table(&[&entry]));
        assert!(text.contains("that does not fit"), "{text}");
    }

    #[test]
    fn terminal_leaves_out_spare_columns_before_it_cuts_others() {
        static WHAT: List = List {
            columns: &[
                Column::text("ID", |it| member(it, "id")),
                Column::time("AT", |it| time(it, "at")).spare(1),
                Column::text("SPARE", |it| member(it, "id")).spare(2),
                Column::text("TEXT", |it| member(it, "text")),
            ],
            ..LIST
        };
        let entry = json!({ "id": "0123456789", "at": "2026-12-01T10:11:12.345Z", "text": "a text of twenty-one" });
        let header = |terminal| {
            let (kind, is_quiet) = (Kind::Table, false);
            let output = Output {
                kind,
                is_quiet,
                width: Some(terminal),
            };
            let text = plain(&Rows::new(output, &WHAT).table(&[&entry]));
            let header = text.lines().next().unwrap_or_default();
            header.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(header(200), "ID AT SPARE TEXT");
        // 10 + 20 + 10 + 12 and three gaps.
        assert_eq!(header(58), "ID AT SPARE TEXT");
        assert_eq!(header(57), "ID AT TEXT");
        assert_eq!(header(45), "ID TEXT");
        assert_eq!(header(5), "ID TEXT");
    }

    #[test]
    fn cell_cannot_add_a_line_or_an_escape_sequence() {
        let mut rows = rows(None);
        let entry = json!({ "id": "a", "error": "x\n\x1b[2Jy" });
        let text = plain(&rows.table(&[&entry]));
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with("x \u{fffd}[2Jy\n"), "{text:?}");
    }

    #[test]
    fn pages_are_one_array() {
        let mut rows = rows(None);
        let mut text = String::new();
        for page in [vec![json!({ "id": 1 }), json!("x\ny")], vec![json!([3])]] {
            let entries: Vec<&Value> = page.iter().collect();
            text.push_str(&rows.json(&entries));
            rows.count += entries.len();
        }
        text.push_str("\n]\n");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, json!([{ "id": 1 }, "x\ny", [3]]), "{text}");
    }
}
