//! The SQL functions that the views use.
//!
//! The functions of [`Functions::register`] depend on the meaning and on the reference data of one
//! manifest. The functions of [`register_public`] are part of the SQL surface: `reach(sketch)`,
//! `reach_union(sketch)`, `micros(number)`, `nanos(number)`.

use std::sync::Arc;

use adlake_domain::batch_schema::wide;
use adlake_domain::event::EventKind;
use adlake_domain::identity::{self, Identified, Owner};
use adlake_domain::settings::{InteractionType, Meaning};
use adlake_domain::{country, device, reach, schema, time};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int64Array, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{
    Accumulator, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, create_udaf,
    create_udf,
};
use datafusion::prelude::SessionContext;
use hashbrown::{HashMap, HashSet};

use super::arguments::{binaries, strings, value};
use super::bid_events::BidEvents;
use super::content_order::ContentOrder;
use super::invalid;

/// What the views' functions depend on.
#[derive(Debug, Clone)]
pub struct Functions {
    meaning: Meaning,
    null_values: Arc<HashSet<String>>,
    advertisers: Arc<HashMap<String, String>>,
}

impl Functions {
    /// The functions for a meaning and the advertisers of the campaigns.
    pub fn new(meaning: &Meaning, advertisers: Arc<HashMap<String, String>>) -> Functions {
        let null_values: Arc<HashSet<String>> = Arc::new(meaning.identity.null_values.iter().cloned().collect());
        let known = advertisers.iter().filter(|(_, advertiser)| !null_values.contains(*advertiser));
        let advertisers = Arc::new(known.map(|(campaign, id)| (campaign.clone(), id.clone())).collect());
        Functions { meaning: meaning.clone(), null_values, advertisers }
    }

    /// Registers them in a session.
    pub fn register(&self, context: &SessionContext) {
        let null_values = self.null_values.clone();
        context.register_udf(text_function("known", move |text| {
            (!null_values.contains(text)).then_some(std::borrow::Cow::Borrowed(text))
        }));
        context.register_udf(text_function("country_alpha2", |text| {
            country::normalise(text).map(|code| std::borrow::Cow::Owned(code.as_str().to_string()))
        }));
        context.register_udf(text_function("device_word", device::normalise_device_type));
        let advertisers = self.advertisers.clone();
        context.register_udf(text_function("advertiser_of", move |campaign| {
            advertisers.get(campaign).map(|id| std::borrow::Cow::Owned(id.clone()))
        }));
        let types = self.meaning.conversions.types();
        context.register_udf(create_udf(
            "interaction_type",
            vec![DataType::Utf8],
            DataType::Utf8,
            Volatility::Immutable,
            Arc::new(move |arguments: &[ColumnarValue]| {
                let arrays = ColumnarValue::values_to_arrays(arguments)?;
                let sent = strings(&arrays[0])?;
                let name = |row| match types.of(value(sent, row).unwrap_or_default()) {
                    InteractionType::Click => "click",
                    InteractionType::Conversion { .. } => "conversion",
                    InteractionType::Refund => "refund",
                };
                Ok(ColumnarValue::Array(Arc::new(StringArray::from_iter_values((0..sent.len()).map(name)))))
            }),
        ));
        let types = self.meaning.conversions.types();
        context.register_udf(text_predicate("is_primary", move |sent| {
            types.of(sent) == InteractionType::Conversion { is_primary: true }
        }));
        self.register_keys(context);
        invalid::register(context, &self.meaning.invalid);
        let zone = self.meaning.report.time_zone;
        context.register_udf(time_function("report_hour", move |micros| time::hour_start(micros, zone)));
        context.register_udf(time_function("report_day", move |micros| time::day_start(micros, zone)));
        context.register_udf(ScalarUDF::new_from_impl(ContentOrder::default()));
        context.register_udf(create_udf(
            "key_prefix",
            vec![DataType::Binary],
            DataType::Int64,
            Volatility::Immutable,
            Arc::new(|arguments: &[ColumnarValue]| {
                let arrays = ColumnarValue::values_to_arrays(arguments)?;
                let keys = binaries(&arrays[0])?;
                let prefixes: Int64Array = keys.iter().map(|key| key.map(identity::key_prefix)).collect();
                Ok(ColumnarValue::Array(Arc::new(prefixes)))
            }),
        ));
        context.register_udf(ScalarUDF::new_from_impl(BidEvents::new(self.null_values.clone())));
        context.register_udaf(sketch_aggregate("reach_sketch", DataType::Utf8));
        register_public(context);
    }

    fn register_keys(&self, context: &SessionContext) {
        let null_values = self.null_values.clone();
        context.register_udf(create_udf(
            "impression_key",
            vec![DataType::Utf8, DataType::Binary],
            DataType::Binary,
            Volatility::Immutable,
            Arc::new(move |arguments: &[ColumnarValue]| {
                let arrays = ColumnarValue::values_to_arrays(arguments)?;
                let (ids, hashes) = (strings(&arrays[0])?, binaries(&arrays[1])?);
                let mut keys = BinaryBuilder::with_capacity(ids.len(), ids.len() * identity::KEY_BYTES);
                let mut scratch = Vec::new();
                for row in 0..ids.len() {
                    match value(ids, row).filter(|id| !null_values.contains(*id)) {
                        Some(id) => keys.append_value(identity::key_of_id(EventKind::Impression, id, &mut scratch)),
                        None => keys
                            .append_value(identity::key(EventKind::Impression, Identified::Content(hashes.value(row)))),
                    }
                }
                Ok(ColumnarValue::Array(Arc::new(keys.finish())))
            }),
        ));
        let null_values = self.null_values.clone();
        let advertisers = self.advertisers.clone();
        let interaction_types = self.meaning.conversions.types();
        context.register_udf(create_udf(
            "interaction_key",
            vec![DataType::Utf8, DataType::Utf8, DataType::Utf8, DataType::Utf8, DataType::Binary],
            DataType::Binary,
            Volatility::Immutable,
            Arc::new(move |arguments: &[ColumnarValue]| {
                let arrays = ColumnarValue::values_to_arrays(arguments)?;
                let [types, orders, events, campaigns] =
                    [strings(&arrays[0])?, strings(&arrays[1])?, strings(&arrays[2])?, strings(&arrays[3])?];
                let hashes = binaries(&arrays[4])?;
                let known = |column: &'_ StringArray, row| {
                    // The closure cannot name the lifetime of the column, so it returns whether the
                    // id is known and not the id.
                    value(column, row).is_some_and(|id| !null_values.contains(id))
                };
                let mut keys = BinaryBuilder::with_capacity(types.len(), types.len() * identity::KEY_BYTES);
                for row in 0..types.len() {
                    let conversion_type = value(types, row).unwrap_or_default();
                    // A refund's parts have an event id each, and the order in common.
                    let is_part =
                        || known(events, row) && interaction_types.of(conversion_type) == InteractionType::Refund;
                    let identified = if known(orders, row) && !is_part() {
                        let owner = if !known(campaigns, row) {
                            Owner::Unknown
                        } else {
                            let campaign = campaigns.value(row);
                            match advertisers.get(campaign) {
                                Some(advertiser) => Owner::Advertiser(advertiser),
                                None => Owner::Campaign(campaign),
                            }
                        };
                        Identified::Order { conversion_type, order_id: orders.value(row), owner }
                    } else if known(events, row) {
                        Identified::Event { conversion_type, event_id: events.value(row) }
                    } else {
                        Identified::Content(hashes.value(row))
                    };
                    keys.append_value(identity::key(EventKind::Interaction, identified));
                }
                Ok(ColumnarValue::Array(Arc::new(keys.finish())))
            }),
        ));
    }
}

/// Registers the functions of the SQL surface in a session.
pub fn register_public(context: &SessionContext) {
    context.register_udaf(create_udaf(
        "reach",
        vec![DataType::Binary],
        Arc::new(DataType::Int64),
        Volatility::Immutable,
        Arc::new(|_| {
            Ok(Box::new(SketchAccumulator { sketch: reach::Sketch::default(), input: Input::Sketch, count: true }))
        }),
        Arc::new(vec![DataType::Binary]),
    ));
    context.register_udaf(sketch_aggregate("reach_union", DataType::Binary));
    context.register_udf(ScalarUDF::new_from_impl(Scaled::new("micros", 6)));
    context.register_udf(ScalarUDF::new_from_impl(Scaled::new("nanos", 9)));
}

/// A function from text to text. NULL stays NULL.
fn text_function(
    name: &str,
    map: impl for<'a> Fn(&'a str) -> Option<std::borrow::Cow<'a, str>> + Send + Sync + 'static,
) -> ScalarUDF {
    create_udf(
        name,
        vec![DataType::Utf8],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let texts = strings(&arrays[0])?;
            let mut mapped = StringBuilder::with_capacity(texts.len(), texts.values().len());
            for row in 0..texts.len() {
                mapped.append_option(value(texts, row).and_then(&map));
            }
            Ok(ColumnarValue::Array(Arc::new(mapped.finish())))
        }),
    )
}

/// A predicate on text. NULL is false.
fn text_predicate(name: &str, holds: impl Fn(&str) -> bool + Send + Sync + 'static) -> ScalarUDF {
    create_udf(
        name,
        vec![DataType::Utf8],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let texts = strings(&arrays[0])?;
            let found: BooleanArray = (0..texts.len()).map(|row| Some(value(texts, row).is_some_and(&holds))).collect();
            Ok(ColumnarValue::Array(Arc::new(found)))
        }),
    )
}

fn time_function(name: &str, map: impl Fn(i64) -> i64 + Send + Sync + 'static) -> ScalarUDF {
    create_udf(
        name,
        vec![schema::timestamp()],
        schema::timestamp(),
        Volatility::Immutable,
        Arc::new(move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let times = arrays[0]
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or_else(|| exec_datafusion_err!("expected a time, found {}", arrays[0].data_type()))?;
            let mapped: TimestampMicrosecondArray = times.unary(&map);
            Ok(ColumnarValue::Array(Arc::new(mapped.with_timezone("UTC"))))
        }),
    )
}

/// `micros(number)`, `nanos(number)`: an integer in units of 10^-scale, as a decimal. The digits
/// stay the same. Nothing is computed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Scaled {
    name: &'static str,
    scale: i8,
    signature: Signature,
}

impl Scaled {
    fn new(name: &'static str, scale: i8) -> Scaled {
        Scaled { name, scale, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Scaled {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [DataType::Null] => Ok(vec![wide()]),
            [number] if number.is_integer() => Ok(vec![wide()]),
            [DataType::Decimal32(_, 0) | DataType::Decimal64(_, 0) | DataType::Decimal128(_, 0)] => Ok(vec![wide()]),
            other => plan_err!("{}() takes one whole number, not {other:?}", self.name),
        }
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(38, self.scale))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let numbers = arrays[0]
            .as_primitive_opt::<Decimal128Type>()
            .ok_or_else(|| exec_datafusion_err!("expected a whole number, found {}", arrays[0].data_type()))?;
        // A sum of 39 digits is an error. It is never cut to other digits.
        numbers.validate_decimal_precision(38)?;
        let decimals = numbers.clone().with_precision_and_scale(38, self.scale)?;
        Ok(ColumnarValue::Array(Arc::new(decimals)))
    }
}

fn sketch_aggregate(name: &str, input_type: DataType) -> datafusion::logical_expr::AggregateUDF {
    let input = if input_type == DataType::Utf8 { Input::User } else { Input::Sketch };
    create_udaf(
        name,
        vec![input_type],
        Arc::new(DataType::Binary),
        Volatility::Immutable,
        Arc::new(move |_| Ok(Box::new(SketchAccumulator { sketch: reach::Sketch::default(), input, count: false }))),
        Arc::new(vec![DataType::Binary]),
    )
}

#[derive(Debug, Clone, Copy)]
enum Input {
    User,
    Sketch,
}

#[derive(Debug)]
struct SketchAccumulator {
    sketch: reach::Sketch,
    input: Input,
    /// Whether the result is the number of users instead of the sketch.
    count: bool,
}

impl SketchAccumulator {
    fn union(&mut self, sketches: &ArrayRef) -> Result<()> {
        for sketch in binaries(sketches)?.iter().flatten() {
            self.sketch.union(sketch).map_err(|error| DataFusionError::External(Box::new(error)))?;
        }
        Ok(())
    }
}

impl Accumulator for SketchAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match self.input {
            Input::Sketch => self.union(&values[0]),
            Input::User => {
                strings(&values[0])?.iter().flatten().for_each(|user| self.sketch.insert(user));
                Ok(())
            }
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let bytes = self.sketch.to_bytes();
        if !self.count {
            return Ok(ScalarValue::Binary(Some(bytes)));
        }
        let users = reach::estimate(&bytes).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(ScalarValue::Int64(Some(users as i64)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sketch.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.sketch.to_bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.union(&states[0])
    }
}
