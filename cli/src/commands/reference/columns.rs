//! The columns of a table of reference data: the names by which they are found, and values of
//! exactly their types.
//!
//! A value that does not fit is refused, never replaced by NULL: a lost rate turns revenue into
//! dead letters. A value that no reference data can mean is refused too: an empty key, a rate that
//! is not above 0, a currency without exactly three letters, a campaign that ends before it begins.

use std::sync::Arc;

use adlake_lake::ReferenceKind;
use anyhow::{Context, Result, bail};
use arrow::array::{
    ArrayRef, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch, StringBuilder,
};
use arrow::compute::kernels::cast_utils::parse_decimal;
use arrow::datatypes::{DataType, Decimal128Type, SchemaRef};
use chrono::{Datelike, NaiveDate};

/// The smallest and the largest rate, in units of 10^-12. A rate outside these bounds is a mistake.
const RATE_BOUNDS: (i128, i128) = (1_000, 1_000_000_000_000_000_000_000_000);
/// The largest amount, in micros.
const MICROS_MAX: i64 = 10_000_000_000_000_000;
/// The first and the last year for which a rate is accepted.
const YEARS: std::ops::RangeInclusive<i32> = 1990..=2199;

/// Days from 0001-01-01 to 1970-01-01.
const EPOCH: i32 = 719_163;

/// The columns of the table that a file is loaded into.
#[derive(Debug, Clone)]
pub struct Columns {
    kind: ReferenceKind,
    schema: SchemaRef,
}

impl Columns {
    /// The columns of a table.
    pub fn new(kind: ReferenceKind, schema: SchemaRef) -> Columns {
        Columns { kind, schema }
    }

    /// The schema of the rows that are read.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The index of the column that a file calls `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        let name: String = name.trim().to_ascii_lowercase().replace([' ', '-'], "_");
        let meant = match (self.kind, name.as_str()) {
            (ReferenceKind::Creatives, "creative_id" | "id" | "ad_id") => "ad_creative_id",
            (ReferenceKind::Creatives, "ad_campaign_id" | "campaign") => "campaign_id",
            (ReferenceKind::Campaigns, "id" | "ad_campaign_id") => "campaign_id",
            (ReferenceKind::Campaigns, "advertiser") => "advertiser_id",
            (ReferenceKind::Campaigns, "campaign_name") => "name",
            (ReferenceKind::FxRates, "date") => "day",
            (ReferenceKind::FxRates, "currency_code") => "currency",
            (_, name) => name,
        };
        self.schema.index_of(meant).ok()
    }

    /// The columns that a file must have, and whose cells must have a value.
    pub fn required(&self) -> Vec<&'static str> {
        let rate: &[&str] = if self.kind == ReferenceKind::FxRates { &["rate"] } else { &[] };
        self.kind.key().iter().chain(rate).copied().collect()
    }

    /// The names of the table's columns, for messages.
    pub fn names(&self) -> String {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The kind of reference data.
    pub fn kind(&self) -> ReferenceKind {
        self.kind
    }

    /// Maps each column of the file to a column of the table; a column that the table does not have
    /// maps to `None`. Fails if a required column is missing.
    pub fn places<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Result<Vec<Option<usize>>> {
        let places: Vec<Option<usize>> = names.clone().map(|name| self.find(name)).collect();
        for required in self.required() {
            let place = self.schema.index_of(required).ok();
            if !places.contains(&place) {
                let there = names.collect::<Vec<_>>().join(", ");
                bail!("the required column {required} is missing; the file has {there}");
            }
        }
        let mut seen = places.iter().flatten().collect::<Vec<_>>();
        seen.sort_unstable();
        if let Some(twice) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!(
                "two columns of the file mean the table's column {}: remove one",
                self.schema.field(*twice[0]).name()
            );
        }
        Ok(places)
    }

    /// An empty batch to fill.
    pub fn builder(&self) -> Rows {
        let builder = |data_type: &DataType| match data_type {
            DataType::Int64 => Builder::Int64(Int64Builder::new()),
            DataType::Float64 => Builder::Float64(Float64Builder::new()),
            DataType::Date32 => Builder::Date(Date32Builder::new()),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(data_type.clone());
                Builder::Decimal(builder, *precision, *scale)
            }
            _ => Builder::Text(StringBuilder::new()),
        };
        let builders = self.schema.fields().iter().map(|field| builder(field.data_type())).collect();
        Rows { columns: self.clone(), required: self.required(), builders, rows: 0 }
    }
}

/// Rows being read.
#[derive(Debug)]
pub struct Rows {
    columns: Columns,
    required: Vec<&'static str>,
    builders: Vec<Builder>,
    rows: usize,
}

#[derive(Debug)]
enum Builder {
    Text(StringBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Date(Date32Builder),
    Decimal(Decimal128Builder, u8, i8),
}

impl Rows {
    /// Adds a row. `cells` are in the order of the table's columns; `None` is NULL.
    pub fn push(&mut self, cells: &[Option<String>]) -> Result<()> {
        let mut start = None;
        for (place, builder) in self.builders.iter_mut().enumerate() {
            let field = self.columns.schema.field(place);
            let name = field.name().as_str();
            let cell = cells.get(place).and_then(Option::as_deref);
            if self.required.contains(&name) && cell.is_none_or(|cell| cell.trim().is_empty()) {
                bail!("column {name}: the value is missing");
            }
            let text = match (cell, name) {
                (Some(code), "currency") => Some(currency(code).with_context(|| format!("column {name}"))?),
                (cell, _) => cell.map(str::to_owned),
            };
            let number = builder.push(text.as_deref()).with_context(|| format!("column {name}"))?;
            let Some(number) = number else { continue };
            check(self.columns.kind, name, number).with_context(|| format!("column {name}"))?;
            match name {
                "start_date" => start = Some(number),
                "end_date" if start.is_some_and(|start| number < start) => {
                    bail!("column end_date: the campaign ends before it begins");
                }
                _ => {}
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// The rows so far as a batch.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        self.rows = 0;
        let columns = self.builders.iter_mut().map(Builder::finish).collect();
        Ok(RecordBatch::try_new(self.columns.schema.clone(), columns)?)
    }
}

impl Builder {
    /// Adds a value. Returns it if it is a whole number, a decimal (its digits) or a day (since
    /// 1970).
    fn push(&mut self, text: Option<&str>) -> Result<Option<i128>> {
        Ok(match self {
            Builder::Text(builder) => {
                builder.append_option(text);
                None
            }
            Builder::Int64(builder) => {
                let value = text.map(whole).transpose()?;
                builder.append_option(value);
                value.map(i128::from)
            }
            Builder::Float64(builder) => {
                let value = text.map(|text| match text.trim().parse::<f64>() {
                    Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
                    _ => Err(anyhow::anyhow!("{text:?} is not a number that is 0 or above")),
                });
                builder.append_option(value.transpose()?);
                None
            }
            Builder::Date(builder) => {
                let value = text.map(day).transpose()?;
                builder.append_option(value);
                value.map(i128::from)
            }
            Builder::Decimal(builder, precision, scale) => {
                let value = text.map(|text| {
                    parse_decimal::<Decimal128Type>(text.trim(), *precision, *scale)
                        .map_err(|_| anyhow::anyhow!("{text:?} is not a decimal number"))
                });
                let value = value.transpose()?;
                builder.append_option(value);
                value
            }
        })
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Text(builder) => Arc::new(builder.finish()),
            Builder::Int64(builder) => Arc::new(builder.finish()),
            Builder::Float64(builder) => Arc::new(builder.finish()),
            Builder::Date(builder) => Arc::new(builder.finish()),
            Builder::Decimal(builder, _, _) => Arc::new(builder.finish()),
        }
    }
}

/// Refuses a number that makes no sense. `value` is a whole number, the digits of a decimal, or
/// days since 1970.
fn check(kind: ReferenceKind, name: &str, value: i128) -> Result<()> {
    match (kind, name) {
        (ReferenceKind::FxRates, "rate") if value <= 0 => bail!("a rate must be above 0"),
        (ReferenceKind::FxRates, "rate") if value < RATE_BOUNDS.0 => bail!("a rate must be at least 0.000000001"),
        (ReferenceKind::FxRates, "rate") if value > RATE_BOUNDS.1 => bail!("a rate must be at most 1000000000000"),
        (ReferenceKind::FxRates, "day") => {
            let day = i32::try_from(value).ok().and_then(|days| NaiveDate::from_num_days_from_ce_opt(days + EPOCH));
            match day {
                Some(day) if YEARS.contains(&day.year()) => Ok(()),
                _ => bail!("a day must lie between the years {} and {}", YEARS.start(), YEARS.end()),
            }
        }
        (ReferenceKind::Campaigns, "budget_micros" | "target_cpa_micros")
            if !(0..=i128::from(MICROS_MAX)).contains(&value) =>
        {
            bail!("an amount must lie between 0 and {MICROS_MAX} micros")
        }
        _ => Ok(()),
    }
}

/// A code of three letters, in upper case.
fn currency(text: &str) -> Result<String> {
    let code = text.trim().to_ascii_uppercase();
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        bail!("{text:?} is not a currency code of three letters such as EUR");
    }
    Ok(code)
}

fn whole(text: &str) -> Result<i64> {
    let digits = text.trim();
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    digits.parse().map_err(|_| anyhow::anyhow!("{text:?} is not a whole number"))
}

/// Parses a date, or the date of a time.
fn day(text: &str) -> Result<i32> {
    let date = text.trim();
    let date = date.get(..10).filter(|_| matches!(date.as_bytes().get(10), Some(b'T' | b' '))).unwrap_or(date);
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d")
        .map_err(|_| anyhow::anyhow!("{text:?} is not a date such as 2025-01-31"))?;
    Ok(date.num_days_from_ce() - EPOCH)
}
