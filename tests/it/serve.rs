//! `adlake serve`: what it answers, to whom, and what it does while the lake changes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::process::Process;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub const DEADLINE: Duration = Duration::from_secs(60);
/// What a question's answer must agree with.
const KPIS: &str = "SELECT campaign_id, impressions, clicks, conversions, spend, revenue, reach, ctr, roas \
                    FROM campaign_kpis ORDER BY campaign_id";

/// A lake with a server.
pub struct Server {
    pub adlake: Adlake,
    pub process: Process,
    pub port: u16,
    pub client: Client,
    scheme: &'static str,
}

/// The configuration of a lake in a folder, and of its server.
pub fn config(folder: &Path, more: &str) -> String {
    let lake = folder.join("lake");
    format!("[lake]\nuri = \"{}\"\n[serve]\nrefresh_interval = \"50ms\"\n{more}", lake.display())
}

/// Generates events into a folder of their own, and ingests them.
pub fn ingest(adlake: &Adlake, folder: &Path, name: &str, seed: u64, events: usize) {
    let (seed, events) = (seed.to_string(), events.to_string());
    adlake.ok(["generate", "--to-files", name, "--seed", &seed, "--events", &events, "--quiet"]);
    if seed == "1" {
        for kind in ["creatives", "campaigns"] {
            let file = folder.join(name).join(format!("{kind}.csv"));
            adlake.ok(["ref", "load", kind, &file.to_string_lossy(), "--quiet"]);
        }
    }
    adlake.ok(["ingest", "files", &format!("{name}/events"), "--quiet"]);
}

impl Server {
    pub async fn start(adlake: Adlake) -> Result<Server> {
        Server::start_for(adlake, "http", Client::new()).await
    }

    /// With another client, which speaks TLS or not.
    pub async fn start_for(adlake: Adlake, scheme: &'static str, client: Client) -> Result<Server> {
        let port = setup::free_port()?;
        let process = adlake.spawn(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        let mut server = Server { adlake, process, port, client, scheme };
        server.ready().await?;
        Ok(server)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    async fn ready(&mut self) -> Result<()> {
        let url = self.url("/readyz");
        let done = wait::until_async(DEADLINE, "a ready server", async || {
            let response = self.client.get(&url).send().await;
            Ok(response.is_ok_and(|response| response.status().is_success()))
        });
        done.await.with_context(|| self.process.logs())
    }

    pub async fn get(&self, path: &str, key: Option<&str>) -> Result<Response> {
        let request = self.client.get(self.url(path));
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        Ok(request.send().await?)
    }

    pub async fn post(&self, question: &Value, key: Option<&str>, headers: &[(&str, &str)]) -> Result<Response> {
        let request = self.client.post(self.url("/v1/query")).header("content-type", "application/json");
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Ok(request.body(question.to_string()).send().await?)
    }

    /// An answer, or what was told instead.
    pub async fn json(response: Response) -> Result<(u16, Value)> {
        let (status, text) = (response.status().as_u16(), response.text().await?);
        Ok((status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).context(text)? }))
    }

    /// A problem without the number of its request, which must be the header's.
    pub async fn problem(response: Response) -> Result<(u16, Value)> {
        let header = response.headers().get("x-request-id").context("no request id")?.to_str()?.to_owned();
        let (status, mut body) = Server::json(response).await?;
        let id = body.as_object_mut().and_then(|body| body.remove("request_id"));
        ensure!(id == Some(json!(header)), "{status}: {body} names {id:?}, not {header}");
        Ok((status, body))
    }

    /// The answer to a question.
    pub async fn ask(&self, question: &Value) -> Result<Value> {
        let response = self.post(question, None, &[]).await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{question}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits until the server answers as `adlake query` does.
    async fn agrees(&self) -> Result<Value> {
        let question = json!({
            "metrics": ["impressions", "clicks", "conversions", "spend", "revenue", "reach", "ctr", "roas"],
            "dimensions": ["campaign_id"], "filters": ["!=", "campaign_id", null], "totals": true,
        });
        let expected = self.adlake.query_json(KPIS);
        let columns =
            ["campaign_id", "impressions", "clicks", "conversions", "spend", "revenue", "reach", "ctr", "roas"];
        let expected: Vec<Vec<String>> =
            expected.iter().map(|row| columns.iter().map(|name| plain(&row[*name])).collect()).collect();
        ensure!(expected.len() > 3, "too few campaigns");
        let mut last = Value::Null;
        let done = wait::value_async(DEADLINE, "an answer as of `adlake query`", async || {
            last = self.ask(&question).await?;
            let rows = last["rows"].as_array().context("no rows")?;
            let found: Vec<Vec<String>> =
                rows.iter().map(|row| row.as_array().into_iter().flatten().map(plain).collect()).collect();
            Ok((found == expected).then(|| last.clone()))
        });
        done.await.with_context(|| format!("expected {:?}\n{}", expected.first(), self.process.logs()))
    }
}

/// A value without what JSON adds, and decimals without the noughts at their end.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), String::from);
    match text.split_once('.') {
        Some((whole, fraction)) if whole.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) => {
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
        _ => text,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_as_the_command_line_while_the_lake_changes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), ""));
    ingest(&adlake, folder.path(), "a", 1, 3_000);
    let mut server = Server::start(adlake).await?;
    // Without a batch run, with one, with a tail, after a run over it.
    let first = server.agrees().await?;
    ensure!(first["meta"]["manifest"].is_null() && first["meta"]["source"] == "memory", "{}", first["meta"]);
    server.adlake.ok(["batch", "run", "--quiet"]);
    let run = wait::value_async(DEADLINE, "the published run", async || {
        let answer = server.ask(&json!({"metrics": ["clicks"]})).await?;
        Ok((answer["meta"]["manifest"]["run"] == 1).then_some(answer))
    });
    run.await?;
    server.agrees().await?;
    ingest(&server.adlake, folder.path(), "b", 2, 2_000);
    let tail = server.agrees().await?;
    ensure!(tail["meta"]["versions"]["raw/impressions"].as_i64() > Some(1), "{}", tail["meta"]);
    server.adlake.ok(["batch", "run", "--quiet"]);
    let before = server.agrees().await?;

    // Killed and started again, it answers the same.
    server.process.kill9()?;
    let again = Server::start(server.adlake).await?;
    let after = again.agrees().await?;
    ensure!(after["totals"] == before["totals"] && after["rows"] == before["rows"], "{after} is not {before}");
    formats(&again).await?;
    pages(&again).await?;
    shortcuts(&again).await?;
    refusals(&again).await?;
    events(again, folder.path()).await
}

/// JSON, CSV, and nothing where the client has it already.
async fn formats(server: &Server) -> Result<()> {
    let question =
        json!({"metrics": ["impressions", "spend"], "dimensions": ["website"], "order": ["-impressions"], "limit": 3});
    let response = server.post(&question, None, &[("accept", "text/csv")]).await?;
    let kind = response.headers()["content-type"].to_str()?.to_owned();
    let text = response.text().await?;
    ensure!(kind.starts_with("text/csv") && text.starts_with("website,impressions,spend\r\n"), "{kind}: {text}");
    ensure!(text.lines().count() == 4, "{text}");
    let response = server.post(&question, None, &[]).await?;
    let etag = response.headers()["etag"].to_str()?.to_owned();
    let response = server.post(&question, None, &[("if-none-match", &etag)]).await?;
    ensure!(response.status() == StatusCode::NOT_MODIFIED && response.bytes().await?.is_empty(), "sent again");
    let response = server.post(&question, None, &[("accept", "image/png")]).await?;
    ensure!(response.status() == StatusCode::NOT_ACCEPTABLE, "{}", response.status());
    for path in ["/openapi.json", "/docs", "/docs.css", "/metrics", "/healthz", "/v1/metrics", "/v1/whoami"] {
        let response = server.get(path, None).await?;
        ensure!(response.status().is_success(), "{path}: {}", response.status());
    }
    Ok(())
}

/// Page by page, an answer has the rows that it has at once.
async fn pages(server: &Server) -> Result<()> {
    let mut question = json!({"metrics": ["impressions"], "dimensions": ["website", "device_type"],
                              "order": ["-impressions"], "limit": 10_000});
    let whole = server.ask(&question).await?;
    question["limit"] = json!(7);
    let (mut rows, mut cursor) = (Vec::new(), Value::Null);
    loop {
        question["cursor"] = cursor.clone();
        let page = server.ask(&question).await?;
        rows.extend(page["rows"].as_array().context("no rows")?.clone());
        cursor = page["meta"]["next_cursor"].clone();
        ensure!(page["meta"]["truncated"] == Value::Bool(!cursor.is_null()), "{}", page["meta"]);
        if cursor.is_null() {
            break;
        }
    }
    ensure!(rows.len() > 7 && Value::Array(rows) == whole["rows"], "the pages are not the whole");
    question["cursor"] = json!("1-1-1-1-1-1-1.7.00");
    let response = server.post(&question, None, &[]).await?;
    ensure!(response.status() == StatusCode::UNPROCESSABLE_ENTITY, "{}", response.status());
    Ok(())
}

/// The convenient addresses agree with the views.
async fn shortcuts(server: &Server) -> Result<()> {
    let json = async |path: &str| -> Result<Value> {
        let response = server.get(path, None).await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    };
    let campaigns = json("/v1/campaigns").await?;
    let id = campaigns["campaigns"][0]["campaign_id"].as_str().context("no campaign")?.to_owned();
    ensure!(campaigns["campaigns"][0]["advertiser_id"].is_string(), "{campaigns}");
    let funnel = json(&format!("/v1/campaigns/{id}/funnel")).await?;
    let sql = format!("SELECT stage, events, rate FROM funnel WHERE campaign_id = '{id}'");
    let expected = server.adlake.query_json(&sql);
    for stage in funnel["stages"].as_array().context("no stages")? {
        let row = expected.iter().find(|row| row["stage"] == stage["stage"]).context("no such stage")?;
        ensure!(plain(&row["events"]) == plain(&stage["events"]), "{stage} is not {row:?}");
        ensure!(plain(&row["rate"]) == plain(&stage["rate"]), "{stage} is not {row:?}");
    }
    let sql = "SELECT count(*) AS n FROM attributions a WHERE interaction_type = 'conversion' AND last_touch";
    let expected = server.adlake.query_json(sql)[0]["n"].as_i64();
    let delays = json("/v1/campaigns/all/time_to_conversion").await?;
    let counted: i64 =
        delays["buckets"].as_array().context("no buckets")?.iter().filter_map(|b| b["conversions"].as_i64()).sum();
    ensure!(Some(counted) == expected && counted > 0, "{counted} conversions, not {expected:?}");
    let models = json(&format!("/v1/campaigns/{id}/attribution")).await?;
    ensure!(models["rows"].as_array().is_some_and(|rows| rows.len() == 5), "{models}");
    let series = json(&format!("/v1/campaigns/{id}/timeseries?grain=hour&metrics=impressions")).await?;
    let sum: i64 = series["rows"].as_array().context("no rows")?.iter().filter_map(|row| row[1].as_i64()).sum();
    let whole = json(&format!("/v1/campaigns/{id}")).await?;
    ensure!(whole["totals"][0].as_i64() == Some(sum) && sum > 0, "{sum} in hours, {}", whole["totals"]);
    json(&format!("/v1/campaigns/{id}/geography")).await?;
    let freshness = json("/v1/freshness").await?;
    ensure!(freshness["tables"].as_array().is_some_and(|tables| tables.len() == 3), "{freshness}");
    ensure!(freshness["server"]["is_stale"] == false, "{freshness}");
    json("/v1/dead_letters").await?;
    ensure!(server.get("/v1/campaigns/nobody/funnel", None).await?.status() == StatusCode::NOT_FOUND);
    let surplus = server.get("/v1/campaigns/all/funnel?from=2025-01-01&compare=previous_period", None).await?;
    ensure!(surplus.status() == StatusCode::BAD_REQUEST, "{}", surplus.status());
    let told = surplus.text().await?;
    ensure!(told.contains("no parameter compare"), "{told}");
    ensure!(server.get("/v1/nothing", None).await?.status() == StatusCode::NOT_FOUND);
    Ok(())
}

/// What cannot be answered is refused in words that name the member.
async fn refusals(server: &Server) -> Result<()> {
    let check = async |question: Value, status: u16, code: &str, pointer: Option<&str>| -> Result<()> {
        let response = server.post(&question, None, &[]).await?;
        let kind = response.headers()["content-type"].to_str()?.to_owned();
        let (found, body) = Server::problem(response).await?;
        ensure!(found == status && kind == "application/problem+json", "{question}: {found} {kind}");
        ensure!(body["code"] == code && body["pointer"].as_str() == pointer, "{question}: {body}");
        Ok(())
    };
    check(json!({"metrics": ["click"]}), 422, "unknown_metric", Some("/metrics/0")).await?;
    check(json!({"metrics": ["clicks"], "dimension": []}), 400, "malformed_query", None).await?;
    // A list of its members is no object.
    for list in [json!([1]), json!([["clicks"]]), json!({"metrics": ["clicks"], "time": [null, null]})] {
        check(list, 400, "malformed_query", None).await?;
    }
    check(json!({"metrics": ["clicks"], "limit": 7.5}), 400, "malformed_query", None).await?;
    server.ask(&json!({"metrics": ["clicks"], "limit": 7.0})).await?;
    check(json!({"metrics": ["clicks"], "filters": ["in", "country", 1]}), 422, "bad_filter", Some("/filters/2"))
        .await?;
    let large = json!({"metrics": ["clicks"], "filters": ["in", "country", ["x".repeat(1 << 20)]]});
    check(large, 413, "body_too_large", None).await?;
    refused_bodies(server).await?;
    let response =
        server.post(&json!({"metrics": ["clicks"]}), None, &[("x-adlake-snapshot", "9-9-9-9-9-9-9")]).await?;
    ensure!(response.status() == StatusCode::SERVICE_UNAVAILABLE && response.headers().contains_key("retry-after"));
    Ok(())
}

/// A connection on which a body was refused before it was read takes the next request, or tells the
/// client that it ends.
async fn refused_bodies(server: &Server) -> Result<()> {
    let post = |length: usize| {
        format!(
            "POST /v1/query HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n",
            server.port
        )
    };
    for (length, is_kept) in [(1_000, true), (300_000, true), (3 << 20, true), (8 << 20, false)] {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", server.port)).await?);
        stream.write_all(post(length).as_bytes()).await?;
        // The server may end the connection before it has all.
        let sent = stream.write_all(&vec![b'x'; length]).await;
        ensure!(sent.is_ok() || !is_kept, "{length}: {sent:?}");
        let mut statuses = Vec::new();
        for next in [post(2) + "{}", String::new()] {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                ensure!(stream.read_until(b'\n', &mut head).await? > 0, "{length}: no answer after {statuses:?}");
            }
            let head = String::from_utf8(head)?.to_lowercase();
            statuses.push(head.lines().next().unwrap_or_default().to_owned());
            ensure!(head.contains("connection: close") != is_kept, "{length}: {head}");
            if !is_kept {
                break;
            }
            let body = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
            stream.read_exact(&mut vec![0; body.parse()?]).await?;
            stream.write_all(next.as_bytes()).await?;
        }
        ensure!(statuses.len() == if is_kept { 2 } else { 1 }, "{length}: {statuses:?}");
    }
    Ok(())
}

/// A client that listens is told when an answer changes.
async fn events(server: Server, folder: &Path) -> Result<()> {
    let question = json!({"metrics": ["impressions"]}).to_string();
    let url = reqwest::Url::parse_with_params(&server.url("/v1/live"), [("query", question)])?;
    let mut stream = server.client.get(url).send().await?;
    ensure!(stream.status().is_success(), "{}", stream.status());
    let mut text = String::new();
    let mut counts: Vec<i64> = Vec::new();
    let mut is_grown = false;
    while counts.len() < 2 || counts.first() == counts.last() {
        let chunk = tokio::time::timeout(DEADLINE, stream.chunk()).await??.context("the stream ended")?;
        text.push_str(&String::from_utf8_lossy(&chunk));
        while let Some((event, rest)) = text.split_once("\n\n") {
            if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                let answer: Value = serde_json::from_str(data)?;
                let id = event.lines().find_map(|line| line.strip_prefix("id: ")).context("no id")?;
                ensure!(answer["meta"]["snapshot"] == id, "{id} is not the snapshot of {data}");
                counts.push(answer["rows"][0][0].as_i64().context("no count")?);
            }
            text = rest.to_owned();
        }
        if !is_grown && !counts.is_empty() {
            is_grown = true;
            ingest(&server.adlake, folder, "c", 3, 500);
        }
    }
    ensure!(counts.first() < counts.last(), "{counts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_is_not_theirs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let keys = folder.path().join("keys.toml");
    let config = config(folder.path(), &format!("keys_file = \"{}\"\n", keys.display()));
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    ingest(&adlake, folder.path(), "a", 1, 3_000);
    let all = adlake.query_json("SELECT campaign_id, impressions FROM campaign_kpis ORDER BY impressions DESC");
    let own = all[0]["campaign_id"].as_str().context("no campaign")?.to_owned();
    let other = all[1]["campaign_id"].as_str().context("no campaign")?.to_owned();
    let create = |id: &str, more: &[&str]| -> Result<String> {
        let text = adlake.ok([&["keys", "create", id, "--format", "json"], more].concat());
        Ok(serde_json::from_str::<Value>(&text)?["key"].as_str().context("no key")?.to_owned())
    };
    let admin = create("boss", &["--role", "admin"])?;
    let analyst = create("ana", &["--role", "analyst"])?;
    let advertiser = create("ad", &["--role", "advertiser", "--campaign", &own])?;
    ensure!(!fs::read_to_string(&keys)?.contains(&admin), "the key itself is stored");
    let server = Server::start(adlake).await?;

    // Without a key, and with a wrong one, everything is refused in the same way.
    let wrong = format!("{admin}x");
    for path in ["/v1/metrics", "/v1/campaigns", "/v1/freshness", "/v1/dead_letters", "/metrics", "/v1/whoami"] {
        for key in [None, Some(wrong.as_str())] {
            let status = server.get(path, key).await?.status();
            ensure!(status == StatusCode::UNAUTHORIZED, "{path}: {status}");
        }
    }
    let question = json!({"metrics": ["impressions"]});
    ensure!(server.post(&question, None, &[]).await?.status() == StatusCode::UNAUTHORIZED);

    // Sums, totals, groups, lists and other people's campaigns.
    let total = async |key: &str, question: &Value| -> Result<Value> {
        Ok(serde_json::from_str(&server.post(question, Some(key), &[]).await?.text().await?)?)
    };
    let grouped = json!({"metrics": ["impressions"], "dimensions": ["campaign_id"], "totals": true});
    let mine = total(&advertiser, &grouped).await?;
    let expected = json!([[own, all[0]["impressions"]]]);
    ensure!(mine["rows"] == expected && mine["totals"][1] == all[0]["impressions"], "{mine}");
    ensure!(total(&analyst, &grouped).await?["rows"].as_array().is_some_and(|rows| rows.len() > 3));
    for filters in [
        json!(["=", "campaign_id", other]),
        json!(["or", ["=", "campaign_id", other], ["=", "campaign_id", null]]),
        json!(["not", ["=", "campaign_id", own]]),
    ] {
        let question = json!({"metrics": ["impressions", "reach"], "dimensions": ["campaign_id"],
                              "filters": filters, "totals": true});
        let answer = total(&advertiser, &question).await?;
        ensure!(
            answer["rows"] == json!([]) && answer["totals"][1] == 0 && answer["totals"][2] == 0,
            "{filters}: {answer}"
        );
    }
    let listed = server.get("/v1/campaigns", Some(&advertiser)).await?.text().await?;
    ensure!(listed.contains(&own) && !listed.contains(&other), "{listed}");
    for what in ["", "/timeseries", "/funnel", "/geography", "/attribution", "/time_to_conversion"] {
        let foreign = server.get(&format!("/v1/campaigns/{other}{what}"), Some(&advertiser)).await?;
        let unknown = server.get(&format!("/v1/campaigns/nobody{what}"), Some(&advertiser)).await?;
        ensure!(foreign.status() == StatusCode::NOT_FOUND && unknown.status() == StatusCode::NOT_FOUND, "{what}");
        let (foreign, unknown) = (Server::problem(foreign).await?, Server::problem(unknown).await?);
        ensure!(foreign == unknown, "{what} tells that a campaign exists");
        let own = server.get(&format!("/v1/campaigns/{own}{what}"), Some(&advertiser)).await?;
        ensure!(own.status().is_success(), "{what}: {}", own.status());
    }
    for path in ["/v1/dead_letters", "/metrics"] {
        for key in [&advertiser, &analyst] {
            ensure!(server.get(path, Some(key)).await?.status() == StatusCode::FORBIDDEN, "{path}");
        }
        ensure!(server.get(path, Some(&admin)).await?.status().is_success(), "{path}");
    }
    let fresh: Value = serde_json::from_str(&server.get("/v1/freshness", Some(&advertiser)).await?.text().await?)?;
    ensure!(fresh["tables"][0].get("rows").is_none(), "{fresh}");

    // A cursor and an ETag of one key are of no use to another.
    let paged = json!({"metrics": ["impressions"], "dimensions": ["campaign_id"], "limit": 1});
    let response = server.post(&paged, Some(&analyst), &[]).await?;
    let etag = response.headers()["etag"].to_str()?.to_owned();
    let body: Value = serde_json::from_str(&response.text().await?)?;
    let mut stolen = paged.clone();
    stolen["cursor"] = body["meta"]["next_cursor"].clone();
    ensure!(stolen["cursor"].is_string(), "{body}");
    let refused = server.post(&stolen, Some(&advertiser), &[]).await?;
    ensure!(refused.status() == StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.status());
    let other = server.post(&paged, Some(&advertiser), &[("if-none-match", &etag)]).await?;
    ensure!(other.status() == StatusCode::OK, "{}", other.status());
    Ok(())
}

#[test]
fn a_server_without_keys_is_for_its_own_machine() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), ""));
    ingest(&adlake, folder.path(), "a", 1, 200);
    let refused = adlake.run(["serve", "--listen", "0.0.0.0:0"]);
    ensure!(refused.status.code() == Some(2) && refused.stderr.contains("serve.keys_file"), "{}", refused.stderr);
    let refused = adlake.run(["keys", "create", "a_b", "--role", "admin"]);
    ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
    let none = Adlake::in_dir(folder.path()).config("[lake]\nuri = \"nowhere\"\n");
    let refused = none.run(["serve", "--listen", "127.0.0.1:0"]);
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("no lake"), "{}", refused.stderr);
    Ok(())
}
