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
    key("query", "Queries: `adlake query`."),
    key("query.session", "The resources that a query may use."),
    key(
        "query.session.memory_bytes_max",
        "Memory, in bytes, that sorts, joins and aggregations share before they spill to disk.",
    ),
    key("query.session.spill_bytes_max", "Disk space, in bytes, that they may spill to."),
    key("query.session.spill_folder", "The folder that they spill to. Empty: the system's folder for temporary files."),
    key("query.session.partitions", "How many partitions of a plan run in parallel. 0: one for each core."),
    key("serve", "The server: `adlake serve`."),
    key(
        "serve.listen",
        "Where HTTP is served: host:port. Without keys it must be an address of this machine alone, like 127.0.0.1.",
    ),
    key(
        "serve.allowed_hosts",
        "Names of this machine, beside localhost, that the Host header of requests to a server without keys may hold.",
    ),
    key(
        "serve.keys_file",
        "A file with the keys of those who may ask (`adlake keys create` adds one). Empty: no keys are needed.",
    ),
    key(
        "serve.users_file",
        "A file with users and the hashes of their passwords (`adlake users create` adds one). Empty: no passwords.",
    ),
    key("serve.audit_file", "A file that gets a line of JSON for each request: who asked what. Empty: none."),
    key("serve.login", "Sessions of browsers that have signed in to the dashboard."),
    key("serve.login.lifetime", "How long a session lasts."),
    unset(
        "serve.login.secret",
        "What sessions are signed with. Servers behind one balancer need the same. By default it is new at each start.",
        "\"a long random text\"",
    ),
    key(
        "serve.login.secure_cookies",
        "Whether browsers may send the session by HTTPS only: for a server behind a proxy that speaks TLS. With \
         serve.tls that is always so.",
    ),
    key(
        "serve.login.attempts_per_minute",
        "How many attempts to sign in may fail in a minute: from one address, and for one name. 0: no limit.",
    ),
    key("serve.oidc", "Bearer tokens of an OpenID Connect issuer."),
    key("serve.oidc.issuer", "The issuer (`iss`), exactly as its tokens name it. Empty: no tokens are accepted."),
    key("serve.oidc.audience", "The audience (`aud`) that tokens must name."),
    key("serve.oidc.jwks", "Where the issuer's public keys are, as a JWK set: an https URL, or a file."),
    key("serve.oidc.algorithms", "How tokens may be signed: RS256, ES256."),
    key(
        "serve.oidc.refresh_interval",
        "How often the issuer's keys are read again. A token with an unknown key makes the server ask at once.",
    ),
    key("serve.oidc.name_claim", "The claim with the name of who asks."),
    key("serve.oidc.role_claim", "The claim with the roles: a text or a list. A path of claims has dots between."),
    unset(
        "serve.oidc.roles",
        "What the values of that claim stand for: admin, analyst or advertiser. Of several the one with the most \
         rights counts.",
        "\"lake-admins\" = \"admin\"",
    ),
    key("serve.oidc.advertisers_claim", "The claim with the advertisers that the role advertiser may see."),
    key("serve.oidc.campaigns_claim", "The claim with the campaigns that the role advertiser may see."),
    key("serve.tls", "HTTPS: without a certificate, the server speaks plain HTTP."),
    key(
        "serve.tls.certificate",
        "A PEM file with the certificate and those between it and the root. It is read again when it changes.",
    ),
    key("serve.tls.key", "A PEM file with the private key of the certificate."),
    key("serve.refresh_interval", "How often the lake is looked at for commits."),
    key(
        "serve.state_bytes_max",
        "Memory, in bytes, for the sums and sketches of the published run. What does not fit is answered from the \
         lake, which takes longer.",
    ),
    key(
        "serve.settle_time",
        "Events that are late by less than this are ordinary. Later hours are shown as provisional.",
    ),
    key("serve.snapshots_kept", "How many snapshots are kept for the next pages of answers."),
    key("serve.rows_max", "The most rows of an answer. More are given page by page."),
    key(
        "serve.answer_bytes_max",
        "Memory, in bytes, that the groups of one answer may take before it is cut into pages. A question whose \
         answer takes more is refused.",
    ),
    key("serve.body_bytes_max", "The most bytes of a question."),
    key("serve.timeout", "The longest time for an answer."),
    key(
        "serve.lake_queries_max",
        "How many answers are made from the lake at the same time. Others wait for their turn.",
    ),
    key("serve.cache_bytes_max", "Memory, in bytes, for answers that are given again while nothing has changed."),
    key("serve.subscribers_max", "The most clients that events are sent to at the same time."),
    key("serve.connections_max", "The most connections at the same time. More wait until one ends."),
    key("serve.idle_timeout", "How long a connection may be without a whole head of a request."),
    key("serve.stall_timeout", "How long a client may leave what is sent to it unread before it is disconnected."),
    key("serve.requests_per_second", "The most requests of one key in a second. 0: no limit."),
    unset(
        "serve.cursor_secret",
        "What cursors are signed with. Servers behind one balancer need the same. By default it is new at each start.",
        "\"a long random text\"",
    ),
    key("serve.session", "The resources of one snapshot, and of each answer that is made from the lake."),
    key(
        "serve.session.memory_bytes_max",
        "Memory, in bytes, that sorts, joins and aggregations share before they spill to disk.",
    ),
    key("serve.session.spill_bytes_max", "Disk space, in bytes, that they may spill to."),
    key("serve.session.spill_folder", "The folder that they spill to. Empty: the system's folder for temporary files."),
    key("serve.session.partitions", "How many partitions of a plan run in parallel. 0: one for each core."),
    key("alarms", "Alarms: rules that `adlake serve` evaluates, and where it tells of them."),
    key("alarms.enabled", "Whether `adlake serve` evaluates the rules."),
    key("alarms.rules", "A file of rules, or a folder of such files. Empty: only the built-in rules."),
    key("alarms.defaults", "Whether the built-in rules are used."),
    key("alarms.interval", "How often the rules are evaluated."),
    key("alarms.history", "How far back the history of alarms is shown."),
    key(
        "alarms.lease_time",
        "How long another server waits before it takes over from one that does not renew its lease.",
    ),
    key("alarms.resend_interval", "How often what fires is sent again to Alertmanager, and metrics to CloudWatch."),
    key("alarms.retry_pause_max", "The longest pause between two tries of a sink that fails."),
    key("alarms.external_url", "The address of the dashboard in what is sent. Empty: none."),
    key("alarms.webhook", "Addresses that each alarm is posted to, once when it begins and once when it ends."),
    key("alarms.webhook.urls", "The addresses."),
    unset(
        "alarms.webhook.secret",
        "The key of the signature (HMAC-SHA256). Better give it in the environment: ADLAKE_ALARMS__WEBHOOK__SECRET.",
        "\"secret\"",
    ),
    key("alarms.alertmanager", "Alertmanagers (API v2)."),
    key("alarms.alertmanager.urls", "Their addresses, all members of a cluster."),
    key("alarms.cloudwatch", "CloudWatch: metrics of what fires, and the alarms of `adlake alarms sync`."),
    key("alarms.cloudwatch.enabled", "Whether metrics are published."),
    key("alarms.cloudwatch.namespace", "The namespace of the metrics."),
    key("alarms.cloudwatch.prefix", "What the names of the alarms of CloudWatch begin with."),
    key("alarms.cloudwatch.actions", "The ARNs that those alarms notify, like that of an SNS topic."),
    key("alarms.cloudwatch.composites", "Whether there are composite alarms: see docs/alarms.md. $0.50 each."),
    key("alarms.cloudwatch.critical_actions", "The ARNs that the composite alarm of all critical rules notifies."),
    key(
        "alarms.cloudwatch.metrics_max",
        "How many groups that fire have a metric of their own. Each costs about $0.30 a month. 0: none.",
    ),
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
