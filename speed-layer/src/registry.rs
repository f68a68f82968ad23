//! Schemas of a registry, by id: asked for over HTTP (Confluent's REST API) once, and kept.
//!
//! The rules of the speed layer hold here, too: an id that the registry does not know is a matter of the records that carry it, which
//! become dead letters; a registry that does not answer, or answers anything else, is an outage, which ingest waits out. So asking
//! ([`Registry::fetch`]) is apart from decoding, and what decoding asks for ([`Registry::get`]) is there by then.
//!
//! A schema never changes under its id, and is kept as long as the process runs: there are as many as the source uses. That an
//! id is unknown is believed for a while only, since a registry may learn it later.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use adlake_domain::event::EventKind;
use futures::stream::{self, StreamExt};

use crate::decode::avro::schema::Parsed;
use crate::decode::avro::schema_id;
use crate::error::SpeedError;
use crate::record::Chunk;
use crate::settings::{AvroFraming, AvroSettings};

mod client;

pub use client::Outage;
use client::{Client, Found};

/// How many ids are asked for at a time.
const PARALLEL: usize = 8;
/// How long it is believed that an id is unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// The highest id that a registry can give: its API has them as signed numbers, and refuses others as if it were broken.
const ID_MAX: u32 = i32::MAX as u32;

/// What is known of an id.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// Its schema.
    Schema(Arc<Parsed>),
    /// It is no Avro schema, or not a valid one.
    Unusable(Arc<str>),
    /// The registry does not know it.
    Unknown,
}

/// The registry of a source.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    framing: AvroFraming,
    /// With when it was learnt.
    known: RwLock<HashMap<u32, (Known, Instant)>>,
}

impl Registry {
    /// The registry that is configured for a kind, if there is one. It is not asked anything.
    pub fn open(kind: EventKind, settings: &AvroSettings) -> Result<Option<Registry>, SpeedError> {
        let Some(url) = settings.registry.as_deref() else { return Ok(None) };
        let client = Client::new(kind, url, settings)?;
        Ok(Some(Registry { client, framing: settings.framing, known: RwLock::default() }))
    }

    /// Adds the ids in a chunk's records that have to be asked for before it is decoded.
    pub fn wanted(&self, chunk: &Chunk, wanted: &mut BTreeSet<u32>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut last = None;
        for (record, rejection) in chunk.records_from(i64::MIN) {
            let id = schema_id(record.payload, self.framing).filter(|_| rejection.is_none());
            // Most records have the schema of the one before.
            let Some(id) = id.filter(|id| last != Some(*id)) else { continue };
            last = Some(id);
            match known.get(&id) {
                _ if id > ID_MAX => {}
                Some((Known::Unknown, since)) if since.elapsed() > UNKNOWN_FOR => _ = wanted.insert(id),
                Some(_) => {}
                None => _ = wanted.insert(id),
            }
        }
    }

    /// Asks for ids, some at a time. What is learnt is kept, also where some of it could not be.
    pub async fn fetch(&self, ids: &BTreeSet<u32>) -> Result<(), Outage> {
        let mut answers = stream::iter(ids.iter().copied())
            .map(async |id| (id, self.client.schema(id).await))
            .buffer_unordered(PARALLEL);
        let mut outage = None;
        while let Some((id, answer)) = answers.next().await {
            let learnt = match answer {
                Ok(Found::Schema { text, references }) => match Parsed::new(&text, &references) {
                    Ok(schema) => Known::Schema(Arc::new(schema)),
                    Err(error) => Known::Unusable(error.to_string().into()),
                },
                Ok(Found::Unusable(detail)) => Known::Unusable(detail.into()),
                Ok(Found::Nothing) => Known::Unknown,
                Err(error) => {
                    outage.get_or_insert(error);
                    continue;
                }
            };
            tracing::debug!(id, registry = %self.client, known = matches!(learnt, Known::Schema(_)), "schema looked up");
            self.known.write().unwrap_or_else(PoisonError::into_inner).insert(id, (learnt, Instant::now()));
        }
        // Records may be full of ids that do not exist. Those still being decoded are younger than this.
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (known, since)| !matches!(known, Known::Unknown) || since.elapsed() < 2 * UNKNOWN_FOR);
        outage.map_or(Ok(()), Err)
    }

    /// What is known of an id; `None`: it was never asked for.
    pub(crate) fn get(&self, id: u32) -> Option<Known> {
        if id > ID_MAX {
            return Some(Known::Unknown);
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).map(|(known, _)| known.clone())
    }
}

#[cfg(test)]
pub(crate) mod tests;
