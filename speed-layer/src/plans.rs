//! Plans for decoding each stream, made from the settings and the newest reference data. Before
//! anything is started, [`check`] rejects settings that cannot work.
//!
//! Reference data is read at the start, and again whenever it has changed. The rows decoded from
//! then on are enriched with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use adlake_decode::DecodePlan;
use adlake_decode::avro::RegisteredSchemas;
use adlake_decode::enrich::{Enrichment, EnrichmentSettings, ReferenceData};
use adlake_decode::mapping::added_columns;
use adlake_decode::record::StreamFormat;
use adlake_decode::settings::{AvroSettings, SchemaFiles};
use adlake_domain::event::EventKind;
use adlake_lake::{Lake, Reference, ReferenceKind};
use arrow::datatypes::Field;
use tokio_util::sync::CancellationToken;

use crate::error::SpeedError;
use crate::registry::Registry;
use crate::settings::{Format, SpeedSettings};

/// Makes the plans and keeps the reference data fresh.
#[derive(Debug)]
pub struct DecodePlans {
    settings: SpeedSettings,
    enrichment: RwLock<Arc<Enrichment>>,
    /// The version of each reference table in use.
    versions: Mutex<BTreeMap<String, u64>>,
    epoch: AtomicU64,
    registries: Vec<(EventKind, Arc<Registry>)>,
}

impl DecodePlans {
    /// Reads the reference data that the lake has now.
    pub async fn open(lake: &Lake, settings: &SpeedSettings) -> Result<DecodePlans, SpeedError> {
        let reference = lake.reference().await?;
        let enrichment = Enrichment::new(&enrichment_settings(settings), reference_data(&reference));
        let mut registries = Vec::new();
        for kind in EventKind::ALL {
            let registry = Registry::open(kind, &settings.sources.of(kind).avro)?;
            registries.extend(registry.map(|registry| (kind, Arc::new(registry))));
        }
        Ok(DecodePlans {
            settings: settings.clone(),
            enrichment: RwLock::new(Arc::new(enrichment)),
            versions: Mutex::new(reference.versions),
            epoch: AtomicU64::new(0),
            registries,
        })
    }

    /// The plan for records of a kind in a format.
    pub fn plan(&self, kind: EventKind, format: &StreamFormat) -> Result<Arc<DecodePlan>, SpeedError> {
        let enrichment = self.enrichment.read().unwrap_or_else(PoisonError::into_inner).clone();
        let plan = plan(&self.settings, kind, format, enrichment)?;
        let registry = self.registry(kind).map(|registry| registry as Arc<dyn RegisteredSchemas>);
        Ok(Arc::new(plan.with_registry(registry)))
    }

    /// The schema registry of a kind, if there is one.
    pub fn registry(&self, kind: EventKind) -> Option<Arc<Registry>> {
        self.registries.iter().find(|(other, _)| *other == kind).map(|(_, registry)| registry.clone())
    }

    /// The columns that the configuration adds to the raw table of a kind.
    pub fn added_columns(&self, kind: EventKind) -> Result<Vec<Field>, SpeedError> {
        Ok(added_columns(kind, self.settings.sources.of(kind))?)
    }

    /// A number that grows whenever earlier plans are out of date.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Looks for newer reference data repeatedly, until cancelled. While the lake does not answer,
    /// the old data stays in use.
    pub async fn keep_fresh(self: Arc<Self>, lake: Lake, interval: Duration, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            match self.refresh(&lake).await {
                Ok(true) => tracing::info!("newer reference data is in use"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot look for newer reference data; the old data stays in use"),
            }
        }
    }

    /// Loads newer reference data, if there is any. Returns whether there was.
    pub async fn refresh(&self, lake: &Lake) -> Result<bool, SpeedError> {
        let mut newest = BTreeMap::new();
        for kind in [ReferenceKind::Creatives, ReferenceKind::Campaigns, ReferenceKind::FxRates] {
            if let Some(version) = lake.newest_version(kind.table()).await? {
                newest.insert(kind.table().to_owned(), version);
            }
        }
        if *self.versions.lock().unwrap_or_else(PoisonError::into_inner) == newest {
            return Ok(false);
        }
        let reference = lake.reference().await?;
        let enrichment = Arc::new(Enrichment::new(&enrichment_settings(&self.settings), reference_data(&reference)));
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = reference.versions;
        *self.enrichment.write().unwrap_or_else(PoisonError::into_inner) = enrichment;
        self.epoch.fetch_add(1, Ordering::Release);
        Ok(true)
    }
}

/// Rejects settings that cannot work, among them an address or a certificate of a schema registry
/// that cannot be used. Sends no request.
pub fn check(settings: &SpeedSettings) -> Result<(), SpeedError> {
    settings.check()?;
    for kind in EventKind::ALL {
        Registry::open(kind, &settings.sources.of(kind).avro)?;
    }
    Ok(())
}

/// Builds the plan that decodes the records of a kind. This checks mappings, defaults and schemas.
pub fn check_decoding(settings: &SpeedSettings, kind: EventKind) -> Result<(), SpeedError> {
    let format = match settings.sources.of(kind).format(kind) {
        Format::Json => StreamFormat::Json,
        Format::Csv => StreamFormat::CSV,
        Format::Avro => StreamFormat::AvroMessage,
    };
    trial_plan(settings, kind, &format).map(|_| ())
}

/// A plan for trying whether records of a kind can be read. It has no reference data and no
/// registry.
pub(crate) fn trial_plan(
    settings: &SpeedSettings,
    kind: EventKind,
    format: &StreamFormat,
) -> Result<DecodePlan, SpeedError> {
    let enrichment = Enrichment::new(&enrichment_settings(settings), ReferenceData::default());
    plan(settings, kind, format, Arc::new(enrichment))
}

fn plan(
    settings: &SpeedSettings,
    kind: EventKind,
    format: &StreamFormat,
    enrichment: Arc<Enrichment>,
) -> Result<DecodePlan, SpeedError> {
    let validation = settings.ingest.validation()?;
    let source = settings.sources.of(kind);
    let files = read_schema_files(kind, &source.avro, format)?;
    Ok(DecodePlan::new(kind, source, &files, format, validation, enrichment)?)
}

/// Reads the schema files that a plan for a stream of this format needs. Errors name the
/// configuration key.
fn read_schema_files(kind: EventKind, avro: &AvroSettings, format: &StreamFormat) -> Result<SchemaFiles, SpeedError> {
    let read = |(key, path): (String, &Path)| {
        let text = fs::read_to_string(path).map_err(|error| {
            SpeedError::settings(format!("sources.{kind}.avro.{key}"), format!("{}: {error}", path.display()))
        })?;
        Ok((path.to_owned(), text))
    };
    avro.schema_files(format).into_iter().map(read).collect()
}

/// The part of the reference data that events are enriched with.
fn reference_data(reference: &Reference) -> ReferenceData {
    let campaigns = reference.creatives.iter();
    let advertisers = reference.campaigns.iter();
    ReferenceData {
        campaigns: campaigns.filter_map(|(id, creative)| Some((id.clone(), creative.campaign_id.clone()?))).collect(),
        advertisers: advertisers
            .filter_map(|(id, campaign)| Some((id.clone(), campaign.advertiser_id.clone()?)))
            .collect(),
        rates: reference.rates.clone(),
    }
}

fn enrichment_settings(settings: &SpeedSettings) -> EnrichmentSettings {
    EnrichmentSettings {
        account_currency: settings.account.currency.clone(),
        time_zone: settings.meaning.report.time_zone,
        identity: settings.meaning.identity.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use adlake_decode::bid_request_avro_schema;

    use super::*;

    /// Settings of bid requests in Avro.
    fn settings(change: impl FnOnce(&mut AvroSettings)) -> SpeedSettings {
        let mut settings = SpeedSettings::default();
        change(&mut settings.sources.bid_requests.avro);
        settings
    }

    #[test]
    fn a_registry_that_cannot_be_used_is_refused() {
        check(&settings(|avro| avro.registry = Some("http://x".into()))).unwrap();
        let error = check(&settings(|avro| avro.registry = Some("ftp://x".into()))).unwrap_err().to_string();
        assert!(error.starts_with("sources.bid_requests.avro.registry: ") && error.contains("http://"), "{error}");
        let error = check(&settings(|avro| avro.registry_timeout = Some(Duration::ZERO))).unwrap_err().to_string();
        assert!(error.starts_with("sources.bid_requests.avro.registry_timeout: "), "{error}");
    }

    #[test]
    fn schema_files_are_read_and_errors_name_them() {
        const VERSION: &str = "07070707-0707-0707-0707-070707070707";
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (good, bad) = (file("good.avsc", bid_request_avro_schema()), file("bad.avsc", "{\"type\": \"recor"));
        type Set = fn(&mut AvroSettings, PathBuf);
        let keys: [(&str, Set); 4] = [
            ("reader_schema_file", |avro, path| avro.reader_schema_file = Some(path)),
            ("schema_file", |avro, path| avro.schema_file = Some(path)),
            ("single_object_schema_files", |avro, path| avro.single_object_schema_files.push(path)),
            ("glue_schema_files.07070707-0707-0707-0707-070707070707", |avro, path| {
                avro.glue_schema_files.insert(VERSION.to_owned(), path);
            }),
        ];
        for (key, set) in keys {
            let read = |path: &Path| {
                let settings = settings(|avro| set(avro, path.to_owned()));
                check_decoding(&settings, EventKind::BidRequest).map_err(|error| error.to_string())
            };
            assert_eq!(read(&good), Ok(()), "{key}");
            for (path, part) in
                [(folder.path().join("missing.avsc"), "No such file"), (bad.clone(), "not an Avro schema")]
            {
                let error = read(&path).unwrap_err();
                let begin = format!("sources.bid_requests.avro.{key}: {}: ", path.display());
                assert!(error.starts_with(&begin) && error.contains(part), "{error}");
            }
        }
    }
}
