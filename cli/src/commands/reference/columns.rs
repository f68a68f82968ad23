//! The columns of a table of reference data: the names that they are found under, and values of exactly their types.
//!
//! What does not fit is refused, never made NULL: a rate that is lost turns revenue into dead letters.

use std::sync::Arc;

use adlake_lake::ReferenceKind;
use anyhow::{Context, Result, bail};
use arrow::array::{
    ArrayRef, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch, StringBuilder,
};
use arrow::compute::kernels::cast_utils::parse_decimal;
use arrow::datatypes::{DataType, Decimal128Type, SchemaRef};
use chrono::{Datelike, NaiveDate};

/// Days from 0001-01-01 to 1970-01-01.
const EPOCH: i32 = 719_163;

/// The columns that a file is read for.
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

    /// The place of the column that a file calls `name`.
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

    /// Which column of the table each of the file's is; an error where one of the key is missing. Others are left out.
    pub fn places<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Result<Vec<Option<usize>>> {
        let places: Vec<Option<usize>> = names.clone().map(|name| self.find(name)).collect();
        for key in self.kind.key() {
            let place = self.schema.index_of(key).ok();
            if !places.contains(&place) {
                let there = names.collect::<Vec<_>>().join(", ");
                bail!("there is no column {key}, only {there}");
            }
        }
        let mut seen = places.iter().flatten().collect::<Vec<_>>();
        seen.sort_unstable();
        if let Some(twice) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two columns are the table's {}", self.schema.field(*twice[0]).name());
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
        Rows { columns: self.clone(), builders, rows: 0 }
    }
}

/// Rows being read.
#[derive(Debug)]
pub struct Rows {
    columns: Columns,
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
    /// Adds a row; `cells` are by the table's columns, and `None` is NULL.
    pub fn push(&mut self, cells: &[Option<String>]) -> Result<()> {
        for (place, builder) in self.builders.iter_mut().enumerate() {
            let field = self.columns.schema.field(place);
            let cell = cells.get(place).and_then(Option::as_deref);
            if cell.is_none() && self.columns.kind.key().contains(&field.name().as_str()) {
                bail!("column {}: a value is needed", field.name());
            }
            let text = match (cell, field.name().as_str()) {
                (Some(code), "currency") => Some(code.trim().to_ascii_uppercase()),
                (cell, _) => cell.map(str::to_owned),
            };
            builder.push(text.as_deref()).with_context(|| format!("column {}", field.name()))?;
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
    fn push(&mut self, text: Option<&str>) -> Result<()> {
        match self {
            Builder::Text(builder) => builder.append_option(text),
            Builder::Int64(builder) => builder.append_option(text.map(whole).transpose()?),
            Builder::Float64(builder) => {
                let value = text.map(|text| match text.trim().parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(value),
                    _ => Err(anyhow::anyhow!("{text:?} is not a number")),
                });
                builder.append_option(value.transpose()?);
            }
            Builder::Date(builder) => builder.append_option(text.map(day).transpose()?),
            Builder::Decimal(builder, precision, scale) => {
                let value = text.map(|text| {
                    parse_decimal::<Decimal128Type>(text.trim(), *precision, *scale)
                        .map_err(|_| anyhow::anyhow!("{text:?} is not a decimal number"))
                });
                builder.append_option(value.transpose()?);
            }
        }
        Ok(())
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

fn whole(text: &str) -> Result<i64> {
    let digits = text.trim();
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    digits.parse().map_err(|_| anyhow::anyhow!("{text:?} is not a whole number"))
}

/// A date, or the date of a time.
fn day(text: &str) -> Result<i32> {
    let date = text.trim();
    let date = date.get(..10).filter(|_| matches!(date.as_bytes().get(10), Some(b'T' | b' '))).unwrap_or(date);
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d")
        .map_err(|_| anyhow::anyhow!("{text:?} is not a date such as 2025-01-31"))?;
    Ok(date.num_days_from_ce() - EPOCH)
}
