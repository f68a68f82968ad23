//! What every section and key is for, in one line each: the text of `config init`.
//!
//! Names, order and defaults come from the settings themselves. A test checks that every key has a
//! line here, and that every line has a key.

mod answers;

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
pub fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(answers::KEYS)
}

/// Those of the lake, ingest and batch runs.
const KEYS: &[Key] = &[
    key("lake", "Where the lake is, and how it is reached."),
    key("lake.uri", "A folder, file:///folder or s3://bucket/prefix. A relative path starts at the working directory."),
    unset(
        "lake.options",
        "Options of the object store. An option that is not given here is taken from the AWS_* variables of the \
         environment.",
        "AWS_ENDPOINT_URL = \"http://localhost:9000\"",
    ),
    key(
        "lake.retry_for",
        "How long a failing store is retried before a command gives up. Ingest never gives up once it has begun.",
    ),
    key("lake.log", "How the logs of the tables are kept short."),
    key("lake.log.checkpoint_interval", "A checkpoint is written after this many commits. 0: never."),
    key(
        "lake.log.checkpoint_percent_max",
        "The largest share of a writer's time, in percent, that checkpoints may take. Larger checkpoints are written \
         less often.",
    ),
    key(
        "lake.log.retention",
        "Log entries older than this are removed, unless the batch view or the newest version needs them. 0s: never.",
    ),
    key("account", "The account whose currency all amounts are in."),
    key("account.currency", "ISO 4217 code. Amounts in other currencies are converted by the rates in ref/fx_rates."),
    key("kafka", "The brokers that `adlake ingest kafka` reads from."),
    key("kafka.brokers", "The brokers to connect to first: host:port, comma-separated."),
    key("kafka.group", "The consumer group. It assigns the partitions to workers. Positions come from the lake alone."),
    unset(
        "kafka.cluster",
        "The name of the cluster in the lake's transactions. By default it is the cluster's own id.",
        "\"production\"",
    ),
    key(
        "kafka.first_start",
        "Where to begin with a partition that the lake has never seen: earliest, latest, or a time \
         (2026-11-21T10:00:00Z).",
    ),
    key("kafka.fetch_bytes_max", "Memory, in bytes, for records that are fetched ahead, over all partitions."),
    key("kafka.start_timeout", "How long to wait at the start for a broker that does not answer."),
    key(
        "kafka.metadata_interval",
        "How often the topics are checked for new partitions, and for topics that were deleted or recreated.",
    ),
    key("kafka.stall_timeout", "A partition that has records left but delivers none for this long is assigned again."),
    key(
        "kafka.auth",
        "How the client logs in: properties (as kafka.properties say), or msk_iam (to Amazon MSK, with the AWS \
         credentials of the process).",
    ),
    unset(
        "kafka.region",
        "For msk_iam: the region of the cluster. By default the one that the AWS SDK finds, as AWS_REGION.",
        "\"eu-central-1\"",
    ),
    key(
        "kafka.oauth_token_command",
        "For sasl.mechanisms OAUTHBEARER: a program and its arguments. It prints a token, or JSON with token and \
         expires_in.",
    ),
    unset(
        "kafka.first_offsets",
        "For each topic and partition: the offset to begin at if the lake has never seen the partition. It overrides \
         first_start.",
        "\"ad-impressions\" = { 0 = 1200, 1 = 800 }",
    ),
    unset("kafka.properties", "Any other property of librdkafka.", "\"security.protocol\" = \"SASL_SSL\""),
    key("files", "How folders and prefixes are watched: `adlake ingest files --watch`."),
    key("files.settle", "A local file is read once it has not changed for this long. Objects in S3 are read at once."),
    key("files.poll_interval", "How often new files are looked for."),
    key("files.sweep_interval", "How often everything is listed anew, to find what the polls miss."),
    key(
        "files.final_after",
        "A watched file is final once it has not changed for this long. A record that its end cuts off is then taken \
         as it is.",
    ),
    key("ingest", "Flushing, limits and shutdown of ingest."),
    key("ingest.flush_rows", "A table is committed once it has this many new rows,"),
    key("ingest.flush_bytes", "or once its new rows take this many bytes of memory,"),
    key("ingest.flush_interval", "or once its oldest new row is this old."),
    key("ingest.queue_bytes_max", "Memory, in bytes, for records that are read and not yet decoded, over all tables."),
    key(
        "ingest.record_bytes_max",
        "A record with more bytes than this becomes a dead letter that keeps its first bytes.",
    ),
    key("ingest.future_max", "An event that is further ahead of the clock than this becomes a dead letter."),
    key(
        "ingest.event_time_min",
        "A number is read as an epoch only if the resulting time is not before this date or time. Else the record is \
         a dead letter.",
    ),
    key("ingest.shutdown_deadline", "How long draining and committing may take after SIGTERM."),
    key(
        "ingest.revoke_deadline",
        "How long a partition that goes to another consumer is held, so that the records read from it can be \
         committed.",
    ),
    key("ingest.retry_pause_max", "The longest pause between two attempts while the store does not answer."),
    key("ingest.compression_level", "Parquet's zstd level, 1 to 22."),
    key("ingest.metrics_listen", "The address that serves /metrics and /healthz: host:port. Empty: none."),
    key("sources", "The form of the records of each kind."),
    key("sources.*", "Records of this kind."),
    key("sources.*.topic", "The Kafka topic. Empty: no topic is read for this kind."),
    key(
        "sources.*.format",
        "The format of the topic's records: json, csv or avro. The format of a file comes from its extension.",
    ),
    key("sources.*.time_zone", "The zone (IANA name) of times that name none."),
    unset(
        "sources.*.time_formats",
        "Additional formats of times, in strftime's notation. They are tried before the known ones.",
        "[\"%d/%b/%Y:%H:%M:%S %z\", \"%d.%m.%Y %H:%M\"]",
    ),
    key("sources.*.depth_max", "A record whose values are nested deeper than this becomes a dead letter. 1 to 120."),
    key(
        "sources.*.records_max",
        "A Kafka message (a JSON list, an Avro container) with more records than this becomes a dead letter.",
    ),
    unset(
        "sources.*.fields",
        "For a field of the schema: the names and paths under which it is looked up. The first one found wins. []: \
         not looked up.",
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
    key("sources.*.csv", "How the source writes CSV."),
    key("sources.*.csv.delimiter", "The delimiter: one ASCII character."),
    unset(
        "sources.*.csv.columns",
        "The names of the columns, in order, for data without a header. By default they are the fields of the schema.",
        "[\"timestamp\", \"user_id\", \"campaign_id\", \"conversion_type\"]",
    ),
    unset(
        "sources.*.csv.header",
        "Whether files begin with a header. By default this is detected from the first lines.",
        "true",
    ),
    key("sources.*.avro", "How the source writes Avro."),
    key(
        "sources.*.avro.framing",
        "The framing of a datum in a Kafka record: auto, none, confluent, glue or single_object.",
    ),
    unset(
        "sources.*.avro.schema",
        "The writer's schema, as JSON text, of datums whose framing names none. For bid requests the default is \
         adlake's own schema.",
        "'{\"type\": \"record\"}'",
    ),
    unset("sources.*.avro.schema_file", "A file that holds this schema.", "\"bid_request.avsc\""),
    key(
        "sources.*.avro.single_object_schema_files",
        "Files with the writer's schemas of single-object messages, which name them by fingerprint.",
    ),
    unset(
        "sources.*.avro.glue_schema_files",
        "For each schema version id of the AWS Glue registry: a file with its schema.",
        "\"b2b1e1f0-7d0f-4c5b-9f6e-0d5c2b1a4e3f\" = \"bid_request-3.avsc\"",
    ),
    unset(
        "sources.*.avro.reader_schema_file",
        "A file with the reader's schema (names, aliases, defaults). By default there is none, and fields keep what \
         was written.",
        "\"reader.avsc\"",
    ),
    unset(
        "sources.*.avro.registry",
        "The schema registry for the ids in Confluent framing: the base address of its REST API.",
        "\"https://registry:8081\"",
    ),
    unset("sources.*.avro.registry_user", "The registry's user, for basic authentication.", "\"adlake\""),
    unset(
        "sources.*.avro.registry_password",
        "The user's password. Better give it in the environment: \
         ADLAKE_SOURCES__BID_REQUESTS__AVRO__REGISTRY_PASSWORD.",
        "\"secret\"",
    ),
    unset(
        "sources.*.avro.registry_ca_file",
        "A file with certificates (PEM) that the registry's certificate is checked against, in addition to the \
         system's.",
        "\"ca.pem\"",
    ),
    unset(
        "sources.*.avro.registry_client_certificate_file",
        "A file with a client certificate and its key (PEM), if the registry requires one.",
        "\"client.pem\"",
    ),
    key("sources.*.avro.registry_timeout", "How long to wait for an answer of the registry."),
    key("attribution", "How interactions are joined to touchpoints. A change takes effect with the next batch run."),
    key("attribution.click_to_impression_window", "The longest time from an impression to a click that belongs to it."),
    key("attribution.click_through_window", "The longest time from a click to a conversion that belongs to it."),
    key(
        "attribution.view_through_window",
        "The longest time from an impression to a conversion without clicks that belongs to it.",
    ),
    key("attribution.half_life", "The half-life of the time decay model."),
    key("attribution.touchpoints_max", "How many touchpoints of a conversion count. The latest ones do."),
    key(
        "attribution.scope",
        "What a conversion and its touchpoints must share beside the user: auto, advertiser, campaign, or account \
         (nothing).",
    ),
    key("identity", "Which ids count as absent."),
    key("identity.null_values", "Values that mean \"no value\", compared exactly."),
    key("conversions", "Which interactions are clicks, and which conversions count."),
    key("conversions.click_types", "Values of conversion_type that are clicks, compared trimmed and lower-cased."),
    key(
        "conversions.primary_types",
        "Values of conversion_type that count as conversions. Empty: all that are neither clicks nor refunds.",
    ),
    key("conversions.refund_types", "Values of conversion_type that are refunds. A type is in one of the lists only."),
    key("conversions.refund_window", "The longest time from a conversion to a refund of it."),
    key("invalid", "Which traffic is invalid. Invalid events are in the `gross_` sums and in invalid_traffic alone."),
    key("invalid.bot", "Whether events are invalid whose user agents have one of the parts in bots."),
    key("invalid.bots", "Parts of user agents of robots. ASCII case is ignored."),
    key(
        "invalid.bots_file",
        "A file with more of them, one a line; what follows a | is left out, and lines that begin with #. Empty: none.",
    ),
    key("invalid.bots_except", "A part counts as none where it occurs within one of these."),
    key("invalid.zero_size", "Whether impressions with a width or height of 0 are invalid."),
    key("invalid.data_centre", "Networks (CIDR) and addresses of data centres. Impressions from there are invalid."),
    key("invalid.data_centre_file", "A file with more of them, one a line. Empty: none."),
    key(
        "invalid.rate_user",
        "The most events of a kind that a user may have on a UTC day. With more, all are invalid. 0: any number.",
    ),
    key("invalid.rate_user.impressions", "The most impressions."),
    key("invalid.rate_user.clicks", "The most clicks."),
    key("invalid.rate_user.conversions", "The most conversions, of any type."),
    key("invalid.rate_user.refunds", "The most refunds."),
    key(
        "invalid.rate_address",
        "The most impressions of an address (ip) on a UTC day. With more, all of them are invalid. 0: any number.",
    ),
    key("invalid.fast_click", "A click is invalid that comes less than this after its impression. 0s: none is."),
    key("report", "The calendar of the reports."),
    key("report.time_zone", "The zone (IANA name) whose hours and days the reports use."),
    key("display", "Which of the computed values are shown. A change takes effect at once."),
    key(
        "display.default_model",
        "The attribution model of columns without a suffix: last_touch, first_touch, linear, position_based or \
         time_decay.",
    ),
    key("spend", "What counts as spend. A change takes effect at once."),
    key(
        "spend.source",
        "Where spend comes from: impressions (their cost) or bids (the clearing prices of those that won).",
    ),
    key("segments", "The segments of users, in the view user_segments. A change takes effect at once."),
    key(
        "segments.rule",
        "Rules: the first one whose conditions all hold gives a user's segment. Conditions: recency_days_min, \
         recency_days_max, frequency_min, ..., value_..., engagement_..., conversions_...",
    ),
    key("batch", "Batch runs: `adlake batch run`."),
    key("batch.session", "The resources that a batch run may use."),
    key(
        "batch.session.memory_bytes_max",
        "Memory, in bytes, that sorts, joins and aggregations share before they spill to disk.",
    ),
    key("batch.session.spill_bytes_max", "Disk space, in bytes, that they may spill to."),
    key("batch.session.spill_folder", "The folder that they spill to. Empty: the system's folder for temporary files."),
    key("batch.session.partitions", "How many partitions of a plan run in parallel. 0: one for each core."),
    key("batch.compression_level", "Parquet's zstd level, 1 to 22."),
    key("batch.file_bytes_max", "A data file with more encoded bytes than this is closed, and a new one is begun."),
    key("batch.row_group_rows", "The most rows of a row group."),
    key(
        "batch.slice_events",
        "About how many events are aggregated at once. The events of one campaign in one hour are never taken apart.",
    ),
    key(
        "batch.lease_time",
        "A process that writes batch tables and is not heard of for this long may be superseded by another.",
    ),
    key(
        "batch.vacuum_retention",
        "`adlake batch vacuum` deletes data files that were removed from their tables longer ago than this. It must be \
         longer than the longest query and the longest run.",
    ),
    key(
        "batch.schedule",
        "When `adlake batch schedule` does which job: cron expressions of five fields, or six with the seconds first. \
         Empty: never.",
    ),
    key("batch.schedule.run", "The times of `batch run`."),
    key("batch.schedule.check", "The times of `batch check`."),
    key("batch.schedule.compact", "The times of `batch compact`."),
    key("batch.schedule.vacuum", "The times of `batch vacuum`."),
    key("batch.schedule.checkpoint", "The times of `batch checkpoint`."),
    key("batch.schedule.time_zone", "The zone (IANA name) of the times."),
    key("batch.schedule.jitter", "A job begins up to this long after its time, by chance."),
    key(
        "batch.schedule.catch_up",
        "What is done about times that passed while the process was down or at work: once (the job is done once, as \
         soon as possible) or skip.",
    ),
    key("batch.schedule.listen", "Where /healthz is served, like 127.0.0.1:9465. Empty: nowhere."),
    key("quality", "Data quality: `adlake batch check`, and what `adlake batch run` checks before it publishes."),
    key(
        "quality.expectations",
        "A file with expectations, or a folder whose .toml files hold them. Empty: the built-in ones.",
    ),
    key(
        "quality.in_runs",
        "Which expectations a batch run checks before it publishes: fail (those that can stop it), all or none.",
    ),
    key("quality.examples_max", "The most violating rows of an expectation that a report shows. 0: none."),
    key("catalog", "The catalogue that `adlake catalog sync` tells of the tables, and each batch run."),
    key("catalog.glue_database", "A database of AWS Glue. It must exist. Empty: batch runs tell no catalogue."),
    key("catalog.prefix", "What the names of the tables in the catalogue begin with."),
];

/// The section or key at a path.
pub fn find(path: &[String]) -> Option<&'static Key> {
    all().find(|key| matches(key, path))
}

/// Whether a key describes this path.
pub fn matches(key: &Key, path: &[String]) -> bool {
    let mut levels = key.path.split('.');
    path.iter().all(|level| levels.next().is_some_and(|known| known == "*" || known == level))
        && levels.next().is_none()
}
