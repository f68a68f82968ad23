//! What the doctor has found, and how it is told.

use serde::Serialize;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    Configuration,
    Store,
    Clock,
    Tables,
    Kafka,
    Registry,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// adlake works, but somebody should know.
    Warning,
    /// adlake, or this part of it, cannot work.
    Error,
}

/// What was found about one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    pub area: Area,
    /// A folder, a table, a topic, a configuration key.
    pub subject: String,
    pub detail: String,
    /// What to do. Absent if nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub fn ok(area: Area, subject: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, area, subject: subject.into(), detail: detail.into(), remedy: None }
    }

    pub fn warning(
        area: Area,
        subject: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { level: Level::Warning, remedy: Some(remedy.into()), ..Finding::ok(area, subject, detail) }
    }

    pub fn error(
        area: Area,
        subject: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { level: Level::Error, remedy: Some(remedy.into()), ..Finding::ok(area, subject, detail) }
    }
}

/// The findings as text, a line each, and one more where something is to be done.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (level, area) = match finding.level {
            Level::Ok => ("ok", finding.area),
            Level::Warning => ("warning", finding.area),
            Level::Error => ("ERROR", finding.area),
        };
        let area = format!("{area:?}").to_lowercase();
        text.push_str(&format!("{level:<8} {area:<14} {}: {}\n", finding.subject, finding.detail));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:<8} {:<14} -> {remedy}\n", "", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_with_what_to_do() {
        let findings = [
            Finding::ok(Area::Store, "raw", "may be read"),
            Finding::error(Area::Kafka, "topic t", "is not there", "create it"),
        ];
        let expected = "ok       store          raw: may be read\n\
                        ERROR    kafka          topic t: is not there\n\
                        \x20                       -> create it\n";
        assert_eq!(text(&findings), expected);
        let json = serde_json::to_value(&findings).unwrap();
        assert_eq!(
            json[0],
            serde_json::json!({
                "level": "ok", "area": "store", "subject": "raw", "detail": "may be read",
            })
        );
        assert_eq!(json[1]["remedy"], "create it");
    }
}
