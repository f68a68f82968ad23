//! Everything that decoding a stream depends on, compiled once.

use std::sync::Arc;

use adlake_domain::event::EventKind;

use crate::avro::{AvroPlan, RegisteredSchemas};
use crate::csv::{CsvColumns, CsvReader};
use crate::enrich::Enrichment;
use crate::error::DecodeError;
use crate::mapping::Mapping;
use crate::record::StreamFormat;
use crate::settings::{SchemaFiles, SourceSettings, ValidationSettings};

/// Everything that decoding a source depends on. It is immutable: a change of settings or reference
/// data makes a new plan.
#[derive(Debug)]
pub struct DecodePlan {
    pub(crate) kind: EventKind,
    pub(crate) format: PlanFormat,
    pub(crate) mapping: Mapping,
    /// A bit for each required field.
    pub(crate) required: u32,
    /// A bit for each field that has a default.
    pub(crate) fallbacks: u32,
    pub(crate) event_time: usize,
    pub(crate) records_max: usize,
    pub(crate) validation: ValidationSettings,
    pub(crate) enrichment: Arc<Enrichment>,
}

#[derive(Debug)]
pub(crate) enum PlanFormat {
    Json,
    Csv(CsvColumns),
    Avro(Box<AvroPlan>),
}

impl DecodePlan {
    /// Compiles the plan for a stream of events of one kind. `files` holds the files that
    /// [`AvroSettings::schema_files`](crate::settings::AvroSettings::schema_files) names. Errors
    /// name the configuration key.
    pub fn new(
        kind: EventKind,
        source: &SourceSettings,
        files: &SchemaFiles,
        format: &StreamFormat,
        validation: ValidationSettings,
        enrichment: Arc<Enrichment>,
    ) -> Result<DecodePlan, DecodeError> {
        let mapping = Mapping::with_epoch_min(kind, source, validation.event_time_min)?;
        let format = match format {
            StreamFormat::Json => PlanFormat::Json,
            StreamFormat::Csv { header, delimiter, .. } => {
                let names = header.clone().or_else(|| source.csv.columns.clone());
                let names = names.unwrap_or_else(|| mapping.default_columns());
                let delimiter = delimiter.unwrap_or(source.csv.delimiter as u8);
                PlanFormat::Csv(CsvColumns::new(&mapping, &names, delimiter))
            }
            StreamFormat::AvroDatum { .. } | StreamFormat::AvroMessage => {
                PlanFormat::Avro(Box::new(AvroPlan::new(kind, source, files, format, &mapping)?))
            }
        };
        let bits = |wanted: &dyn Fn(usize) -> bool| {
            (0..mapping.fields().len()).filter(|index| wanted(*index)).fold(0u32, |bits, index| bits | 1 << index)
        };
        let required = bits(&|index| mapping.fields()[index].required);
        let fallbacks = bits(&|index| mapping.fields()[index].default.is_some());
        let event_time = mapping
            .index("event_time")
            .ok_or_else(|| DecodeError::settings(format!("sources.{kind}"), "events have no time"))?;
        let records_max = source.records_max();
        Ok(DecodePlan { kind, format, mapping, required, fallbacks, event_time, records_max, validation, enrichment })
    }

    /// The same plan with the registry that resolves schema ids.
    pub fn with_registry(self, registry: Option<Arc<dyn RegisteredSchemas>>) -> DecodePlan {
        match self.format {
            PlanFormat::Avro(avro) => {
                DecodePlan { format: PlanFormat::Avro(Box::new(avro.with_registry(registry))), ..self }
            }
            _ => self,
        }
    }

    /// Why containers written with the configured schema cannot be read, if they cannot.
    pub fn unusable_schema(&self) -> Option<&str> {
        match &self.format {
            PlanFormat::Avro(avro) => avro.unusable(),
            _ => None,
        }
    }

    /// The kind of event.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// Whether a message is a container, which may hold both good and bad records.
    #[inline]
    pub(crate) fn is_container(&self, payload: &[u8]) -> bool {
        match &self.format {
            PlanFormat::Avro(avro) => avro.is_container(payload),
            PlanFormat::Json | PlanFormat::Csv(_) => false,
        }
    }

    pub(crate) fn csv_reader(&self) -> CsvReader {
        match &self.format {
            PlanFormat::Csv(columns) => CsvReader::new(columns.delimiter()),
            PlanFormat::Json | PlanFormat::Avro(_) => CsvReader::new(b','),
        }
    }
}
