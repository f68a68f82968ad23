//! Reference data: creatives and their campaigns, campaigns and their advertisers, exchange rates.

use std::sync::Arc;

use adlake_domain::catalogue;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type};
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use crate::error::LakeError;
use crate::storage::Lake;
use crate::write::WriterSettings;

/// A creative.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Creative {
    /// The campaign that it belongs to.
    pub campaign_id: Option<String>,
}

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Campaign {
    /// The advertiser that it belongs to.
    pub advertiser_id: Option<String>,
}

/// Reference data in memory.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    /// By `ad_creative_id`.
    pub creatives: HashMap<String, Creative>,
    /// By `campaign_id`.
    pub campaigns: HashMap<String, Campaign>,
    /// By UTC day (days since the epoch) and currency (upper case): units of the account currency
    /// for one unit, times 10^12.
    pub rates: HashMap<(i32, String), i128>,
    /// The versions at which existing tables were read.
    pub versions: std::collections::BTreeMap<String, u64>,
}

impl Reference {
    /// Advertisers by campaign.
    pub fn advertisers(&self) -> Arc<HashMap<String, String>> {
        let known =
            self.campaigns.iter().filter_map(|(id, campaign)| Some((id.clone(), campaign.advertiser_id.clone()?)));
        Arc::new(known.collect())
    }
}

/// A table of reference data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceKind {
    /// `ref/creatives`.
    Creatives,
    /// `ref/campaigns`.
    Campaigns,
    /// `ref/fx_rates`.
    FxRates,
}

impl ReferenceKind {
    /// The table's name.
    pub fn table(self) -> &'static str {
        match self {
            ReferenceKind::Creatives => catalogue::CREATIVES,
            ReferenceKind::Campaigns => catalogue::CAMPAIGNS,
            ReferenceKind::FxRates => catalogue::FX_RATES,
        }
    }

    /// The columns that identify a row. None of them may be NULL.
    pub fn key(self) -> &'static [&'static str] {
        match self {
            ReferenceKind::Creatives => &["ad_creative_id"],
            ReferenceKind::Campaigns => &["campaign_id"],
            ReferenceKind::FxRates => &["day", "currency"],
        }
    }
}

/// Whether rows stay that are not in the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadMode {
    /// The table holds the loaded rows and nothing else.
    Replace,
    /// Rows with other keys stay.
    Upsert,
}

/// The result of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Loaded rows, counting the last of each key.
    pub rows: usize,
    /// Rows in the table after the load.
    pub total: usize,
    /// The table's version.
    pub version: u64,
}

impl Lake {
    /// All reference data at its newest versions.
    pub fn reference(&self) -> BoxFuture<'_, Result<Reference, LakeError>> {
        // The boxed future is compiled in this crate, and not again in every program that awaits
        // it.
        Box::pin(self.retry(move || self.read_reference()))
    }

    async fn read_reference(&self) -> Result<Reference, LakeError> {
        let context = SessionContext::new();
        let mut reference = Reference::default();
        for kind in [ReferenceKind::Creatives, ReferenceKind::Campaigns, ReferenceKind::FxRates] {
            let Some(version) = self.newest_version(kind.table()).await? else { continue };
            let rows = self.reference_rows(&context, kind, version).await?;
            reference.versions.insert(kind.table().to_string(), version);
            match kind {
                ReferenceKind::Creatives => {
                    reference.creatives =
                        pairs(&rows)?.map(|(id, campaign_id)| (id, Creative { campaign_id })).collect();
                }
                ReferenceKind::Campaigns => reference.campaigns = campaigns(&rows)?,
                ReferenceKind::FxRates => reference.rates = rates(&rows)?,
            }
        }
        Ok(reference)
    }

    /// The campaigns at the version that `versions` names.
    pub async fn campaigns(
        &self,
        context: &SessionContext,
        versions: &std::collections::BTreeMap<String, u64>,
    ) -> Result<Reference, LakeError> {
        self.campaigns_at(context, versions.get(catalogue::CAMPAIGNS).copied()).await
    }

    /// The campaigns at a version. Without a version they are empty.
    pub(crate) async fn campaigns_at(
        &self,
        context: &SessionContext,
        version: Option<u64>,
    ) -> Result<Reference, LakeError> {
        let mut reference = Reference::default();
        if let Some(version) = version {
            let rows = self.reference_rows(context, ReferenceKind::Campaigns, version).await?;
            reference.campaigns = campaigns(&rows)?;
            reference.versions.insert(catalogue::CAMPAIGNS.to_string(), version);
        }
        Ok(reference)
    }

    /// Loads reference data. Columns are matched by name and cast. Columns that the batches lack
    /// are NULL. Of several rows with one key the last counts. A rate that is not above 0 is an
    /// error.
    pub fn load_reference(
        &self,
        kind: ReferenceKind,
        batches: Vec<RecordBatch>,
        mode: LoadMode,
    ) -> BoxFuture<'_, Result<LoadReport, LakeError>> {
        // A load that is repeated has the same result.
        Box::pin(async move { self.retry(|| self.write_reference(kind, &batches, mode)).await })
    }

    async fn write_reference(
        &self,
        kind: ReferenceKind,
        batches: &[RecordBatch],
        mode: LoadMode,
    ) -> Result<LoadReport, LakeError> {
        let table = catalogue::table(kind.table()).ok_or_else(|| LakeError::NotFound(kind.table().to_string()))?;
        let replacer = self.replacer(kind.table()).await?;
        let mut new = Vec::new();
        for batch in batches {
            let columns = table.schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
                Some(column) => cast(column, field.data_type())
                    .map_err(|error| LakeError::rows(kind.table(), format!("column {}: {error}", field.name()))),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            });
            let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
            let rows = RecordBatch::try_new(table.schema.clone(), columns);
            new.push(rows.map_err(|error| LakeError::rows(kind.table(), error))?);
        }
        let old = match (mode, self.newest_version(kind.table()).await?) {
            (LoadMode::Upsert, Some(version)) => self.reference_rows(&SessionContext::new(), kind, version).await?,
            _ => RecordBatch::new_empty(table.schema.clone()),
        };
        if kind == ReferenceKind::FxRates {
            check_rates(&new)?;
        }
        let (rows, all) = merge(kind, &table.schema, old, new)?;
        let mut writer = replacer.writer(&WriterSettings::default());
        writer.write(&all)?;
        let files = writer.finish().await?;
        let version = replacer.commit(files).await?;
        Ok(LoadReport { rows, total: all.num_rows(), version })
    }

    async fn reference_rows(
        &self,
        context: &SessionContext,
        kind: ReferenceKind,
        version: u64,
    ) -> Result<RecordBatch, LakeError> {
        let schema = catalogue::table(kind.table()).map(|table| table.schema);
        let schema = schema.ok_or_else(|| LakeError::NotFound(kind.table().to_string()))?;
        let batches = context.read_table(self.provider(kind.table(), version).await?)?.collect().await?;
        let wrong = |error: arrow::error::ArrowError| LakeError::rows(kind.table(), error);
        let mut same = Vec::with_capacity(batches.len());
        for batch in batches {
            let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
                Some(column) => cast(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            same.push(RecordBatch::try_new(schema.clone(), columns).map_err(wrong)?);
        }
        concat_batches(&schema, &same).map_err(wrong)
    }
}

/// The last row of each key, where new rows come after old ones. Also how many of them are new.
fn merge(
    kind: ReferenceKind,
    schema: &arrow::datatypes::SchemaRef,
    old: RecordBatch,
    new: Vec<RecordBatch>,
) -> Result<(usize, RecordBatch), LakeError> {
    let wrong = |error: arrow::error::ArrowError| LakeError::rows(kind.table(), error);
    let old_rows = old.num_rows();
    let all = concat_batches(schema, std::iter::once(&old).chain(&new)).map_err(wrong)?;
    let keys: Vec<ArrayRef> = kind
        .key()
        .iter()
        .map(|name| {
            all.column_by_name(name)
                .cloned()
                .ok_or_else(|| LakeError::rows(kind.table(), format!("column {name} is missing")))
        })
        .collect::<Result<_, _>>()?;
    for (name, key) in kind.key().iter().zip(&keys) {
        if let Some(row) = (0..key.len()).find(|&row| key.is_null(row)) {
            let detail = format!("row {} has no {name}", row.saturating_sub(old_rows) + 1);
            return Err(LakeError::rows(kind.table(), detail));
        }
    }
    let fields = keys.iter().map(|key| arrow::row::SortField::new(key.data_type().clone())).collect();
    let converter = arrow::row::RowConverter::new(fields).map_err(wrong)?;
    let rows = converter.convert_columns(&keys).map_err(wrong)?;
    let mut seen = HashSet::new();
    let mut kept: Vec<u32> =
        (0..rows.num_rows()).rev().filter(|&row| seen.insert(rows.row(row))).map(|r| r as u32).collect();
    kept.reverse();
    let loaded = kept.iter().filter(|&&row| row as usize >= old_rows).count();
    let kept = arrow::array::UInt32Array::from(kept);
    Ok((loaded, arrow::compute::take_record_batch(&all, &kept).map_err(wrong)?))
}

fn pairs(rows: &RecordBatch) -> Result<impl Iterator<Item = (String, Option<String>)> + '_, LakeError> {
    let column = |place: usize| {
        let column = rows.column(place).as_string_opt::<i32>();
        column.ok_or_else(|| LakeError::Corrupt("reference data: an id column does not hold text".to_string()))
    };
    let (ids, others) = (column(0)?, column(1)?);
    let pair =
        move |row: usize| (ids.value(row).to_string(), others.is_valid(row).then(|| others.value(row).to_string()));
    Ok((0..rows.num_rows()).map(pair))
}

fn campaigns(rows: &RecordBatch) -> Result<HashMap<String, Campaign>, LakeError> {
    Ok(pairs(rows)?.map(|(id, advertiser_id)| (id, Campaign { advertiser_id })).collect())
}

/// Refuses rates of 0 or less: they would turn an amount into nothing or into its opposite.
fn check_rates(batches: &[RecordBatch]) -> Result<(), LakeError> {
    let mut before = 0;
    for batch in batches {
        let rates = batch.column(2).as_primitive_opt::<Decimal128Type>();
        let rates = rates.ok_or_else(|| LakeError::rows(catalogue::FX_RATES, "column rate does not hold decimals"))?;
        if let Some(row) = (0..rates.len()).find(|&row| rates.is_null(row) || rates.value(row) <= 0) {
            let detail = format!("row {}: the rate must be a number above 0", before + row + 1);
            return Err(LakeError::rows(catalogue::FX_RATES, detail));
        }
        before += batch.num_rows();
    }
    Ok(())
}

fn rates(rows: &RecordBatch) -> Result<HashMap<(i32, String), i128>, LakeError> {
    let wrong = || LakeError::Corrupt(format!("{}: a column has another type than adlake writes", catalogue::FX_RATES));
    let days = rows.column(0).as_primitive_opt::<Date32Type>().ok_or_else(wrong)?;
    let currencies = rows.column(1).as_string_opt::<i32>().ok_or_else(wrong)?;
    let rates = cast(rows.column(2), &DataType::Decimal128(38, 12)).map_err(|_| wrong())?;
    let rates = rates.as_primitive_opt::<Decimal128Type>().ok_or_else(wrong)?;
    // An earlier adlake let such rates in. They are not used.
    let usable = |row: &usize| rates.is_valid(*row) && rates.value(*row) > 0;
    let unusable = (0..rows.num_rows()).filter(|row| !usable(row)).count();
    if unusable > 0 {
        tracing::warn!(
            table = catalogue::FX_RATES,
            rows = unusable,
            "rates of 0 or less are not used; load the right rates"
        );
    }
    let known = (0..rows.num_rows()).filter(usable);
    Ok(known.map(|row| ((days.value(row), currencies.value(row).to_uppercase()), rates.value(row))).collect())
}
