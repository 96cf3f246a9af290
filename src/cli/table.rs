//! Tables for people: aligned columns, and peers' text made safe to print. Pure.

use crate::telemetry::escape::printable;

/// Rows under a head; columns are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// On which side a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(head: &[(&'static str, Align)]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; each cell is escaped and, past [`WIDEST`] characters, cut.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| cut(&printable(&cell))).collect());
    }

    fn width(&self, column: usize) -> usize {
        let head = self.head.get(column).map_or(0, |(name, _)| name.len());
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(head)
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths: Vec<_> = (0..self.head.len()).map(|column| self.width(column)).collect();
        let head: Vec<String> = self.head.iter().map(|(name, _)| (*name).to_owned()).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let cells = row.iter().zip(&self.head).zip(&widths);
            let cells = cells.map(|((cell, (_, align)), width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// `1.2 GiB`
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `4s`, `3m12s`, `2h05m`, `3d04h`
pub(crate) fn age(seconds: f64) -> String {
    // Negative and endless ones do not come; if they did, they were 0 and very long.
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDEST {
        return text.to_owned();
    }
    text.chars().take(WIDEST - 1).chain(['…']).collect()
}

const WIDEST: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_peers_text_is_harmless() {
        let mut table =
            Table::new(&[("USER", Align::Left), ("N", Align::Right), ("X", Align::Left)]);
        table.row(["ann".into(), "7".into(), "a".into()]);
        table.row(["\u{1b}[31m\u{202e}ü".into(), "1000".into(), String::new()]);
        table.row(["b".repeat(60), "1".into(), "\n".into()]);
        let wide = format!("{}…", "b".repeat(47));
        let expected = format!(
            "{:<48}     N  X\n{:<48}     7  a\n{:<48}  1000\n{wide}     1  \\n\n",
            "USER", "ann", "\\u{1b}[31m\\u{202e}ü"
        );
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn numbers_are_short() {
        let ages =
            [(0.0, "0s"), (59.9, "59s"), (192.0, "3m12s"), (7500.0, "2h05m"), (273_700.0, "3d04h")];
        for (seconds, expected) in ages {
            assert_eq!(age(seconds), expected);
        }
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (3 << 40, "3.0 TiB"),
        ];
        for (count, expected) in sizes {
            assert_eq!(bytes(count), expected);
        }
    }
}
