//! The report as one HTML page that can be read anywhere and passed on: no script, no font, no
//! picture, nothing that is loaded. Everything that comes from the lake is escaped, and a policy in
//! the page forbids scripts besides.

use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::quality_report::{Decision, Outcome, QualityReport, Status};

const STYLE: &str = include_str!("report.css");

/// The page. `lake` is where the lake is.
pub fn page(report: &QualityReport, lake: &str) -> String {
    let mut page = String::with_capacity(64 << 10);
    let (title, time) = ("Data quality", time_text(report.checked_at));
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}, {time}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         <div class=\"facts\"><span>Lake {}</span><span>{}</span><span>Checked at {time}</span>\
         <span>{:.1} s</span><span>Check {}</span></div>\n",
        escaped(lake),
        report.run.map_or("No batch run yet".to_string(), |run| format!("Batch run {run}")),
        report.elapsed.as_secs_f64(),
        escaped(&report.check_id),
    );
    notice(&mut page, report);
    page.push_str("<div class=\"counts\">\n");
    for (status, label) in [
        (Status::Fail, "failed"),
        (Status::Error, "not evaluated"),
        (Status::Warn, "warnings"),
        (Status::Pass, "passed"),
    ] {
        let (count, class) = (report.count(status), status.name());
        let class = if count > 0 { class } else { "dim" };
        let _ = writeln!(page, "<div class=\"count {class}\"><b>{count}</b>{label}</div>");
    }
    page.push_str("</div>\n");
    for (status, heading) in [(Status::Fail, "Failed"), (Status::Error, "Not evaluated"), (Status::Warn, "Warnings")] {
        let mut outcomes = report.outcomes.iter().filter(|outcome| outcome.status == status).peekable();
        if outcomes.peek().is_some() {
            let _ = writeln!(page, "<section>\n<h2>{heading}</h2>");
            outcomes.for_each(|outcome| article(&mut page, outcome));
            page.push_str("</section>\n");
        }
    }
    passed(&mut page, report);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// What became of the batch run.
fn notice(page: &mut String, report: &QualityReport) {
    let stopping: Vec<String> = report.stopping().into_iter().map(escaped).collect();
    let (class, text) = match report.decision {
        Decision::Refuse => (
            "notice",
            format!("The batch run was <strong>not published</strong>. It is stopped by {}.", stopping.join(", ")),
        ),
        Decision::PublishAnyway => {
            let who = escaped(report.decided_by.as_deref().unwrap_or("unknown"));
            let stopping = stopping.join(", ");
            (
                "notice",
                format!("The batch run was <strong>published anyway</strong>, by {who}, in spite of {stopping}."),
            )
        }
        Decision::Publish => ("notice good", "Nothing stops the batch run from being published.".to_string()),
        Decision::Check if stopping.is_empty() => {
            ("notice good", "Nothing would stop a batch run from being published.".to_string())
        }
        Decision::Check => ("notice", format!("A batch run would not be published: {}.", stopping.join(", "))),
    };
    let _ = writeln!(page, "<p class=\"{class}\">{text}</p>");
}

/// An expectation that is not met.
fn article(page: &mut String, outcome: &Outcome) {
    let status = outcome.status.name();
    let _ = write!(
        page,
        "<article>\n<div class=\"head\"><span class=\"badge {status}\">{status}</span><h3>{}</h3></div>\n",
        escaped(&outcome.expectation)
    );
    if let Some(description) = &outcome.description {
        let _ = writeln!(page, "<p>{}</p>", escaped(description));
    }
    page.push_str("<dl>\n");
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{value}</dd>");
    };
    if !place(outcome).is_empty() {
        fact("Where", &place(outcome));
    }
    fact("Expected", &escaped(&outcome.expected));
    if outcome.status != Status::Error {
        fact("Observed", &observed(outcome));
    }
    if let Some(note) = &outcome.note {
        fact("Note", &escaped(note));
    }
    fact("Severity", outcome.severity.name());
    if let Some(owner) = &outcome.owner {
        fact("Owner", &escaped(owner));
    }
    page.push_str("</dl>\n");
    let examples = &outcome.examples;
    if !examples.rows.is_empty() {
        let count = examples.rows.len();
        let _ = write!(
            page,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Examples\">\n<table>\n\
             <caption>Examples ({count})</caption>\n<thead><tr>"
        );
        examples.columns.iter().for_each(|name| {
            let _ = write!(page, "<th scope=\"col\">{}</th>", escaped(name));
        });
        page.push_str("</tr></thead>\n<tbody>\n");
        for row in &examples.rows {
            page.push_str("<tr>");
            for cell in row {
                let cell = cell.as_deref().map_or("<span class=\"null\">NULL</span>".to_string(), escaped);
                let _ = write!(page, "<td>{cell}</td>");
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody>\n</table>\n</div>\n");
    }
    page.push_str("</article>\n");
}

fn passed(page: &mut String, report: &QualityReport) {
    let mut outcomes = report.outcomes.iter().filter(|outcome| outcome.status == Status::Pass).peekable();
    if outcomes.peek().is_none() {
        return;
    }
    page.push_str(
        "<section>\n<h2>Passed</h2>\n<div class=\"passed\">\n<table>\n<thead><tr><th scope=\"col\">Expectation</th>\
         <th scope=\"col\">Where</th><th scope=\"col\">Expected</th><th scope=\"col\">Observed</th></tr></thead>\n\
         <tbody>\n",
    );
    for outcome in outcomes {
        let note = outcome.note.as_deref().map(|note| format!(" <span class=\"dim\">({})</span>", escaped(note)));
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}{}</td></tr>",
            escaped(&outcome.expectation),
            place(outcome),
            escaped(&outcome.expected),
            observed(outcome),
            note.unwrap_or_default()
        );
    }
    page.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

/// The table, the columns and the condition.
fn place(outcome: &Outcome) -> String {
    let column = outcome.column.as_ref().map(|column| format!(".{}", escaped(column))).unwrap_or_default();
    let filter = outcome.filter.as_ref().map(|filter| format!(" where <code>{}</code>", escaped(filter)));
    match outcome.table.is_empty() {
        true => String::new(),
        false => format!("<code>{}{column}</code>{}", escaped(&outcome.table), filter.unwrap_or_default()),
    }
}

/// What was found, in the unit of the expectation.
pub fn observed(outcome: &Outcome) -> String {
    let (checked, violating) = (grouped(outcome.checked_rows), grouped(outcome.violating_rows));
    let percent = |share: f64| match share * 100.0 {
        percent if percent > 0.0 && percent < 0.01 => "under 0.01%".to_string(),
        percent => format!("{percent:.2}%"),
    };
    match (outcome.kind, outcome.observed) {
        ("row_count", _) => format!("{checked} rows"),
        ("sql", _) => format!("{violating} rows"),
        ("freshness", Some(age)) => {
            let age = std::time::Duration::from_secs(age.max(0.0) as u64);
            format!("{} old", humantime_serde::re::humantime::format_duration(age))
        }
        ("completeness", Some(share)) => format!("{} of {checked} rows have a value", percent(share)),
        ("drift", Some(value)) => {
            let value = format!("{value:.6}");
            let value = value.trim_end_matches('0').trim_end_matches('.');
            format!("{value}, of {checked} rows")
        }
        ("discrepancy", Some(difference)) => {
            format!(
                "{violating} of {checked} groups differ too much; the largest difference is {}",
                percent(difference)
            )
        }
        ("discrepancy", None) | ("drift" | "freshness", None) => format!("nothing, of {checked}"),
        (_, Some(share)) if outcome.violating_rows > 0 => format!("{violating} of {checked} rows ({})", percent(share)),
        _ => format!("{violating} of {checked} rows"),
    }
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A text that means itself in HTML, also in attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // What cannot be seen is shown: control characters, and those that turn the direction.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(safe, "\\u{{{:x}}}", character as u32);
            }
            character if character.is_control() && !matches!(character, '\n' | '\t') => {
                let _ = write!(safe, "\\u{{{:x}}}", character as u32);
            }
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::quality_report::{Examples, Severity};

    fn outcome(status: Status, kind: &'static str) -> Outcome {
        Outcome {
            expectation: "<script>alert(1)</script>".into(),
            kind,
            table: "t".into(),
            column: Some("c".into()),
            filter: Some("a < 'b'".into()),
            severity: Severity::Fail,
            status,
            observed: Some(0.25),
            expected: "x & y".into(),
            checked_rows: 1_234_567,
            violating_rows: 1,
            note: Some("\"quoted\" \u{202e}".into()),
            owner: None,
            description: None,
            examples: Examples {
                columns: vec!["<b>".into()],
                rows: vec![vec![None], vec![Some("<img src=x>".into())]],
            },
            shares: None,
        }
    }

    fn report(decision: Decision, outcomes: Vec<Outcome>) -> QualityReport {
        QualityReport {
            check_id: "id".into(),
            checked_at: DateTime::UNIX_EPOCH,
            run: Some(7),
            decision,
            decided_by: Some("<ann>".into()),
            outcomes,
            elapsed: Duration::from_millis(1500),
        }
    }

    #[test]
    fn nothing_from_the_lake_becomes_markup() {
        let all = vec![outcome(Status::Fail, "range"), outcome(Status::Pass, "range")];
        let page = page(&report(Decision::PublishAnyway, all), "file:///<x>");
        for forbidden in ["<script", "<img", "<b>c", "<ann>", "<x>", "\u{202e}", "http://", "https://", "src=\""] {
            assert!(!page.contains(forbidden), "{forbidden} is in the page");
        }
        for expected in ["by &lt;ann&gt;", "&lt;script&gt;", "&lt;img src=x&gt;", "\\u{202e}", "x &amp; y", "NULL"] {
            assert!(page.contains(expected), "{expected} is not in the page");
        }
    }

    #[test]
    fn the_decision_is_told() {
        let check = |decision, status, expected: &str| {
            let page = page(&report(decision, vec![outcome(status, "range")]), "x");
            assert!(page.contains(expected), "{expected}");
        };
        check(Decision::Refuse, Status::Fail, "<strong>not published</strong>");
        check(Decision::Publish, Status::Pass, "Nothing stops the batch run");
        check(Decision::Check, Status::Pass, "Nothing would stop a batch run");
        check(Decision::Check, Status::Error, "A batch run would not be published");
    }

    #[test]
    fn what_was_observed_has_the_unit_of_the_expectation() {
        let check = |kind, observed_value, expected: &str| {
            let outcome = Outcome { observed: observed_value, ..outcome(Status::Fail, kind) };
            assert_eq!(observed(&outcome), expected);
        };
        check("range", Some(0.25), "1 of 1,234,567 rows (25.00%)");
        check("row_count", Some(1.0), "1,234,567 rows");
        check("freshness", Some(3661.9), "1h 1m 1s old");
        check("completeness", Some(0.00001), "under 0.01% of 1,234,567 rows have a value");
        check("drift", Some(1.5), "1.5, of 1,234,567 rows");
        check("discrepancy", Some(0.5), "1 of 1,234,567 groups differ too much; the largest difference is 50.00%");
    }
}
