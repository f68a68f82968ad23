//! The transitions in the lake: `batch/alarms`, and the position of each sink in its log.
//!
//! A commit of transitions advances the stream `adlake:alarms` from the number of the last
//! transition that the server knows. If another server has committed in between, nothing of it is
//! in ([`Committed::Superseded`]), and the server reads the table anew. The position of a sink is a
//! stream too: the number of the last transition that the sink was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use adlake_domain::batch_schema::alarms_schema;
use adlake_domain::{catalogue, time};
use adlake_lake::session::SessionSettings;
use adlake_lake::{Advance, Appended, Appender, Lake, LakeError, WriterSettings};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::prelude::{col, lit};

use super::engine::{Alarm, Row, RowState};
use super::rule::Severity;

/// The stream of the evaluator.
const STREAM: &str = "adlake:alarms";

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is in.
    In,
    /// It is not: another server has committed.
    Superseded,
}

/// Reads and writes `batch/alarms`.
#[derive(Debug)]
pub struct Journal {
    lake: Lake,
    session: SessionSettings,
    appender: Appender,
    /// The version of the table that was read last.
    read_at: Option<u64>,
}

impl Journal {
    /// Opens the table, which is created if it is not there.
    pub async fn open(lake: &Lake, session: &SessionSettings) -> Result<Journal, LakeError> {
        let appender = lake.appender(catalogue::ALARMS).await?;
        Ok(Journal { lake: lake.clone(), session: session.clone(), appender, read_at: None })
    }

    /// All rows, and the position of the evaluator's stream.
    pub async fn read(&mut self) -> Result<Vec<Row>, LakeError> {
        self.appender.refresh().await?;
        let version = self.appender.version();
        let context = self.session.context()?;
        let table = self.lake.provider(catalogue::ALARMS, version).await?;
        let batches = context.read_table(table)?.collect().await?;
        let mut rows = Vec::new();
        for batch in &batches {
            rows.extend(rows_of(batch)?);
        }
        self.read_at = Some(version);
        Ok(rows)
    }

    /// Whether anybody else has written to the table since it was read.
    pub async fn has_changed(&mut self) -> Result<bool, LakeError> {
        self.appender.refresh().await?;
        Ok(self.read_at != Some(self.appender.version()))
    }

    /// Commits transitions. `from` is the number of the last one before them.
    pub async fn commit(&mut self, rows: &[Row], from: i64) -> Result<Committed, LakeError> {
        let Some(to) = rows.iter().filter_map(|row| row.sequence).max() else { return Ok(Committed::In) };
        let from = (from > 0).then_some(from);
        let before = self.appender.version();
        let advance = Advance { application: STREAM.into(), from, to };
        let files = self.write(rows).await?;
        match self.appender.commit(files, vec![advance]).await? {
            Appended::Committed { version } => {
                self.note_own(before, version);
                Ok(Committed::In)
            }
            Appended::Superseded { .. } => Ok(Committed::Superseded),
        }
    }

    /// Adds what a person has done: a silence or an acknowledgement. It has an id of its own, so it
    /// means the same if it is there twice.
    pub async fn add(&mut self, row: &Row) -> Result<(), LakeError> {
        let files = self.write(std::slice::from_ref(row)).await?;
        self.appender.commit(files, Vec::new()).await?;
        Ok(())
    }

    /// The position of a sink. `None`: it was never told anything.
    pub async fn position(&mut self, sink: &str) -> Result<Option<i64>, LakeError> {
        self.appender.stored(&application(sink)).await
    }

    /// Advances the position of a sink.
    pub async fn advance(&mut self, sink: &str, from: Option<i64>, to: i64) -> Result<Committed, LakeError> {
        let before = self.appender.version();
        let advance = Advance { application: application(sink), from, to };
        match self.appender.commit(Vec::new(), vec![advance]).await? {
            Appended::Committed { version } => {
                self.note_own(before, version);
                Ok(Committed::In)
            }
            // The answer to an earlier try was lost, and it was in.
            Appended::Superseded { stored } if stored.iter().all(|(_, position)| *position == Some(to)) => {
                Ok(Committed::In)
            }
            Appended::Superseded { .. } => Ok(Committed::Superseded),
        }
    }

    /// What this server has written itself need not be read.
    fn note_own(&mut self, before: u64, version: u64) {
        if self.read_at == Some(before) && version == before + 1 {
            self.read_at = Some(version);
        }
    }

    async fn write(&self, rows: &[Row]) -> Result<Vec<adlake_lake::DataFile>, LakeError> {
        let mut writer = self.appender.writer(&WriterSettings::default());
        writer.write(&batch(rows)?)?;
        writer.finish().await
    }
}

/// The rows since a moment, of a version of the table.
pub async fn since(lake: &Lake, session: &SessionSettings, version: u64, moment: i64) -> Result<Vec<Row>, LakeError> {
    let moment = lit(ScalarValue::TimestampMicrosecond(Some(moment), Some("UTC".into())));
    let table = lake.provider(catalogue::ALARMS, version).await?;
    let batches = session.context()?.read_table(table)?.filter(col("at").gt_eq(moment))?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(rows_of(batch)?);
    }
    Ok(rows)
}

/// The row of a silence.
pub fn silence(
    rule: &str,
    labels: &BTreeMap<String, String>,
    at: i64,
    time: std::time::Duration,
    by: &str,
    why: &str,
) -> Row {
    let group = serde_json::to_string(labels).unwrap_or_else(|_| "{}".into());
    Row {
        rule: rule.to_owned(),
        group: group.into(),
        state: RowState::Silenced,
        id: new_id(),
        why: why.to_owned(),
        until: Some(at.saturating_add(time.as_micros() as i64)),
        ..by_hand(at, by)
    }
}

/// The row of somebody who looks after an alarm.
pub fn acknowledgement(alarm: &Alarm, at: i64, by: &str) -> Row {
    let group = serde_json::to_string(&alarm.group).unwrap_or_else(|_| "{}".into());
    Row {
        rule: alarm.rule.clone(),
        group: group.into(),
        state: RowState::Acked,
        id: alarm.id.clone(),
        severity: alarm.severity,
        ..by_hand(at, by)
    }
}

fn by_hand(at: i64, by: &str) -> Row {
    Row {
        sequence: None,
        at,
        rule: String::new(),
        group: "{}".into(),
        state: RowState::Silenced,
        id: String::new(),
        value: None,
        low: None,
        high: None,
        why: String::new(),
        severity: Severity::Info,
        is_notice: false,
        until: None,
        by: Some(by.to_owned()),
        cause: None,
    }
}

fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn application(sink: &str) -> String {
    format!("adlake:alarms:{sink}")
}

fn batch(rows: &[Row]) -> Result<RecordBatch, LakeError> {
    let texts = |of: fn(&Row) -> Option<&str>| Arc::new(rows.iter().map(of).collect::<StringArray>()) as ArrayRef;
    let numbers = |of: fn(&Row) -> Option<f64>| Arc::new(rows.iter().map(of).collect::<Float64Array>()) as ArrayRef;
    let times = |of: fn(&Row) -> Option<i64>| {
        let times: TimestampMicrosecondArray = rows.iter().map(of).collect();
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    let columns = vec![
        times(|row| Some(row.at)),
        Arc::new(rows.iter().map(|row| row.sequence).collect::<Int64Array>()) as ArrayRef,
        texts(|row| Some(&row.rule)),
        texts(|row| Some(&row.group)),
        texts(|row| Some(row.state.name())),
        texts(|row| Some(&row.id)),
        texts(|row| Some(row.severity.name())),
        numbers(|row| row.value),
        numbers(|row| row.low),
        numbers(|row| row.high),
        texts(|row| Some(&row.why)),
        texts(|row| row.cause.as_deref()),
        Arc::new(rows.iter().map(|row| Some(row.is_notice)).collect::<BooleanArray>()) as ArrayRef,
        times(|row| row.until),
        texts(|row| row.by.as_deref()),
        Arc::new(rows.iter().map(|row| Some(time::event_date(row.at))).collect::<Date32Array>()) as ArrayRef,
    ];
    RecordBatch::try_new(alarms_schema(), columns)
        .map_err(|error| LakeError::Corrupt(format!("{}: {error}", catalogue::ALARMS)))
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, LakeError> {
    let wrong =
        |name: &str| LakeError::Corrupt(format!("{}: column {name} is missing or of a wrong type", catalogue::ALARMS));
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| wrong(name));
    let texts = |name: &str| {
        let column = column(name)?;
        arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).map_err(|_| wrong(name))
    };
    let text = |array: &ArrayRef, row: usize| {
        let texts = array.as_string_opt::<i32>()?;
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    let numbers = |name: &str| column(name)?.as_primitive_opt::<Float64Type>().cloned().ok_or_else(|| wrong(name));
    let times =
        |name: &str| column(name)?.as_primitive_opt::<TimestampMicrosecondType>().cloned().ok_or_else(|| wrong(name));
    let names = ["rule", "alarm_group", "alarm_state", "alarm_id", "severity", "why", "cause", "by_whom"];
    let [rule, group, state, id, severity, why, cause, by] = &names.map(texts);
    let sequences = column("sequence")?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("sequence"))?;
    let notices = column("notice")?.as_boolean_opt().ok_or_else(|| wrong("notice"))?;
    let (at, until) = (times("at")?, times("until")?);
    let [value, low, high] = ["metric_value", "expected_low", "expected_high"].map(numbers);
    let (value, low, high) = (value?, low?, high?);
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let read = |column: &Result<ArrayRef, LakeError>, name: &str| match column {
            Ok(array) => Ok(text(array, row)),
            Err(_) => Err(wrong(name)),
        };
        let number = |array: &Float64Array| array.is_valid(row).then(|| array.value(row));
        let name = read(state, "alarm_state")?.unwrap_or_default();
        // A state of a later version of adlake is not understood, and not guessed.
        let Some(state) = RowState::parse(&name) else {
            tracing::warn!(state = name, "a row of batch/alarms has a state that this version does not know");
            continue;
        };
        rows.push(Row {
            sequence: sequences.is_valid(row).then(|| sequences.value(row)),
            at: at.value(row),
            rule: read(rule, "rule")?.unwrap_or_default(),
            group: read(group, "alarm_group")?.unwrap_or_default().into(),
            state,
            id: read(id, "alarm_id")?.unwrap_or_default(),
            value: number(&value),
            low: number(&low),
            high: number(&high),
            why: read(why, "why")?.unwrap_or_default(),
            severity: read(severity, "severity")?.and_then(|name| Severity::parse(&name)).unwrap_or(Severity::Warning),
            is_notice: notices.is_valid(row) && notices.value(row),
            until: until.is_valid(row).then(|| until.value(row)),
            by: read(by, "by_whom")?,
            cause: read(cause, "cause")?,
        });
    }
    Ok(rows)
}
