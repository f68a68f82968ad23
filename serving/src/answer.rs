//! Answers: the rows of a question over one state, for one who asks.
//!
//! What somebody may see is a condition ([`Scope`]) that is added to each question here, and
//! nowhere else. Everything in an answer (rows, totals, comparisons, cursors) is made from the rows
//! that are left.

mod delays;
mod invalid;
mod sums;
mod value;

use std::cmp::Ordering;

use adlake_domain::kpi::SUMS;
use adlake_domain::time;
use adlake_lake::LakeError;
use chrono_tz::Tz;
use hashbrown::{HashMap, HashSet};
use serde::Serialize;

pub use self::delays::conversions_by_delay;
pub use self::invalid::{InvalidEvents, invalid_events};
use self::sums::Selector;
pub use self::value::{Value, decimal_text, time_text};
use crate::access::Scope;
use crate::metrics::{Catalogue, Catalogues, Formula};
use crate::question::calendar::{bucket_start, next_bucket};
use crate::question::{Column, Compared, Condition, Dimension, Invalid, Question};
use crate::state::State;
use crate::state::groups::{Coded, Key, TooManyGroups, fits};
use crate::state::names::Names;
use crate::state::reach::{UnionError, Unions};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The question cannot be answered.
    #[error("{}", .0.detail)]
    Invalid(Invalid),
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

impl From<TooManyGroups> for AnswerError {
    fn from(_: TooManyGroups) -> Self {
        let detail = "the answer would take more memory than serve.answer_bytes_max allows: ask for fewer dimensions, \
                      longer buckets, a shorter range, or less by a filter";
        Invalid::new("answer_too_large", "/dimensions", detail).into()
    }
}

impl From<UnionError> for AnswerError {
    fn from(error: UnionError) -> Self {
        match error {
            UnionError::TooMany(too_many) => too_many.into(),
            UnionError::Lake(error) => error.into(),
        }
    }
}

impl From<Invalid> for AnswerError {
    fn from(invalid: Invalid) -> Self {
        AnswerError::Invalid(invalid)
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// From the sums in memory.
    Memory,
    /// From the tables of the lake, which takes longer.
    Lake,
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnswerColumn {
    /// Its name.
    pub name: String,
    /// `time`, `dimension` or `metric`.
    pub role: &'static str,
    /// `time`, `string`, `integer`, `decimal` or `number`.
    #[serde(rename = "type")]
    pub value_type: &'static str,
    /// The unit of a metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    /// Whether its whole numbers may exceed 64 bits.
    #[serde(skip)]
    pub is_wide: bool,
}

/// The rows of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The columns.
    pub columns: Vec<AnswerColumn>,
    /// The rows of this page, in order.
    pub rows: Vec<Vec<Value>>,
    /// The row over everything.
    pub totals: Option<Vec<Value>>,
    /// The period before.
    pub compare: Option<Comparison>,
    /// Where it comes from.
    pub source: Source,
    /// How many rows all pages have.
    pub rows_in_all: usize,
    /// Where the next page begins.
    pub next_offset: Option<usize>,
}

/// The figures of the period before, and of as much of the period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The range before.
    pub range: [String; 2],
    /// The range that it is compared with.
    pub to_date: [String; 2],
    /// For each row of the answer the row of the period before. `None`: it has no such group.
    pub rows: Vec<Option<Vec<Value>>>,
    /// For each row of the answer the figures to date.
    pub current: Vec<Option<Vec<Value>>>,
    /// The row over everything, of the period before.
    pub totals: Option<Vec<Value>>,
    /// The row over everything, to date.
    pub current_totals: Option<Vec<Value>>,
}

/// What answers are made from.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The state.
    pub state: &'a State,
    /// The names of all states.
    pub names: &'a Names,
    /// The metrics.
    pub catalogues: &'a Catalogues,
    /// What those who ask may see.
    pub scope: &'a Scope,
    /// About how many bytes the groups of an answer may take, before it is cut into pages.
    pub bytes_max: usize,
}

/// A group with its figures, or with all its cells.
struct Row {
    key: Key,
    values: Vec<Value>,
}

/// The figures of one range.
struct Figures {
    rows: Vec<Row>,
    totals: Vec<Value>,
}

/// Whether a question is answered from memory.
pub fn is_in_memory(asked: Asked<'_>, question: &Question) -> bool {
    let condition = Condition::All(vec![asked.scope.condition(), question.filter.events.clone()]);
    let sums = [];
    let Asked { state, names, .. } = asked;
    let selector = Selector { state, names, question, condition: &condition, sums: &sums, groups_max: 0, bytes_max: 0 };
    let has_reach = !question.needs_reach(asked.catalogues) || asked.state.reach().is_some();
    has_reach && selector.is_in_memory(question.range.bounds())
}

/// Answers a question, from the row `offset` on.
pub async fn answer(asked: Asked<'_>, question: &Question, offset: usize) -> Result<Answer, AnswerError> {
    let Asked { state, names, catalogues, scope, bytes_max } = asked;
    let range = question.range.bounds();
    // When others have events is theirs to know.
    let own = state.span(&Coded::of(&scope.condition(), names, &state.advertisers));
    let span = own.map_or((0, 0), |(first, last)| (first.max(range.0), (last + 1).min(range.1)));
    if !fits(span, question.grain, question.zone, state.report_zone()) {
        let zones = (question.zone, state.report_zone());
        let detail =
            format!("buckets of {} do not begin with hours of {}, by which events are counted", zones.0, zones.1);
        return Err(Invalid::new("bad_zone", "/time/zone", detail).into());
    }
    let catalogue = catalogues.of(Some(question.model));
    let condition = Condition::All(vec![scope.condition(), question.filter.events.clone()]);
    let stored = stored_sums(catalogue, question);
    let groups_max = bytes_max / group_bytes(question, stored.len());
    let selector = Selector { state, names, question, condition: &condition, sums: &stored, groups_max, bytes_max };
    let maker = Maker { selector, catalogue, needs_reach: question.needs_reach(catalogues) };
    let (mut figures, source) = maker.figures(range, true).await?;
    let is_one_row = question.grain.is_none() && question.dimensions.is_empty();
    if is_one_row && figures.rows.is_empty() && question.filter.rows.is_empty() {
        figures.rows.push(Row { key: (0, [0; Dimension::ALL.len()]), values: maker.empty_values() });
    }
    if question.fill {
        fill(&mut figures.rows, question, own, maker.empty_values())?;
    }
    let mut rows: Vec<Row> = figures.rows.into_iter().map(|row| maker.shown_row(row)).collect();
    order(&mut rows, question);
    let rows_in_all = rows.len();
    let page: Vec<Row> = rows.into_iter().skip(offset).take(question.limit).collect();
    let compare = match question.compare {
        None => None,
        Some(how) => {
            // Sketches are kept by the day, so reach is compared up to the last whole one.
            let now = match maker.needs_reach {
                true => time::day_start(state.as_of, state.report_zone()),
                false => time::hour_start(state.as_of, state.report_zone()),
            };
            match question.range.compared(how, question.zone, now) {
                None => None,
                Some(compared) => Some(maker.compare(&page, &figures.totals, range, compared).await?),
            }
        }
    };
    let next = offset + page.len();
    Ok(Answer {
        columns: columns(question, catalogue),
        rows: page.into_iter().map(|row| row.values).collect(),
        totals: question.totals.then(|| maker.shown_totals(figures.totals)),
        compare,
        source,
        rows_in_all,
        next_offset: (next < rows_in_all).then_some(next),
    })
}

/// About how many bytes a group takes: its key and its sums, and the cells that are made of them.
fn group_bytes(question: &Question, sums: usize) -> usize {
    let cells = 1 + question.dimensions.len() + question.metrics.len();
    4 * size_of::<Key>() + sums * size_of::<i128>() + cells * size_of::<Value>()
}

/// `events`, by which groups exist, and the stored sums that metrics and conditions need.
fn stored_sums(catalogue: &Catalogue, question: &Question) -> Vec<usize> {
    let mut stored = vec![0];
    for place in question.metrics.iter().chain(question.filter.rows.iter().map(|row| &row.metric)) {
        for input in catalogue.inputs(*place) {
            if !stored.contains(&input) {
                stored.push(input);
            }
        }
    }
    stored
}

fn columns(question: &Question, catalogue: &Catalogue) -> Vec<AnswerColumn> {
    let column = |name: &str, role, value_type, unit| {
        let (name, is_wide) = (name.to_owned(), false);
        AnswerColumn { name, role, value_type, unit, is_wide }
    };
    let time = question.grain.map(|_| column("time", "time", "time", None));
    let dimensions = question.dimensions.iter().map(|dimension| column(dimension.name(), "dimension", "string", None));
    let metrics = question.metrics.iter().map(|place| {
        let metric = catalogue.at(*place);
        let is_wide = matches!(metric.formula, Formula::Sum { stored, .. } if SUMS[stored].wide);
        AnswerColumn { is_wide, ..column(&metric.name, "metric", metric.value_type(), Some(metric.unit)) }
    });
    time.into_iter().chain(dimensions).chain(metrics).collect()
}

struct Maker<'a> {
    selector: Selector<'a>,
    catalogue: &'a Catalogue,
    needs_reach: bool,
}

impl Maker<'_> {
    fn question(&self) -> &Question {
        self.selector.question
    }

    /// The figures of a range. With `conditions`, only the rows for which those on metrics hold.
    async fn figures(&self, range: (i64, i64), conditions: bool) -> Result<(Figures, Source), AnswerError> {
        let (groups, mut source) = self.selector.groups(range).await?;
        let mut unions = Unions::new(0);
        if self.needs_reach {
            let from;
            (unions, from) = self.selector.unions(range).await?;
            source = if from == Source::Lake { from } else { source };
        }
        // Conditions on reach need the numbers of the groups first, and those of all that are shown
        // need the conditions.
        let exists = |sums: &[i128]| sums.first().is_some_and(|events| *events > 0);
        let estimates = unions.estimates()?;
        let users = |key: &Key| estimates.get(key).copied().unwrap_or_default();
        let is_shown = |key: &Key, sums: &[i128]| {
            let holds = |condition: &crate::question::filter::Comparison| {
                let value = self.value(condition.metric, sums, users(key));
                let ordering = value.compare_number(condition.billionths, condition.number);
                ordering.is_some_and(|ordering| condition.operator.holds(ordering))
            };
            exists(sums) && (!conditions || self.question().filter.rows.iter().all(holds))
        };
        let shown: HashSet<Key> =
            groups.iter().filter(|(key, sums)| is_shown(key, sums)).map(|(key, _)| *key).collect();
        let together = unions.together(|key| shown.contains(key))?;
        let mut rows = Vec::with_capacity(shown.len());
        let mut totals = vec![0; self.selector.sums.len()];
        for (key, sums) in groups.iter().filter(|(key, _)| shown.contains(*key)) {
            rows.push(Row { key: *key, values: self.values(sums, users(key)) });
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let totals = self.values(&totals, together);
        Ok((Figures { rows, totals }, source))
    }

    fn empty_values(&self) -> Vec<Value> {
        self.values(&vec![0; self.selector.sums.len()], 0)
    }

    fn values(&self, sums: &[i128], users: u64) -> Vec<Value> {
        self.question().metrics.iter().map(|place| self.value(*place, sums, users)).collect()
    }

    /// The value of a metric of a group.
    fn value(&self, place: usize, sums: &[i128], users: u64) -> Value {
        let sum = |stored: usize| {
            let place = self.selector.sums.iter().position(|sum| *sum == stored);
            place.map_or(0, |place| sums[place])
        };
        let ratio = |numerator: f64, denominator: f64, factor: f64| {
            if denominator == 0.0 { Value::Null } else { Value::Number(numerator / denominator * factor) }
        };
        let number = |place: usize| match self.catalogue.at(place).formula {
            // As DataFusion makes a double of a decimal.
            Formula::Sum { stored, scale } => sum(stored) as f64 / 10_f64.powi(scale.into()),
            _ => 0.0,
        };
        match self.catalogue.at(place).formula {
            Formula::Sum { stored, scale: 0 } => Value::Integer(sum(stored)),
            Formula::Sum { stored, scale } => Value::Decimal(sum(stored), scale),
            Formula::Ratio { numerator, denominator, factor } => ratio(number(numerator), number(denominator), factor),
            Formula::Reach => Value::Integer(users.into()),
            Formula::Frequency { impressions } => ratio(number(impressions), users as f64, 1.0),
        }
    }

    fn shown_row(&self, row: Row) -> Row {
        Row { values: self.shown(&row.key, row.values), key: row.key }
    }

    /// A row as it is shown: its bucket, its dimensions, its values.
    fn shown(&self, (bucket, codes): &Key, values: Vec<Value>) -> Vec<Value> {
        let time = self.question().grain.map(|_| Value::Time(*bucket));
        let dimensions = self.question().dimensions.iter().zip(codes);
        let dimensions = dimensions
            .map(|(dimension, code)| self.selector.names.value(*dimension, *code).map_or(Value::Null, Value::Text));
        time.into_iter().chain(dimensions).chain(values).collect()
    }

    fn shown_totals(&self, values: Vec<Value>) -> Vec<Value> {
        let nulls = usize::from(self.question().grain.is_some()) + self.question().dimensions.len();
        std::iter::repeat_n(Value::Null, nulls).chain(values).collect()
    }

    async fn compare(
        &self,
        page: &[Row],
        totals: &[Value],
        range: (i64, i64),
        compared: Compared,
    ) -> Result<Comparison, AnswerError> {
        let zone: Tz = self.question().zone;
        let (before, _) = self.figures(compared.before, false).await?;
        let is_cut = compared.to_date != range;
        let current = if is_cut { Some(self.figures(compared.to_date, false).await?.0) } else { None };
        let by_key = |figures: &Figures| -> HashMap<Key, Vec<Value>> {
            figures.rows.iter().map(|row| (row.key, row.values.clone())).collect()
        };
        let earlier = |bucket: i64| match self.question().grain {
            None => Some(bucket),
            Some(grain) => Some(bucket_start(compared.shift.before(bucket, zone)?, grain, zone)),
        };
        let then = by_key(&before);
        let rows = page.iter().map(|row| {
            let key = (earlier(row.key.0)?, row.key.1);
            Some(self.shown(&key, then.get(&key)?.clone()))
        });
        let now = current.as_ref().map(by_key);
        let to_date = page.iter().map(|row| match &now {
            None => Some(row.values.clone()),
            Some(now) => Some(self.shown(&row.key, now.get(&row.key)?.clone())),
        });
        let asked = self.question().totals;
        let current_totals = current.as_ref().map_or(totals, |current| current.totals.as_slice());
        let text = |(from, to): (i64, i64)| [time_text(from), time_text(to)];
        Ok(Comparison {
            range: text(compared.before),
            to_date: text(compared.to_date),
            rows: rows.collect(),
            current: to_date.collect(),
            totals: asked.then(|| self.shown_totals(before.totals)),
            current_totals: asked.then(|| self.shown_totals(current_totals.to_vec())),
        })
    }
}

/// Adds the buckets of the range that have no events.
fn fill(rows: &mut Vec<Row>, question: &Question, span: Option<(i64, i64)>, empty: Vec<Value>) -> Result<(), Invalid> {
    let Some(grain) = question.grain else { return Ok(()) };
    let from = question.range.from.or(span.map(|(first, _)| first));
    let to = question.range.to.or(span.map(|(_, last)| last + 1));
    let (Some(from), Some(to)) = (from, to) else { return Ok(()) };
    let there: HashSet<i64> = rows.iter().map(|row| row.key.0).collect();
    let mut bucket = Some(bucket_start(from, grain, question.zone));
    while let Some(start) = bucket.filter(|start| *start < to) {
        if !there.contains(&start) {
            rows.push(Row { key: (start, [0; Dimension::ALL.len()]), values: empty.clone() });
        }
        if rows.len() > FILLED_MAX {
            let detail = format!("the range has more than {FILLED_MAX} buckets: choose a longer grain");
            return Err(Invalid::new("bad_range", "/time/fill", detail));
        }
        bucket = next_bucket(start, grain, question.zone);
    }
    Ok(())
}

/// The most buckets that are filled.
const FILLED_MAX: usize = 100_000;

/// Orders shown rows as the question says, then by time and dimensions.
fn order(rows: &mut [Row], question: &Question) {
    let first_dimension = usize::from(question.grain.is_some());
    let first_metric = first_dimension + question.dimensions.len();
    let place = |column: Column| match column {
        Column::Time => 0,
        Column::Dimension(place) => first_dimension + place,
        Column::Metric(place) => first_metric + place,
    };
    rows.sort_by(|a, b| {
        for order in &question.order {
            // Rows without a value are last in both directions.
            let ordering = match (&a.values[place(order.column)], &b.values[place(order.column)]) {
                (Value::Null, Value::Null) => Ordering::Equal,
                (Value::Null, _) => Ordering::Greater,
                (_, Value::Null) => Ordering::Less,
                (a, b) if order.descends => b.compare(a),
                (a, b) => a.compare(b),
            };
            if ordering.is_ne() {
                return ordering;
            }
        }
        let keys = a.values[..first_metric].iter().zip(&b.values[..first_metric]);
        keys.map(|(a, b)| a.compare(b)).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
    });
}
