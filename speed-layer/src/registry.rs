//! The schemas of a schema registry, by id. Each is fetched once over HTTP (Confluent's REST API)
//! and cached.
//!
//! The rules of the speed layer hold here, too. An id that the registry does not know concerns only
//! the records with that id: they become dead letters. A registry that does not answer, or gives an
//! unexpected answer, is an outage, which ingest waits out. So fetching ([`Registry::fetch`]) is
//! separate from decoding. When decoding asks for a schema ([`RegisteredSchemas::get`]), it is
//! there already.
//!
//! A schema never changes under its id, so it is cached as long as the process runs. There are as
//! many as the source uses. An unknown id is cached for a limited time only, because the registry
//! may learn it later.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use adlake_decode::avro::{KnownSchema, ParsedSchema, RegisteredSchemas, schema_id};
use adlake_domain::event::EventKind;
use futures::stream::{self, StreamExt};

use crate::error::SpeedError;
use crate::record::Chunk;
use crate::settings::{AvroFraming, AvroSettings};

mod client;

pub use client::Outage;
use client::{Client, Found};

/// The number of ids that are fetched at a time.
const PARALLEL: usize = 8;
/// How long an unknown id is cached.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// The highest id that a registry can give. Its API uses signed numbers, and fails on higher ids
/// with an error that looks like an outage.
const ID_MAX: u32 = i32::MAX as u32;

/// The schema registry of a source.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    framing: AvroFraming,
    /// What is known about each id, and since when.
    known: RwLock<HashMap<u32, (KnownSchema, Instant)>>,
}

impl Registry {
    /// The registry that is configured for a kind, if there is one. This sends no request.
    pub fn open(kind: EventKind, settings: &AvroSettings) -> Result<Option<Registry>, SpeedError> {
        let Some(url) = settings.registry.as_ref() else { return Ok(None) };
        let client = Client::new(kind, url.expose(), settings)?;
        Ok(Some(Registry { client, framing: settings.framing, known: RwLock::default() }))
    }

    /// Whether the registry answers as one, whatever schemas it has.
    pub async fn ping(&self) -> Result<(), Outage> {
        self.client.schema(1).await.map(drop)
    }

    /// Adds to `wanted` the ids in a chunk's records that have to be fetched before it is decoded.
    pub fn wanted(&self, chunk: &Chunk, wanted: &mut BTreeSet<u32>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut last = None;
        for (record, rejection) in chunk.records_from(i64::MIN) {
            let id = schema_id(record.payload, self.framing).filter(|_| rejection.is_none());
            // Most records have the same schema as the one before.
            let Some(id) = id.filter(|id| last != Some(*id)) else { continue };
            last = Some(id);
            match known.get(&id) {
                _ if id > ID_MAX => {}
                Some((KnownSchema::Unknown, since)) if since.elapsed() > UNKNOWN_FOR => _ = wanted.insert(id),
                Some(_) => {}
                None => _ = wanted.insert(id),
            }
        }
    }

    /// Fetches ids, several at a time. The answers are cached even if some ids could not be
    /// fetched.
    pub async fn fetch(&self, ids: &BTreeSet<u32>) -> Result<(), Outage> {
        let mut answers = stream::iter(ids.iter().copied())
            .map(async |id| (id, self.client.schema(id).await))
            .buffer_unordered(PARALLEL);
        let mut outage = None;
        while let Some((id, answer)) = answers.next().await {
            let learnt = match answer {
                Ok(Found::Schema { text, references }) => match ParsedSchema::new(&text, &references) {
                    Ok(schema) => KnownSchema::Schema(Arc::new(schema)),
                    Err(error) => KnownSchema::Unusable(error.to_string().into()),
                },
                Ok(Found::Unusable(detail)) => KnownSchema::Unusable(detail.into()),
                Ok(Found::Nothing) => KnownSchema::Unknown,
                Err(error) => {
                    outage.get_or_insert(error);
                    continue;
                }
            };
            tracing::debug!(
                id,
                registry = %self.client,
                known = matches!(learnt, KnownSchema::Schema(_)),
                "schema looked up"
            );
            self.known.write().unwrap_or_else(PoisonError::into_inner).insert(id, (learnt, Instant::now()));
        }
        // Records may contain many ids that do not exist, so old ones are evicted. Those of records
        // that are still being decoded are younger than this.
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (known, since)| !matches!(known, KnownSchema::Unknown) || since.elapsed() < 2 * UNKNOWN_FOR);
        outage.map_or(Ok(()), Err)
    }
}

impl RegisteredSchemas for Registry {
    fn get(&self, id: u32) -> Option<KnownSchema> {
        if id > ID_MAX {
            return Some(KnownSchema::Unknown);
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).map(|(known, _)| known.clone())
    }
}

#[cfg(test)]
pub(crate) mod tests;
