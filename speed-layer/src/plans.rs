//! How each stream is decoded: plans made from the settings and the newest reference data.
//!
//! Reference data is read at the start and again whenever it has changed; the rows that are decoded from then on are enriched with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use adlake_lake::patience::patiently;
use adlake_lake::{Lake, ReferenceKind};
use tokio_util::sync::CancellationToken;

use crate::decode::DecodePlan;
use crate::enrich::{Enrichment, EnrichmentSettings};
use crate::error::SpeedError;
use crate::record::Stream;
use crate::settings::SpeedSettings;
use crate::validate::ValidationSettings;

/// Makes plans.
#[derive(Debug)]
pub struct Plans {
    settings: SpeedSettings,
    enrichment: RwLock<Arc<Enrichment>>,
    /// The versions of the reference data.
    versions: Mutex<BTreeMap<String, u64>>,
    epoch: AtomicU64,
}

impl Plans {
    /// With the reference data that the lake has now.
    pub async fn open(lake: &Lake, settings: &SpeedSettings) -> Result<Plans, SpeedError> {
        let reference = patiently(|| lake.reference()).await?;
        let enrichment = Enrichment::new(&enrichment_settings(settings), &reference);
        Ok(Plans {
            settings: settings.clone(),
            enrichment: RwLock::new(Arc::new(enrichment)),
            versions: Mutex::new(reference.versions),
            epoch: AtomicU64::new(0),
        })
    }

    /// The plan for a stream.
    pub fn plan(&self, stream: &Stream) -> Result<Arc<DecodePlan>, SpeedError> {
        let enrichment = self.enrichment.read().unwrap_or_else(PoisonError::into_inner).clone();
        let validation = ValidationSettings { future_max: self.settings.ingest.future_max };
        let source = self.settings.sources.of(stream.kind);
        Ok(Arc::new(DecodePlan::new(stream.kind, source, &stream.format, validation, enrichment)?))
    }

    /// Grows whenever plans made before are out of date.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Looks for newer reference data again and again until cancelled. While the lake does not answer, the old goes on being used.
    pub async fn keep_fresh(self: Arc<Self>, lake: Lake, interval: Duration, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            match self.refresh(&lake).await {
                Ok(true) => tracing::info!("newer reference data is in use"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot look for newer reference data"),
            }
        }
    }

    /// Takes newer reference data if there is any, and says whether there was.
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
        let enrichment = Arc::new(Enrichment::new(&enrichment_settings(&self.settings), &reference));
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = reference.versions;
        *self.enrichment.write().unwrap_or_else(PoisonError::into_inner) = enrichment;
        self.epoch.fetch_add(1, Ordering::Release);
        Ok(true)
    }
}

fn enrichment_settings(settings: &SpeedSettings) -> EnrichmentSettings {
    EnrichmentSettings {
        account_currency: settings.account.currency.clone(),
        time_zone: settings.meaning.report.time_zone,
        identity: settings.meaning.identity.clone(),
    }
}
