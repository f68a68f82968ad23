//! The sections and keys of what answers: queries, the server, alarms.

use super::{Key, key, unset};

pub const KEYS: &[Key] = &[
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
    key("telemetry", "Traces, sent to an OpenTelemetry collector. See docs/tracing.md."),
    key(
        "telemetry.otlp_endpoint",
        "The address of the collector (OTLP over HTTP), like http://localhost:4318. Empty: that of \
         OTEL_EXPORTER_OTLP_ENDPOINT; without that, traces are off.",
    ),
    unset(
        "telemetry.otlp_headers",
        "Headers of each request: name=value, separated by commas. By default those of OTEL_EXPORTER_OTLP_HEADERS.",
        "\"x-api-key=secret\"",
    ),
    key("telemetry.otlp_timeout", "The longest time for one request."),
    key(
        "telemetry.sample_ratio",
        "The share of traces that is exported, from 0 to 1. Who calls with a trace decides for it.",
    ),
    key(
        "telemetry.service_name",
        "The name of the service. Empty: that of OTEL_SERVICE_NAME; without that, adlake- and the command.",
    ),
    key("telemetry.queue_spans_max", "How many spans may wait for their export. More are dropped, and counted."),
    key("telemetry.batch_spans_max", "The most spans of one request."),
    key("telemetry.export_interval", "How long a span waits for others at most before they are sent together."),
    key("telemetry.flush_timeout", "How long a command that ends waits for the collector to take what is left."),
];
