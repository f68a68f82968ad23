//! From a question to groups of sums: from memory where the cubes know the dimensions, else from
//! the lake.

use adlake_domain::time;
use adlake_lake::LakeError;
use adlake_lake::views::sums::{Bucket, Grouping, Part, Sketches as LakeSketches};
use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::prelude::{Expr, col, lit};
use futures::StreamExt;

use super::{AnswerError, Source};
use crate::question::{Condition, Dimension, Grain, Question};
use crate::state::cube::{self, Rows};
use crate::state::groups::{Coded, Groups, Selection};
use crate::state::names::Names;
use crate::state::reach::{Reach, Sketches, Unions};
use crate::state::{Pair, State};

/// What a question selects, whatever its range.
pub struct Selector<'a> {
    pub state: &'a State,
    pub names: &'a Names,
    pub question: &'a Question,
    /// The condition of the question and of those who ask.
    pub condition: &'a Condition,
    /// The stored sums that are needed.
    pub sums: &'a [usize],
    /// The most groups.
    pub groups_max: usize,
    /// The most bytes that its sketches may take.
    pub bytes_max: usize,
}

impl Selector<'_> {
    fn selection<'a>(&'a self, condition: &'a Coded, range: (i64, i64)) -> Selection<'a> {
        Selection {
            dimensions: &self.question.dimensions,
            sums: self.sums,
            condition,
            range,
            grain: self.question.grain,
            zone: self.question.zone,
            advertisers: &self.state.advertisers,
        }
    }

    /// The buckets that answer the question in a range: whole days of the report zone, or hours.
    fn bucket(&self, (from, to): (i64, i64)) -> Bucket {
        let zone = self.state.report_zone();
        let is_day = |end: i64| end == i64::MIN || end == i64::MAX || time::day_start(end, zone) == end;
        let by_days = match self.question.grain {
            Some(Grain::Hour) => false,
            Some(_) => self.question.zone == zone,
            None => true,
        };
        if by_days && is_day(from) && is_day(to) { Bucket::Day } else { Bucket::Hour }
    }

    fn cubes(&self, bucket: Bucket) -> Option<Pair<'_>> {
        let mut needed = self.condition.dimensions();
        needed.extend(&self.question.dimensions);
        self.state.cubes(&needed, bucket)
    }

    /// Whether the groups of a range are made from memory.
    pub fn is_in_memory(&self, range: (i64, i64)) -> bool {
        self.cubes(self.bucket(range)).is_some()
    }

    /// The groups of a range, and where they come from.
    pub async fn groups(&self, range: (i64, i64)) -> Result<(Groups, Source), AnswerError> {
        let coded = Coded::of(self.condition, self.names, &self.state.advertisers);
        let selection = self.selection(&coded, range);
        let mut groups = Groups::new(self.sums.len(), self.groups_max);
        let bucket = self.bucket(range);
        if let Some(cubes) = self.cubes(bucket) {
            cubes.into_iter().try_for_each(|cube| cube.select(&selection, &mut groups))?;
            return Ok((groups, Source::Memory));
        }
        self.add_from_lake(&selection, bucket, range, &mut groups).await?;
        Ok((groups, Source::Lake))
    }

    async fn add_from_lake(
        &self,
        selection: &Selection<'_>,
        bucket: Bucket,
        range: (i64, i64),
        groups: &mut Groups,
    ) -> Result<(), AnswerError> {
        let mut stored: Vec<Dimension> = Vec::new();
        for dimension in &self.question.dimensions {
            if !stored.contains(&dimension.stored()) {
                stored.push(dimension.stored());
            }
        }
        let names: Vec<&str> = stored.iter().map(|dimension| dimension.name()).collect();
        let sums: Vec<&str> = self.sums.iter().map(|sum| adlake_domain::kpi::SUMS[*sum].column).collect();
        let condition = expression(self.condition, &|dimension| col(dimension.name()), self.names, self.state);
        let condition = condition.and(within("hour", range));
        let wanted = Grouping {
            part: Part::Merged,
            bucket: self.question.grain.map(|_| bucket),
            dimensions: &names,
            sums: &sums,
            condition: Some(condition),
        };
        let mut rows = self.state.views.sums(&wanted).await?;
        while let Some(batch) = rows.next().await.transpose().map_err(LakeError::from)? {
            self.add(&batch, &stored, selection, groups)?;
        }
        Ok(())
    }

    fn add(
        &self,
        batch: &RecordBatch,
        stored: &[Dimension],
        selection: &Selection<'_>,
        groups: &mut Groups,
    ) -> Result<(), AnswerError> {
        let rows = Rows::of(batch, stored, self.names)?;
        let sums = self.sums.iter().map(|sum| cube::column(batch, *sum)).collect::<Result<Vec<_>, _>>()?;
        let place = |wanted: &Dimension| stored.iter().position(|dimension| *dimension == wanted.stored());
        let places: Vec<usize> = selection.dimensions.iter().filter_map(place).collect();
        for row in 0..batch.num_rows() {
            let bucket = selection.bucket(rows.times[row]);
            let key = selection.key(bucket, places.iter().map(|place| rows.codes[*place][row]));
            for (into, column) in groups.at(key)?.iter_mut().zip(&sums) {
                *into += column[row];
            }
        }
        Ok(())
    }

    /// The sketches of a range.
    pub async fn unions(&self, range: (i64, i64)) -> Result<(Unions, Source), AnswerError> {
        let coded = Coded::of(self.condition, self.names, &self.state.advertisers);
        let selection = self.selection(&coded, range);
        let mut unions = Unions::new(self.bytes_max);
        if let Some(reach) = self.state.reach() {
            reach.select(&selection, &mut unions)?;
            return Ok((unions, Source::Memory));
        }
        let mut rows = self.state.views.sketches(LakeSketches::Merged).await?;
        while let Some(batch) = rows.next().await.transpose().map_err(LakeError::from)? {
            let mut sketches = Sketches::default();
            sketches.add(&batch, self.names)?;
            Reach { added: sketches, ..Reach::default() }.select(&selection, &mut unions)?;
        }
        Ok((unions, Source::Lake))
    }
}

/// The condition that a time is in a range. Dates exclude partitions.
pub fn within(column: &str, (from, to): (i64, i64)) -> Expr {
    let at = |micros: i64| lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
    let day = |micros: i64| lit(ScalarValue::Date32(Some(time::event_date(micros))));
    let mut condition = lit(true);
    if from > i64::MIN {
        condition = condition.and(col(column).gt_eq(at(from))).and(col("event_date").gt_eq(day(from)));
    }
    if to < i64::MAX {
        condition = condition.and(col(column).lt(at(to))).and(col("event_date").lt_eq(day(to - 1)));
    }
    condition
}

/// A condition over columns that `column` names for the stored dimensions. It is never NULL.
pub fn expression(condition: &Condition, column: &dyn Fn(Dimension) -> Expr, names: &Names, state: &State) -> Expr {
    let each = |part: &Condition| expression(part, column, names, state);
    match condition {
        Condition::All(parts) => parts.iter().map(each).fold(lit(true), Expr::and),
        Condition::Any(parts) => parts.iter().map(each).fold(lit(false), Expr::or),
        Condition::Not(part) => !each(part),
        Condition::In(Dimension::Advertiser, _) => {
            let coded = Coded::of(condition, names, &state.advertisers);
            campaigns(&coded, column, names)
        }
        Condition::In(dimension, values) => one_of(column(*dimension), values.iter().map(Option::as_deref)),
    }
}

/// The condition on campaigns that one on advertisers becomes.
fn campaigns(coded: &Coded, column: &dyn Fn(Dimension) -> Expr, names: &Names) -> Expr {
    let each = |part: &Coded| campaigns(part, column, names);
    match coded {
        Coded::Not(part) => !each(part),
        Coded::In(dimension, codes) => {
            let values: Vec<_> = codes.iter().map(|code| names.value(*dimension, *code)).collect();
            one_of(column(*dimension), values.iter().map(Option::as_deref))
        }
        Coded::All(parts) => parts.iter().map(each).fold(lit(true), Expr::and),
        Coded::Any(parts) => parts.iter().map(each).fold(lit(false), Expr::or),
    }
}

fn one_of<'a>(column: Expr, values: impl Iterator<Item = Option<&'a str>> + Clone) -> Expr {
    let has_unknown = values.clone().any(|value| value.is_none());
    let known: Vec<Expr> = values.flatten().map(lit).collect();
    let known = match known.is_empty() {
        true => lit(false),
        false => column.clone().is_not_null().and(column.clone().in_list(known, false)),
    };
    if has_unknown { column.is_null().or(known) } else { known }
}
