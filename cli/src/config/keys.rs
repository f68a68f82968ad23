//! What every section and key is for, in one line each: the text of `config init`.
//!
//! Names, order and defaults come from the settings themselves. A test checks that every key has a
//! line here, and that every line has a key.

/// A section or a key.
#[derive(Debug)]
pub struct Key {
    /// Its path; `*` stands for any name.
    pub path: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// For a key without a default: an example value, as TOML. For a free table: an example line.
    pub example: Option<&'static str>,
}

const fn key(path: &'static str, doc: &'static str) -> Key {
    Key { path, doc, example: None }
}

const fn unset(path: &'static str, doc: &'static str, example: &'static str) -> Key {
    Key { path, doc, example: Some(example) }
}

/// Every section and key.
pub const KEYS: &[Key] = &[
    key("lake", "Where the lake is."),
    key("lake.uri", "file:///folder, s3://bucket/prefix, or a folder; relative to the working directory."),
    unset(
        "lake.options",
        "Options of the object store; AWS_* variables of the environment stand behind them.",
        "AWS_ENDPOINT_URL = \"http://localhost:9000\"",
    ),
    key(
        "lake.retry_for",
        "How long a store that fails is asked again before a command gives up; ingest, once it has begun, never does.",
    ),
    key("lake.log", "How the logs of the tables are kept short."),
    key("lake.log.checkpoint_interval", "A checkpoint is written after so many commits; 0: never."),
    key(
        "lake.log.checkpoint_percent_max",
        "The most of a writer's time, in percent, that checkpoints take: the larger they are, the rarer they become.",
    ),
    key(
        "lake.log.retention",
        "Log entries are removed once they are so old, unless the batch view or the newest version needs them; 0s: \
         never.",
    ),
    key("account", "The account that money is counted in."),
    key("account.currency", "ISO 4217 code; amounts in other currencies go through ref/fx_rates."),
    key("kafka", "The broker that `adlake ingest kafka` reads from."),
    key("kafka.brokers", "Brokers to ask first, host:port, comma-separated."),
    key("kafka.group", "The consumer group: it shares out the partitions; positions come from the lake alone."),
    unset("kafka.cluster", "Name of the cluster in the lake's transactions; by default its own id.", "\"production\""),
    key(
        "kafka.first_start",
        "Where a partition that the lake has never seen is begun: earliest, latest, or a time (2026-11-21T10:00:00Z).",
    ),
    key("kafka.fetch_bytes_max", "Memory for records fetched ahead, over all partitions."),
    key("kafka.start_timeout", "How long a broker that does not answer is waited for at the start."),
    key(
        "kafka.metadata_interval",
        "How often the topics are looked at: for partitions that were added, for topics deleted or made anew.",
    ),
    key(
        "kafka.stall_timeout",
        "How long nothing may come of a partition that has more to give, before it is taken anew.",
    ),
    key(
        "kafka.oauth_token_command",
        "For sasl.mechanisms OAUTHBEARER: a program and its arguments that print a token, or JSON with token and \
         expires_in.",
    ),
    unset(
        "kafka.first_offsets",
        "By topic and partition, instead of first_start: the offset that a partition never seen by the lake is begun \
         at.",
        "\"ad-impressions\" = { 0 = 1200, 1 = 800 }",
    ),
    unset("kafka.properties", "Any other property of librdkafka.", "\"security.protocol\" = \"SASL_SSL\""),
    key("files", "Watching folders and prefixes: `adlake ingest files --watch`."),
    key("files.settle", "A local file is read once it has not changed for so long; objects are read at once."),
    key("files.poll_interval", "How often new files are looked for."),
    key("files.sweep_interval", "How often everything is looked through, for what the polls do not see."),
    key(
        "files.final_after",
        "A watched file is final once it has been left alone for so long: what its end cuts off is taken as it is.",
    ),
    key("ingest", "Flushing, limits and shutdown of ingest."),
    key("ingest.flush_rows", "A table is committed once it has so many new rows,"),
    key("ingest.flush_bytes", "or holds so many bytes of them in memory,"),
    key("ingest.flush_interval", "or its oldest new row is so old."),
    key("ingest.queue_bytes_max", "Memory for records read and not yet decoded, over all tables."),
    key("ingest.record_bytes_max", "A longer record is a dead letter that keeps its first bytes."),
    key("ingest.future_max", "An event further ahead of the clock than this is a dead letter."),
    key(
        "ingest.event_time_min",
        "A number, or digits, is an epoch only where it gives a time from this date or time on; else a dead letter.",
    ),
    key("ingest.shutdown_deadline", "After SIGTERM: how long draining and committing may take."),
    key(
        "ingest.revoke_deadline",
        "How long a partition that goes to another consumer is held to commit what was read of it.",
    ),
    key("ingest.retry_pause_max", "The longest pause between attempts while the store is out."),
    key("ingest.compression_level", "Parquet's zstd level, 1 to 22."),
    key("ingest.metrics_listen", "Where /metrics and /healthz are served, host:port; empty: nowhere."),
    key("sources", "What the records of each kind look like."),
    key("sources.*", "Records of this kind."),
    key("sources.*.topic", "The Kafka topic; empty: none is read for this kind."),
    key(
        "sources.*.format",
        "How the topic's records are written: json, csv or avro; files tell it by their extension.",
    ),
    key("sources.*.time_zone", "The zone of times that name none (IANA name)."),
    unset(
        "sources.*.time_formats",
        "Further forms of times, as strftime writes them, tried before the known ones.",
        "[\"%d/%b/%Y:%H:%M:%S %z\", \"%d.%m.%Y %H:%M\"]",
    ),
    key("sources.*.depth_max", "A record whose values are nested deeper is a dead letter; 1 to 120."),
    key("sources.*.records_max", "A Kafka message (a JSON list, an Avro container) of more records is a dead letter."),
    unset(
        "sources.*.fields",
        "For a field of the schema: the names and paths it is looked for under, first found first; []: not at all.",
        "user_id = [\"visitor\", \"user_details[0].user_id\"]",
    ),
    unset(
        "sources.*.defaults",
        "For a field that the source never sends: a constant, record_time, file_time or ingest_time.",
        "timestamp = \"record_time\"",
    ),
    unset(
        "sources.*.columns",
        "Columns to add to the raw table: string, integer, long, double, boolean, timestamp or decimal.",
        "tier = \"string\"",
    ),
    key("sources.*.csv", "How its CSV is written."),
    key("sources.*.csv.delimiter", "One ASCII character."),
    unset(
        "sources.*.csv.columns",
        "The columns, in order, where the data does not name them; by default the schema's fields.",
        "[\"timestamp\", \"user_id\", \"campaign_id\", \"conversion_type\"]",
    ),
    unset(
        "sources.*.csv.header",
        "Whether files begin with a line of names; by default told from the first line.",
        "true",
    ),
    key("sources.*.avro", "How its Avro is written."),
    key("sources.*.avro.framing", "What stands around a datum in Kafka: auto, none, confluent, glue or single_object."),
    unset(
        "sources.*.avro.schema",
        "The writer's schema of what no framing tells it for, as JSON text; for bid requests by default adlake's own.",
        "'{\"type\": \"record\"}'",
    ),
    unset("sources.*.avro.schema_file", "A file with that schema.", "\"bid_request.avsc\""),
    key(
        "sources.*.avro.single_object_schema_files",
        "Files with the schemas that single-object messages name by their fingerprints.",
    ),
    unset(
        "sources.*.avro.glue_schema_files",
        "For a schema version id of the AWS Glue registry: a file with its schema.",
        "\"b2b1e1f0-7d0f-4c5b-9f6e-0d5c2b1a4e3f\" = \"bid_request-3.avsc\"",
    ),
    unset(
        "sources.*.avro.reader_schema_file",
        "A file with the schema to read with (names, aliases, defaults); by default what was written is taken as it \
         is.",
        "\"reader.avsc\"",
    ),
    unset(
        "sources.*.avro.registry",
        "The schema registry that knows the ids of Confluent's framing: the base of its REST API.",
        "\"https://registry:8081\"",
    ),
    unset("sources.*.avro.registry_user", "Its user, for basic authentication.", "\"adlake\""),
    unset(
        "sources.*.avro.registry_password",
        "The user's password; better in the environment: ADLAKE_SOURCES__BID_REQUESTS__AVRO__REGISTRY_PASSWORD.",
        "\"secret\"",
    ),
    unset(
        "sources.*.avro.registry_ca_file",
        "Certificates (PEM) that its own is checked against, beside the system's.",
        "\"ca.pem\"",
    ),
    unset(
        "sources.*.avro.registry_client_certificate_file",
        "A certificate of ours and its key (PEM), where the registry asks for one.",
        "\"client.pem\"",
    ),
    key("sources.*.avro.registry_timeout", "How long an answer of it is waited for."),
    key("attribution", "How interactions are joined to touchpoints. A change takes effect with the next batch run."),
    key("attribution.click_to_impression_window", "How long after an impression a click still belongs to it."),
    key("attribution.click_through_window", "How long after a click a conversion still belongs to it."),
    key("attribution.view_through_window", "How long after an impression a conversion without clicks belongs to it."),
    key("attribution.half_life", "The half-life of the time decay model."),
    key("attribution.touchpoints_max", "How many of the latest touchpoints of a conversion count."),
    key(
        "attribution.scope",
        "What a conversion and its touchpoints share beside the user: auto, advertiser, campaign, or account \
         (nothing).",
    ),
    key("identity", "Which ids count as absent."),
    key("identity.null_values", "Values that mean \"no value\", compared exactly."),
    key("conversions", "Which interactions are clicks, and which conversions count."),
    key("conversions.click_types", "Names of conversion_type that are clicks; compared trimmed and lower-cased."),
    key("conversions.primary_types", "Names of conversion_type that count; empty: all that are not clicks."),
    key("report", "The calendar of the reports."),
    key("report.time_zone", "The zone whose hours and days the reports use (IANA name)."),
    key("display", "What is shown of what was computed; takes effect at once."),
    key(
        "display.default_model",
        "The attribution model behind columns without a suffix: last_touch, first_touch, linear, position_based or \
         time_decay.",
    ),
    key("spend", "What is spent; takes effect at once."),
    key("spend.source", "Where spend comes from: impressions (their cost) or bids (clearing prices of those won)."),
    key("batch", "Batch runs."),
    key("batch.session", "How much a batch run may use."),
    key("batch.session.memory_bytes_max", "Memory that sorts, joins and aggregations share before they spill."),
    key("batch.session.spill_bytes_max", "Disk that they may spill to."),
    key("batch.session.spill_folder", "Where they spill to; empty: the system's folder for temporary files."),
    key("batch.session.partitions", "Parallel partitions of a plan; 0: as many as there are cores."),
    key("batch.compression_level", "Parquet's zstd level, 1 to 22."),
    key("batch.file_bytes_max", "Encoded bytes at which a file is closed and the next begun."),
    key("batch.row_group_rows", "Rows of a row group at most."),
    key("query", "Queries."),
    key("query.session", "How much a query may use."),
    key("query.session.memory_bytes_max", "Memory that sorts, joins and aggregations share before they spill."),
    key("query.session.spill_bytes_max", "Disk that they may spill to."),
    key("query.session.spill_folder", "Where they spill to; empty: the system's folder for temporary files."),
    key("query.session.partitions", "Parallel partitions of a plan; 0: as many as there are cores."),
];

/// The section or key at a path.
pub fn find(path: &[String]) -> Option<&'static Key> {
    KEYS.iter().find(|key| matches(key, path))
}

/// Whether a key describes this path.
pub fn matches(key: &Key, path: &[String]) -> bool {
    let mut levels = key.path.split('.');
    path.iter().all(|level| levels.next().is_some_and(|known| known == "*" || known == level))
        && levels.next().is_none()
}
