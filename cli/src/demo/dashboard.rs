//! What the demo shows: how far the stream is, and the KPIs of the biggest campaigns. Pure: facts
//! in, lines out.

use std::collections::HashMap;
use std::time::Duration;

/// The columns asked of `campaign_kpis`, in this order.
pub const COLUMNS: [&str; 11] =
    ["campaign_id", "impressions", "reach", "clicks", "conversions", "spend", "revenue", "ctr", "cvr", "cpa", "roas"];

/// The headings of the columns.
const HEADINGS: [&str; 11] =
    ["campaign", "impressions", "reach", "clicks", "conversions", "spend", "revenue", "CTR", "CVR", "CPA", "ROAS"];
const NAME_WIDTH: usize = 30;

/// The facts at one moment.
#[derive(Debug, Clone, Default)]
pub struct Dashboard {
    pub lake: String,
    /// Where the dashboard is served.
    pub address: String,
    pub currency: String,
    pub elapsed: Duration,
    /// Records generated.
    pub sent: u64,
    /// Rows and dead letters committed.
    pub rows: u64,
    pub rejected: u64,
    /// Rows and dead letters committed per second since the last refresh.
    pub ingest_rate: f64,
    /// Age of the newest committed event.
    pub freshness: Option<Duration>,
    pub batch: Batch,
    /// Rows of [`COLUMNS`], NULL as `None`, biggest spend first.
    pub kpis: Vec<Vec<Option<String>>>,
    /// How long the KPIs took to query.
    pub query: Duration,
    /// Names by campaign id.
    pub names: HashMap<String, String>,
}

/// What the batch layer is doing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub running: bool,
    /// The last published run: its number, how long it took, when it ended (since the demo's
    /// start).
    pub last: Option<(i64, Duration, Duration)>,
    /// Why the last try failed.
    pub failure: Option<String>,
}

impl Dashboard {
    /// The whole screen, for a terminal of `height` lines.
    pub fn lines(&self, height: usize) -> Vec<String> {
        let mut lines = vec![
            format!("adlake demo   lake {}   {}   Ctrl-C stops", self.lake, seconds(self.elapsed)),
            format!("open    {}", self.address),
            format!(
                "stream  {} records generated, {} rows and {} dead letters committed, {:.0}/s{}",
                grouped(self.sent),
                grouped(self.rows),
                grouped(self.rejected),
                self.ingest_rate,
                self.freshness.map(|age| format!(", newest event {:.1} s old", age.as_secs_f64())).unwrap_or_default(),
            ),
            format!("batch   {}", self.batch_text()),
            format!("query   merged campaign_kpis, batch view and stream, in {} ms", self.query.as_millis()),
            String::new(),
        ];
        lines.extend(self.table(height.saturating_sub(lines.len() + 2).max(3)));
        lines
    }

    /// One line, used if there is no terminal.
    pub fn line(&self) -> String {
        let total = self.totals();
        format!(
            "{:>4} s  generated {}  committed {} + {} dead letters ({:.0}/s)  impressions {}  clicks {}  conversions \
             {}  \
             spend {} {currency}  revenue {} {currency}{}  batch {}",
            self.elapsed.as_secs(),
            self.sent,
            self.rows,
            self.rejected,
            self.ingest_rate,
            total[1],
            total[3],
            total[4],
            money(total[5]),
            money(total[6]),
            self.freshness.map(|age| format!("  newest event {:.1} s old", age.as_secs_f64())).unwrap_or_default(),
            self.batch_text(),
            currency = self.currency,
        )
    }

    /// The table of campaigns: at most `rows` lines, the headings and the total included.
    pub fn table(&self, rows: usize) -> Vec<String> {
        let mut cells: Vec<Vec<String>> = vec![HEADINGS.iter().map(|heading| (*heading).to_owned()).collect()];
        cells.extend(self.kpis.iter().take(rows.saturating_sub(2).max(1)).map(|row| self.row(row)));
        let total = self.totals();
        let ratio = |over: usize, under: usize| (total[under] != 0.0).then(|| total[over] / total[under]);
        let left_out = self.kpis.len() + 1 - cells.len();
        let name = if left_out == 0 { "total".to_owned() } else { format!("total, with {left_out} more campaigns") };
        cells.push(vec![
            name,
            grouped(total[1] as u64),
            // Reach does not add up: users of two campaigns may be the same person.
            String::new(),
            grouped(total[3] as u64),
            grouped(total[4] as u64),
            money(total[5]),
            money(total[6]),
            percent(ratio(3, 1)),
            percent(ratio(4, 3)),
            ratio(5, 4).map(money).unwrap_or_default(),
            ratio(6, 5).map(|roas| format!("{roas:.2}")).unwrap_or_default(),
        ]);
        aligned(&cells)
    }

    fn row(&self, row: &[Option<String>]) -> Vec<String> {
        let text = |place: usize| row.get(place).cloned().flatten();
        let number = |place: usize| text(place).and_then(|text| text.parse::<f64>().ok());
        let id = text(0).unwrap_or_default();
        let name = match self.names.get(&id) {
            Some(name) => format!("{id} {name}"),
            None => id,
        };
        let whole = |place: usize| number(place).map(|value| grouped(value as u64)).unwrap_or_default();
        let amount = |place: usize| number(place).map(money).unwrap_or_default();
        vec![
            name.chars().take(NAME_WIDTH).collect(),
            whole(1),
            whole(2),
            whole(3),
            whole(4),
            amount(5),
            amount(6),
            percent(number(7)),
            percent(number(8)),
            amount(9),
            number(10).map(|roas| format!("{roas:.2}")).unwrap_or_default(),
        ]
    }

    fn totals(&self) -> [f64; COLUMNS.len()] {
        let mut totals = [0.0; COLUMNS.len()];
        for row in &self.kpis {
            for (total, cell) in totals.iter_mut().zip(row) {
                *total += cell.as_deref().and_then(|cell| cell.parse::<f64>().ok()).unwrap_or(0.0);
            }
        }
        totals
    }

    fn batch_text(&self) -> String {
        let last = match &self.batch.last {
            Some((run, took, ended)) => {
                let ago = self.elapsed.saturating_sub(*ended);
                format!("run {run} published {} ago, took {:.1} s", seconds(ago), took.as_secs_f64())
            }
            None => "no run yet: every answer is from the stream alone".to_owned(),
        };
        match (&self.batch.failure, self.batch.running) {
            (Some(failure), _) => format!("{last}; the last one failed: {failure}"),
            (None, true) => format!("{last}; one is running"),
            (None, false) => last,
        }
    }
}

/// Lines of aligned columns. The first column is aligned left, the others right.
fn aligned(cells: &[Vec<String>]) -> Vec<String> {
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<width$}", width = widths[0]),
            _ => format!("{cell:>width$}", width = widths[column]),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    cells.iter().map(line).collect()
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn money(value: f64) -> String {
    let cents = (value.abs() * 100.0).round() as u64;
    let sign = if value < 0.0 && cents > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", grouped(cents / 100), cents % 100)
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map(|ratio| format!("{:.2} %", ratio * 100.0)).unwrap_or_default()
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashboard() -> Dashboard {
        let row = |cells: [&str; 11]| cells.map(|cell| (!cell.is_empty()).then(|| cell.to_owned())).to_vec();
        Dashboard {
            lake: "./x".into(),
            currency: "USD".into(),
            elapsed: Duration::from_secs(75),
            sent: 150_000,
            rows: 1_234_567,
            kpis: vec![
                row(["c-1", "12000", "700", "240", "24", "36.500000", "1000.250000", "0.02", "0.1", "1.52", "27.4"]),
                row(["c-2", "10", "9", "0", "0", "0.010000", "0.000000", "0.0", "", "", "0.0"]),
            ],
            names: HashMap::from([("c-1".to_owned(), "Acme Spring Sale".to_owned())]),
            ..Dashboard::default()
        }
    }

    #[test]
    fn the_table_is_aligned_and_adds_up() {
        let lines = dashboard().table(10);
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{lines:#?}");
        assert!(lines[1].starts_with("c-1 Acme Spring Sale") && lines[1].contains("1,000.25"), "{}", lines[1]);
        assert!(
            lines[3].starts_with("total") && lines[3].contains("12,010") && lines[3].contains("36.51"),
            "{}",
            lines[3]
        );
        assert!(dashboard().table(3)[2].contains("1 more"), "{:#?}", dashboard().table(3));
    }

    #[test]
    fn the_screen_fits() {
        assert!(dashboard().lines(12).len() <= 12);
        let line = dashboard().line();
        assert!(line.contains("75 s") && line.contains("impressions 12010") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            ["1.005", "-1234.5", "-0.001"].map(|text| money(text.parse().unwrap())),
            ["1.00", "-1,234.50", "0.00"]
        );
    }
}
