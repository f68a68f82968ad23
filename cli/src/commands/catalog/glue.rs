//! Glue's tables: the part of its API that is needed (JSON 1.1), and what a table should be.
//!
//! A table is made as a native Delta table: Athena, Redshift Spectrum and EMR read the Delta log,
//! and need no manifests. The columns in Glue are for people, and for tools that show them.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use arrow::datatypes::Field;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::Entry;
use super::hive::{comment, hive_type};
use crate::failure::usage;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request is made that Glue cannot answer now.
const ATTEMPTS: u32 = 5;
/// The pause after the first of them. It doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// Errors after which the same request may succeed.
const PASSING: [&str; 3] = ["ThrottlingException", "OperationTimeoutException", "InternalServiceException"];
/// The parameter of a table that says for which lake adlake has made it.
const OWNER: &str = "adlake.lake";
/// The most bytes of a comment in Glue.
const COMMENT_BYTES_MAX: usize = 255;
/// The parts of a table that are compared.
const PARTS: [&str; 5] = ["Description", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor"];

/// What has to be done about a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Nothing.
    None,
    /// It is not there.
    Create,
    /// It is ours, or to be adopted, and not as it should be.
    Update {
        /// What differs.
        why: String,
    },
    /// Something else has made it.
    NotOurs {
        /// How that shows.
        why: String,
    },
}

/// The table as Glue's `TableInput`.
pub fn table_input(entry: &Entry, lake: &Url) -> Value {
    let (partitions, columns): (Vec<&Field>, Vec<&Field>) = entry
        .schema
        .fields()
        .iter()
        .map(|field| &**field)
        .partition(|field: &&Field| entry.partition_columns.contains(field.name()));
    let columns_of = |fields: Vec<&Field>| fields.into_iter().map(column).collect::<Vec<Value>>();
    json!({
        "Name": entry.name,
        "Description": entry.description,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {
            "EXTERNAL": "TRUE",
            "classification": "delta",
            "table_type": "DELTA",
            "spark.sql.sources.provider": "delta",
            OWNER: lake.as_str(),
        },
        "PartitionKeys": columns_of(partitions),
        "StorageDescriptor": {
            "Columns": columns_of(columns),
            "Location": entry.location,
            "InputFormat": "org.apache.hadoop.mapred.SequenceFileInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
                "Parameters": {"path": entry.location, "serialization.format": "1"},
            },
        },
    })
}

/// Glue keeps names in lower case, and comments on one line.
fn column(field: &Field) -> Value {
    let mut column = json!({"Name": field.name().to_lowercase(), "Type": hive_type(field.data_type())});
    if let Some(text) = comment(field) {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        column["Comment"] = Value::from(&line[..line.floor_char_boundary(COMMENT_BYTES_MAX)]);
    }
    column
}

/// What has to be done, given what Glue has. `adopt`: a table of another is changed if it has the
/// same location.
pub fn change(wanted: &Value, found: Option<&Value>, adopt: bool) -> Change {
    let Some(found) = found else { return Change::Create };
    let location = |table: &Value| {
        table["StorageDescriptor"]["Location"].as_str().unwrap_or_default().trim_end_matches('/').to_owned()
    };
    let owner = &found["Parameters"][OWNER];
    if *owner != wanted["Parameters"][OWNER] && !(adopt && location(wanted) == location(found)) {
        return Change::NotOurs {
            why: match owner.as_str() {
                Some(owner) => format!("adlake has made it for the lake {owner}"),
                None => format!("it has no parameter {OWNER}, and its location is {:?}", location(found)),
            },
        };
    }
    let mut differing = Vec::new();
    for part in PARTS {
        differ(part, &wanted[part], &found[part], &mut differing);
    }
    match differing.is_empty() {
        true => Change::None,
        false => Change::Update { why: differing.join(", ") },
    }
}

/// Notes the paths at which something is not as wanted. What is there beside it does not matter.
fn differ(path: &str, wanted: &Value, found: &Value, differing: &mut Vec<String>) {
    match wanted {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, wanted)| differ(&format!("{path}.{name}"), wanted, &found[name], differing));
        }
        // Glue leaves out an empty list.
        Value::Array(items) if items.is_empty() && found.is_null() => {}
        wanted if wanted != found => differing.push(path.to_owned()),
        _ => {}
    }
}

/// What Glue is given for a table that it has: an update replaces the parameters, and those that
/// others have set stay.
pub fn merged(mut wanted: Value, found: &Value) -> Value {
    let theirs = found["Parameters"].as_object().cloned().unwrap_or_default();
    if let Some(ours) = wanted["Parameters"].as_object_mut() {
        for (name, value) in theirs {
            ours.entry(name).or_insert(value);
        }
    }
    wanted
}

/// A client of Glue.
#[derive(Debug)]
pub struct Glue {
    http: reqwest::Client,
    url: Url,
    region: String,
    config: SdkConfig,
}

/// How a request ended.
enum Answer {
    Done(Value),
    /// There is no such thing.
    NotFound,
    Refused {
        /// Whether the same request may succeed later.
        is_passing: bool,
        why: String,
    },
}

impl Glue {
    /// The Glue that the environment names: region, credentials, endpoint.
    pub async fn connect() -> Result<Glue> {
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let region = config.region().ok_or_else(|| usage("no AWS region is known: set AWS_REGION"))?.to_string();
        let own = std::env::var("AWS_ENDPOINT_URL_GLUE").ok().filter(|url| !url.is_empty());
        let url = own.or_else(|| config.endpoint_url().map(str::to_owned));
        let url = url.unwrap_or_else(|| format!("https://glue.{region}.{}", domain(&region)));
        let url = Url::parse(&url).map_err(|error| usage(format!("the endpoint of Glue, {url}: {error}")))?;
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().context("cannot set up the client of Glue")?;
        Ok(Glue { http, url, region, config })
    }

    /// Fails unless the database is there.
    pub async fn find_database(&self, name: &str) -> Result<()> {
        let found = self.ask("GetDatabase", &json!({"Name": name})).await?;
        let make = "make it with Terraform (module catalog), or with `aws glue create-database`";
        found.map(drop).ok_or_else(|| usage(format!("Glue has no database {name} in {}: {make}", self.region)))
    }

    /// A table. `None`: it is not there.
    pub async fn table(&self, database: &str, name: &str) -> Result<Option<Value>> {
        let answer = self.ask("GetTable", &json!({"DatabaseName": database, "Name": name})).await?;
        Ok(answer.map(|mut answer| answer["Table"].take()))
    }

    /// Makes a table.
    pub async fn create(&self, database: &str, table: &Value) -> Result<()> {
        self.change("CreateTable", database, table).await
    }

    /// Replaces a table's definition.
    pub async fn update(&self, database: &str, table: &Value) -> Result<()> {
        self.change("UpdateTable", database, table).await
    }

    async fn change(&self, operation: &str, database: &str, table: &Value) -> Result<()> {
        let done = self.ask(operation, &json!({"DatabaseName": database, "TableInput": table})).await?;
        done.map(drop).ok_or_else(|| anyhow!("Glue: {operation}: {database} or its table is not there any more"))
    }

    /// Makes a request until Glue can answer it. `None`: Glue says that there is no such thing.
    async fn ask(&self, operation: &str, body: &Value) -> Result<Option<Value>> {
        let body = body.to_string();
        let mut attempt = 1;
        loop {
            match self.ask_once(operation, &body).await? {
                Answer::Done(value) => return Ok(Some(value)),
                Answer::NotFound => return Ok(None),
                Answer::Refused { is_passing: true, why } if attempt < ATTEMPTS => {
                    tracing::debug!(operation, attempt, why, "Glue is asked again");
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
                    attempt += 1;
                }
                Answer::Refused { why, .. } => bail!(why),
            }
        }
    }

    async fn ask_once(&self, operation: &str, body: &str) -> Result<Answer> {
        let target = format!("AWSGlue.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let mut request = self.http.post(self.url.clone()).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in self.signature(&headers, body.as_bytes()).await? {
            request = request.header(name, value);
        }
        let sent = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.text().await?))
        };
        let (status, text) = match sent.await {
            Ok(answer) => answer,
            Err(error) => {
                let why = format!("Glue does not answer at {}: {:#}", self.url, anyhow!(error.without_url()));
                return Ok(Answer::Refused { is_passing: true, why });
            }
        };
        Ok(answer(operation, status, &text))
    }

    /// The headers that sign a request.
    async fn signature(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<(String, String)>> {
        let provider = self.config.credentials_provider().context("no AWS credentials are configured")?;
        let identity = provider.provide_credentials().await.context("no AWS credentials were found")?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("glue")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let body = SignableBody::Bytes(body);
        let request = SignableRequest::new("POST", self.url.as_str(), headers.iter().copied(), body)?;
        let (instructions, _) = sign(request, &parameters)?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// The domain of AWS in a region.
fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// What an answer means.
fn answer(operation: &str, status: StatusCode, text: &str) -> Answer {
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Object(Map::new()));
    if status.is_success() {
        return Answer::Done(value);
    }
    let kind = value["__type"].as_str().unwrap_or_default().rsplit('#').next().unwrap_or_default();
    if kind == "EntityNotFoundException" {
        return Answer::NotFound;
    }
    let message = value["Message"].as_str().or_else(|| value["message"].as_str()).unwrap_or(text);
    let message = message.chars().take(500).collect::<String>();
    Answer::Refused {
        is_passing: status.is_server_error() || PASSING.contains(&kind),
        why: format!("Glue refuses {operation}: {} {kind}: {message}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Schema};

    use super::*;

    fn wanted(fields: Vec<Field>) -> Value {
        let entry = Entry {
            name: "raw_x".to_owned(),
            description: "rows",
            location: "s3://b/lake/raw/x".to_owned(),
            schema: Arc::new(Schema::new(fields)),
            partition_columns: vec!["day".to_owned()],
        };
        table_input(&entry, &Url::parse("s3://b/lake/").unwrap())
    }

    fn fields() -> Vec<Field> {
        vec![Field::new("a", DataType::Utf8, true), Field::new("day", DataType::Date32, true)]
    }

    #[test]
    fn partition_columns_are_no_columns() {
        let table = wanted(fields());
        assert_eq!(table["PartitionKeys"], json!([{"Name": "day", "Type": "date"}]));
        assert_eq!(table["StorageDescriptor"]["Columns"], json!([{"Name": "a", "Type": "string"}]));
    }

    #[test]
    fn comments_are_one_line_that_glue_takes() {
        let check = |text: &str, expected: &str| {
            let metadata = [("comment".to_owned(), text.to_owned())].into();
            let column = column(&Field::new("A", DataType::Utf8, true).with_metadata(metadata));
            assert_eq!(column, json!({"Name": "a", "Type": "string", "Comment": expected}));
        };
        check("two\n lines", "two lines");
        // 254 bytes: one more would cut a letter of two bytes.
        check(&"\u{e9}".repeat(200), &"\u{e9}".repeat(127));
    }

    #[test]
    fn only_what_is_ours_and_differs_is_changed() {
        let check = |wanted: &Value, found: &Value, expected: Change| {
            assert_eq!(change(wanted, Some(found), false), expected, "{found}");
        };
        let update = |why: &str| Change::Update { why: why.to_owned() };
        let table = wanted(fields());
        assert_eq!(change(&table, None, false), Change::Create);
        let mut found = table.clone();
        // What Glue and others add does not matter.
        found["CreateTime"] = json!(1.5);
        found["Parameters"]["of_somebody"] = json!("x");
        check(&table, &found, Change::None);
        let more = wanted([fields(), vec![Field::new("b", DataType::Int64, true)]].concat());
        check(&more, &found, update("StorageDescriptor.Columns"));
        assert_eq!(merged(more, &found)["Parameters"]["of_somebody"], "x");
        found["Parameters"]["table_type"] = json!("ICEBERG");
        check(&table, &found, update("Parameters.table_type"));
        assert_eq!(merged(table.clone(), &found)["Parameters"]["table_type"], "DELTA");
        let mut unpartitioned = wanted(vec![]);
        unpartitioned.as_object_mut().unwrap().remove("PartitionKeys");
        check(&wanted(vec![]), &unpartitioned, Change::None);
    }

    #[test]
    fn tables_of_others_are_left_alone_unless_they_are_adopted() {
        let table = wanted(fields());
        let is_left = |found: &Value, adopt: bool| matches!(change(&table, Some(found), adopt), Change::NotOurs { .. });
        let mut crawled = table.clone();
        crawled["Parameters"].as_object_mut().unwrap().remove(OWNER);
        crawled["StorageDescriptor"]["Location"] = json!("s3://b/lake/raw/x/");
        assert!(is_left(&crawled, false) && !is_left(&crawled, true));
        crawled["StorageDescriptor"]["Location"] = json!("s3://b/other/");
        assert!(is_left(&crawled, true) && is_left(&json!({}), true));
        let mut other = table.clone();
        other["Parameters"][OWNER] = json!("s3://other/");
        let Change::NotOurs { why } = change(&table, Some(&other), false) else { panic!("not left alone") };
        assert!(why.contains("s3://other/"), "{why}");
    }

    #[test]
    fn answers_are_told_apart() {
        let refused = |status: u16, text: &str| match answer("GetTable", StatusCode::from_u16(status).unwrap(), text) {
            Answer::Refused { is_passing, why } => (is_passing, why),
            _ => panic!("{status} {text}"),
        };
        let not_found = r#"{"__type": "com.amazonaws.glue#EntityNotFoundException"}"#;
        assert!(matches!(answer("GetTable", StatusCode::BAD_REQUEST, not_found), Answer::NotFound));
        let (is_passing, why) = refused(400, r#"{"__type": "AccessDeniedException", "Message": "not you"}"#);
        assert_eq!((is_passing, why.as_str()), (false, "Glue refuses GetTable: 400 AccessDeniedException: not you"));
        assert!(refused(400, r#"{"__type": "ThrottlingException"}"#).0);
        assert!(refused(503, "<html>").0);
    }
}
