//! Attribution over a stream of events ordered by user. Applies the rules of
//! [`adlake_domain::attribution`] to one user after the other.
//!
//! The input has the columns of [`input_columns`], with all rows of a user together. The output is
//! rows of `batch/attributions`, for the interactions that are `wanted`. The other interactions
//! only serve as touchpoints. In memory are one user's events and one batch.

use std::sync::Arc;

use adlake_domain::attribution::{self, Attributed, Kind, Rules, Touchpoint};
use adlake_domain::batch_schema::attributions_schema;
use adlake_domain::credit;
use arrow::array::{
    Array, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, Date32Builder, Int8Array, Int64Array,
    Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int8Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The number that the plans give to a kind of event.
pub(crate) const IMPRESSION: i8 = 0;
/// See [`IMPRESSION`].
pub(crate) const CLICK: i8 = 1;
/// See [`IMPRESSION`].
pub(crate) const CONVERSION: i8 = 2;
/// See [`IMPRESSION`].
pub(crate) const REFUND: i8 = 3;

/// The columns of the input, in order.
pub(crate) fn input_columns() -> [&'static str; 20] {
    [
        "user_id",
        "kind",
        "event_time",
        "id",
        "event_key",
        "campaign_id",
        "scope_advertiser_id",
        "impression_id",
        "is_primary",
        "wanted",
        "value_micros",
        "conversion_type",
        "ad_creative_id",
        "website",
        "country",
        "region",
        "device_type",
        "interaction_type",
        "order_id",
        "is_valid",
    ]
}

/// Attributes a stream ordered by `user_id`.
pub(crate) fn attribute(input: SendableRecordBatchStream, rules: Rules) -> SendableRecordBatchStream {
    let schema = attributions_schema();
    let state = State { input, pending: Vec::new(), done: false, rules };
    let batches = stream::try_unfold(state, |mut state| async move {
        loop {
            if state.done {
                return Ok(None);
            }
            match state.input.next().await.transpose()? {
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => {
                    if let Some(output) = state.push(batch)? {
                        return Ok(Some((output, state)));
                    }
                }
                None => {
                    state.done = true;
                    let rest = std::mem::take(&mut state.pending);
                    if !rest.is_empty() {
                        let output = attribute_users(&rest, &state.rules)?;
                        return Ok(Some((output, state)));
                    }
                }
            }
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

struct State {
    input: SendableRecordBatchStream,
    /// Rows of a user whose last row may not have arrived yet.
    pending: Vec<RecordBatch>,
    done: bool,
    rules: Rules,
}

impl State {
    /// Takes rows. Returns the attributions of all users that are complete: all but the last.
    fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        let users = text(&batch, 0)?;
        let last = users.value(users.len() - 1);
        // The rows of the last user begin here.
        let begin = (0..users.len()).rev().find(|&row| users.value(row) != last).map_or(0, |row| row + 1);
        let same_user = match self.pending.first() {
            Some(pending) => begin == 0 && text(pending, 0)?.value(0) == last,
            None => begin == 0,
        };
        if same_user {
            self.pending.push(batch);
            return Ok(None);
        }
        let mut complete = std::mem::take(&mut self.pending);
        if begin > 0 {
            complete.push(batch.slice(0, begin));
        }
        self.pending.push(batch.slice(begin, batch.num_rows() - begin));
        attribute_users(&complete, &self.rules).map(Some)
    }
}

fn attribute_users(batches: &[RecordBatch], rules: &Rules) -> Result<RecordBatch> {
    let Some(first) = batches.first() else { return Ok(RecordBatch::new_empty(attributions_schema())) };
    let rows = concat_batches(&first.schema(), batches)?;
    let columns = Columns::new(&rows)?;
    let mut output = Output::new(attributions_schema());
    let mut begin = 0;
    while begin < rows.num_rows() {
        let user = columns.user.value(begin);
        let end = (begin..rows.num_rows()).find(|&row| columns.user.value(row) != user).unwrap_or(rows.num_rows());
        let events: Vec<attribution::Event<'_>> = (begin..end).map(|row| columns.event(row)).collect();
        for attributed in attribution::attribute(&events, rules) {
            if columns.wanted.value(begin + attributed.interaction) {
                output.push(&columns, begin, &attributed)?;
            }
        }
        begin = end;
    }
    output.finish()
}

struct Columns<'a> {
    user: &'a StringArray,
    kind: &'a Int8Array,
    time: &'a TimestampMicrosecondArray,
    id: &'a StringArray,
    key: &'a BinaryArray,
    campaign: &'a StringArray,
    advertiser: &'a StringArray,
    impression_id: &'a StringArray,
    primary: &'a BooleanArray,
    wanted: &'a BooleanArray,
    value: &'a Int64Array,
    conversion_type: &'a StringArray,
    /// Creative, website, country, region, device type.
    dimensions: [&'a StringArray; 5],
    interaction_type: &'a StringArray,
    order_id: &'a StringArray,
    valid: &'a BooleanArray,
}

fn text(batch: &RecordBatch, column: usize) -> Result<&StringArray> {
    let wrong = || internal_datafusion_err!("column {column} of the events is {}", batch.column(column).data_type());
    batch.column(column).as_string_opt::<i32>().ok_or_else(wrong)
}

fn optional(array: &StringArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}

impl<'a> Columns<'a> {
    fn new(rows: &'a RecordBatch) -> Result<Columns<'a>> {
        let wrong = |column: usize| {
            internal_datafusion_err!("column {column} of the events is {}", rows.column(column).data_type())
        };
        let boolean = |column: usize| rows.column(column).as_boolean_opt().ok_or_else(|| wrong(column));
        Ok(Columns {
            user: text(rows, 0)?,
            kind: rows.column(1).as_primitive_opt::<Int8Type>().ok_or_else(|| wrong(1))?,
            time: rows.column(2).as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| wrong(2))?,
            id: text(rows, 3)?,
            key: rows.column(4).as_binary_opt::<i32>().ok_or_else(|| wrong(4))?,
            campaign: text(rows, 5)?,
            advertiser: text(rows, 6)?,
            impression_id: text(rows, 7)?,
            primary: boolean(8)?,
            wanted: boolean(9)?,
            value: rows.column(10).as_primitive_opt::<Int64Type>().ok_or_else(|| wrong(10))?,
            conversion_type: text(rows, 11)?,
            dimensions: [text(rows, 12)?, text(rows, 13)?, text(rows, 14)?, text(rows, 15)?, text(rows, 16)?],
            interaction_type: text(rows, 17)?,
            order_id: text(rows, 18)?,
            valid: boolean(19)?,
        })
    }

    fn event(&self, row: usize) -> attribution::Event<'a> {
        attribution::Event {
            kind: match self.kind.value(row) {
                IMPRESSION => Kind::Impression,
                CLICK => Kind::Click,
                REFUND => Kind::Refund,
                _ => Kind::Conversion,
            },
            time: self.time.value(row),
            id: self.id.value(row),
            key: self.key.value(row),
            campaign: optional(self.campaign, row),
            advertiser: optional(self.advertiser, row),
            impression_id: optional(self.impression_id, row),
            order_id: optional(self.order_id, row),
            conversion_type: optional(self.conversion_type, row).unwrap_or_default(),
            primary: self.primary.value(row),
            valid: self.valid.value(row),
        }
    }

    /// The dimensions that a row has itself.
    fn own(&self, row: usize) -> Dimensions<'a> {
        self.dimensions.map(|column| optional(column, row))
    }

    /// The dimensions of a touchpoint. What it lacks comes from its impression.
    fn touch(&self, row: usize, impression: Option<usize>) -> Dimensions<'a> {
        match impression {
            Some(impression) => inherit(self.own(row), self.own(impression)),
            None => self.own(row),
        }
    }
}

/// A touchpoint by its row, with its dimensions.
struct Touched<'a> {
    row: usize,
    dimensions: Dimensions<'a>,
}

impl<'a> Touched<'a> {
    fn new(columns: &Columns<'a>, begin: usize, touchpoint: &Touchpoint) -> Touched<'a> {
        let row = begin + touchpoint.event;
        let impression = touchpoint.impression.map(|impression| begin + impression);
        Touched { row, dimensions: columns.touch(row, impression) }
    }
}

/// Creative, website, country, region, device type.
type Dimensions<'a> = [Option<&'a str>; 5];

/// The indexes of country and region among the dimensions.
const COUNTRY: usize = 2;
const REGION: usize = 3;

/// The dimensions of an event. What it lacks comes from its touchpoint.
fn inherit<'a>(own: Dimensions<'a>, touch: Dimensions<'a>) -> Dimensions<'a> {
    std::array::from_fn(|place| match own[place] {
        None if place != REGION || attribution::takes_region(own[COUNTRY], touch[COUNTRY]) => touch[place],
        own => own,
    })
}

struct Output {
    schema: SchemaRef,
    keys: [BinaryBuilder; 2],
    user: StringBuilder,
    interaction: [StringBuilder; 3],
    interaction_time: TimestampMicrosecondBuilder,
    interaction_campaign: StringBuilder,
    touchpoint: [StringBuilder; 2],
    touchpoint_time: TimestampMicrosecondBuilder,
    touchpoint_campaign: StringBuilder,
    /// Whether it is the last touch, whether the interaction inherits from the row, and whether the
    /// order is primary.
    flags: [BooleanBuilder; 3],
    micros_between: Int64Builder,
    touch: [StringBuilder; 5],
    credited: [StringBuilder; 6],
    credits: [Int64Builder; 5],
    revenues: [Int64Builder; 5],
    invalid: StringBuilder,
    date: Date32Builder,
}

impl Output {
    fn new(schema: SchemaRef) -> Output {
        let time = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Output {
            schema,
            keys: Default::default(),
            user: StringBuilder::new(),
            interaction: Default::default(),
            interaction_time: time(),
            interaction_campaign: StringBuilder::new(),
            touchpoint: Default::default(),
            touchpoint_time: time(),
            touchpoint_campaign: StringBuilder::new(),
            flags: Default::default(),
            micros_between: Int64Builder::new(),
            touch: Default::default(),
            credited: Default::default(),
            credits: Default::default(),
            revenues: Default::default(),
            invalid: StringBuilder::new(),
            date: Date32Builder::new(),
        }
    }

    fn push(&mut self, columns: &Columns<'_>, begin: usize, attributed: &Attributed) -> Result<()> {
        let row = begin + attributed.interaction;
        let order = attributed.order.map(|order| begin + order);
        let touchpoints: Vec<Touched<'_>> =
            attributed.touchpoints.iter().map(|touchpoint| Touched::new(columns, begin, touchpoint)).collect();
        let credits: Vec<[i64; 5]> = attributed.touchpoints.iter().map(|touchpoint| touchpoint.credits).collect();
        let value = if columns.value.is_valid(row) { columns.value.value(row) } else { 0 };
        let revenues = credit::revenues(value, &credits);
        let last_touch = touchpoints.last().map_or([None; 5], |touched| touched.dimensions);
        // What the interaction lacks comes from its last touchpoint. What a refund lacks comes from
        // its order, which may have it from its own last touchpoint. An invalid refund lacks it.
        let is_invalid = attributed.invalid.is_some() || !columns.valid.value(row);
        let (inherited, campaign) = match order {
            None => (last_touch, None),
            Some(_) if is_invalid => ([None; 5], None),
            Some(order) => (inherit(columns.own(order), last_touch), optional(columns.campaign, order)),
        };
        let seen = inherit(columns.own(row), inherited);
        let campaign = optional(columns.campaign, row).or(campaign);
        if let Some(order) = order {
            self.interaction(columns, row);
            self.keys[1].append_null();
            self.touchpoint.iter_mut().for_each(StringBuilder::append_null);
            self.touchpoint_time.append_null();
            self.touchpoint_campaign.append_null();
            let flags = [Some(false), Some(true), Some(columns.primary.value(order))];
            self.flags.iter_mut().zip(flags).for_each(|(builder, flag)| builder.append_option(flag));
            self.micros_between.append_null();
            self.dimensions(inherited, campaign, seen);
            self.invalid.append_option(attributed.invalid);
            self.credits.iter_mut().chain(&mut self.revenues).for_each(|builder| builder.append_value(0));
        }
        for (place, touched) in touchpoints.iter().enumerate() {
            let event = touched.row;
            let is_last = place + 1 == touchpoints.len();
            self.interaction(columns, row);
            self.keys[1].append_value(columns.key.value(event));
            self.touchpoint[0].append_value(columns.id.value(event));
            self.touchpoint[1].append_value(if columns.kind.value(event) == CLICK { "click" } else { "impression" });
            self.touchpoint_time.append_value(columns.time.value(event));
            self.touchpoint_campaign.append_option(optional(columns.campaign, event));
            let is_primary = order.map(|order| columns.primary.value(order));
            let flags = [Some(is_last), Some(is_last && order.is_none()), is_primary];
            self.flags.iter_mut().zip(flags).for_each(|(builder, flag)| builder.append_option(flag));
            self.micros_between.append_value(columns.time.value(row).saturating_sub(columns.time.value(event)));
            let touch = touched.dimensions;
            let credited = [touch[0].or(seen[0]), touch[1].or(seen[1]), seen[2], seen[3], seen[4]];
            self.dimensions(touch, optional(columns.campaign, event).or(campaign), credited);
            self.invalid.append_option(attributed.invalid);
            for model in 0..5 {
                self.credits[model].append_value(if order.is_some() { 0 } else { credits[place][model] });
                self.revenues[model].append_value(revenues[place][model]);
            }
        }
        Ok(())
    }

    /// The columns of the interaction.
    fn interaction(&mut self, columns: &Columns<'_>, row: usize) {
        self.keys[0].append_value(columns.key.value(row));
        self.user.append_value(columns.user.value(row));
        self.interaction[0].append_value(columns.id.value(row));
        self.interaction[1].append_option(optional(columns.interaction_type, row));
        self.interaction[2].append_option(optional(columns.conversion_type, row));
        self.interaction_time.append_value(columns.time.value(row));
        self.interaction_campaign.append_option(optional(columns.campaign, row));
        let days = columns.time.value(row).div_euclid(MICROS_PER_DAY);
        self.date.append_value(i32::try_from(days).unwrap_or(i32::MAX));
    }

    /// The dimensions of the touchpoint, and those under which the credit is counted.
    fn dimensions(&mut self, touch: Dimensions<'_>, campaign: Option<&str>, credited: Dimensions<'_>) {
        self.touch.iter_mut().zip(touch).for_each(|(builder, value)| builder.append_option(value));
        let credited = [campaign].into_iter().chain(credited);
        self.credited.iter_mut().zip(credited).for_each(|(builder, value)| builder.append_option(value));
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let [interaction_key, touchpoint_key] = &mut self.keys;
        let mut columns: Vec<Arc<dyn Array>> = vec![Arc::new(interaction_key.finish()), Arc::new(self.user.finish())];
        columns.extend(self.interaction.iter_mut().map(|builder| Arc::new(builder.finish()) as Arc<dyn Array>));
        columns.push(Arc::new(self.interaction_time.finish()));
        columns.push(Arc::new(self.interaction_campaign.finish()));
        columns.push(Arc::new(touchpoint_key.finish()));
        columns.extend(self.touchpoint.iter_mut().map(|builder| Arc::new(builder.finish()) as Arc<dyn Array>));
        columns.push(Arc::new(self.touchpoint_time.finish()));
        columns.push(Arc::new(self.touchpoint_campaign.finish()));
        columns.extend(self.flags.iter_mut().map(|builder| Arc::new(builder.finish()) as Arc<dyn Array>));
        columns.push(Arc::new(self.micros_between.finish()));
        let texts = self.touch.iter_mut().chain(self.credited.iter_mut());
        columns.extend(texts.map(|builder| Arc::new(builder.finish()) as Arc<dyn Array>));
        let numbers = self.credits.iter_mut().chain(self.revenues.iter_mut());
        columns.extend(numbers.map(|builder| Arc::new(builder.finish()) as Arc<dyn Array>));
        columns.push(Arc::new(self.invalid.finish()));
        columns.push(Arc::new(self.date.finish()));
        RecordBatch::try_new(self.schema, columns).map_err(DataFusionError::from)
    }
}
