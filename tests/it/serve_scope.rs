//! What an advertiser's key learns of others: nothing, at every address that `/openapi.json` knows.
//!
//! There are two lakes. One has the events of two advertisers, the other only those of ours (and
//! those of no known campaign, which belong to both). Whatever our key asks, both servers answer
//! the same: then nothing of the other advertiser is in any answer, be it a name, a sum, a count or
//! a time. Questions about what is theirs are answered like questions about what does not exist.

mod ask;
mod lakes;

use std::collections::BTreeSet;

use adlake_tests::wait;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use self::ask::Both;
use self::lakes::{OURS, THEIRS, both};
use crate::serve::DEADLINE;

/// The addresses below a campaign.
const BELOW: [&str; 7] =
    ["", "/timeseries", "/funnel", "/geography", "/attribution", "/time_to_conversion", "/invalid_traffic"];
/// What no campaign is called.
const NOBODY: &str = "nobody";

#[tokio::test(flavor = "multi_thread")]
async fn an_advertisers_key_learns_nothing_of_others_at_any_address() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lakes = both(folder.path()).await?;
    // A key of the advertiser, and one of a single campaign.
    for (key, campaigns) in [(&lakes.advertiser, &OURS[..]), (&lakes.campaign, &OURS[..1])] {
        let both = Both::new(&lakes, key);
        let document = both.get("/openapi.json").await?;
        let paths = document["paths"].as_object().context("no paths")?;
        let mut asked = 0;
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().context("no methods")? {
                walk(&both, method, path, operation, campaigns, &document)
                    .await
                    .with_context(|| format!("{method} {path}"))?;
                asked += 1;
            }
        }
        println!("{asked} operations, {} answers compared", both.compared());
        ensure!(asked > 20 && both.compared() > 300, "{asked} operations, {} answers", both.compared());
    }
    formats_and_pages(&lakes).await?;
    events(&lakes).await
}

/// Asks one operation in every way that it can be asked.
async fn walk(
    both: &Both<'_>,
    method: &str,
    path: &str,
    operation: &Value,
    campaigns: &[&str],
    document: &Value,
) -> Result<()> {
    let names: BTreeSet<&str> =
        operation["parameters"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    let knows = |known: &[&str]| -> Result<()> {
        let unknown: Vec<&&str> = names.iter().filter(|name| !known.contains(*name)).collect();
        ensure!(unknown.is_empty(), "this test does not know the parameters {unknown:?}");
        Ok(())
    };
    match (method, path) {
        ("get", "/" | "/docs" | "/docs.css" | "/healthz" | "/readyz" | "/v1/session" | "/openapi.json") => {
            knows(&[])?;
            both.same(path).await?;
        }
        ("get", "/{file}") => {
            knows(&["file"])?;
            both.same("/nothing").await?;
        }
        ("get", "/v1/metrics" | "/v1/whoami") => {
            knows(&[])?;
            both.same(path).await?;
        }
        ("get", "/v1/freshness") => {
            knows(&["X-Adlake-Snapshot"])?;
            freshness(both).await?;
        }
        ("get", "/v1/dead_letters" | "/v1/quality" | "/metrics") => {
            knows(&["X-Adlake-Snapshot"])?;
            ensure!(both.same(path).await?.0 == 403);
        }
        ("get", "/v1/campaigns") => {
            knows(&["search", "limit", "X-Adlake-Snapshot"])?;
            let (_, all) = both.same(path).await?;
            let listed: Vec<&str> = all["campaigns"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["campaign_id"].as_str())
                .collect();
            ensure!(listed == campaigns, "{listed:?}");
            for search in ["our", "zebra", "Zebra", "c-", "shared"] {
                for limit in [1, 2, 100] {
                    both.same(&format!("{path}?search={search}&limit={limit}")).await?;
                }
            }
        }
        ("get", _) if path.starts_with("/v1/campaigns/{id}") => {
            knows(&["id", "from", "to", "zone", "compare", "grain", "metrics", "X-Adlake-Snapshot"])?;
            let below = path.trim_start_matches("/v1/campaigns/{id}");
            ensure!(BELOW.contains(&below), "this test does not know {below}");
            campaign(both, below, campaigns).await?;
        }
        ("get", "/v1/alarms") => {
            knows(&[])?;
            alarms(both, campaigns).await?;
        }
        ("get", "/runbooks/{file}") => {
            knows(&["file"])?;
            ensure!(both.same("/runbooks/ctr_drop.md").await?.0 == 200);
            both.same("/runbooks/nothing").await?;
        }
        ("get", "/v1/alarms/history") => {
            knows(&["from", "to", "rule", "like", "limit"])?;
            let mut seen = Vec::new();
            wait::until_async(DEADLINE, "the history of our alarms", async || {
                seen = both.answers(path).await?;
                Ok(seen.iter().all(|answer| answer["alarms"].as_array().is_some_and(|listed| !listed.is_empty())))
            })
            .await
            .with_context(|| format!("{seen:?}"))?;
            for answer in seen {
                let listed = answer["alarms"].as_array().context("no alarms")?;
                let is_own = |alarm: &Value| {
                    alarm["group"]["campaign_id"].as_str().is_some_and(|campaign| campaigns.contains(&campaign))
                };
                ensure!(listed.iter().all(is_own), "{answer}");
                ensure!(!answer.to_string().contains("zebra"), "{answer}");
            }
            let unknown = both.same(&format!("{path}?like={NOBODY}")).await?;
            let foreign = both.same(&format!("{path}?like={}", both.lakes.alarm)).await?;
            ensure!(unknown.0 == 404 && foreign == unknown, "{foreign:?} is not {unknown:?}");
        }
        ("get", "/v1/alarms/{id}/series") => {
            knows(&["id", "hours"])?;
            let unknown = both.same(&format!("/v1/alarms/{NOBODY}/series")).await?;
            let foreign = both.same(&format!("/v1/alarms/{}/series", both.lakes.alarm)).await?;
            ensure!(unknown.0 == 404 && foreign == unknown, "{foreign:?} is not {unknown:?}");
        }
        ("post", "/v1/alarms/{id}/ack") => {
            knows(&["id"])?;
            for id in [both.lakes.alarm.as_str(), NOBODY] {
                let answer = both.send("POST", &format!("/v1/alarms/{id}/ack"), &[], None).await?;
                ensure!(answer.0 == 403, "{id}: {answer:?}");
            }
        }
        ("post", "/v1/alarms/silences") => {
            for rule in ["paced", NOBODY, "*"] {
                let body = json!({"rule": rule, "labels": {"campaign_id": THEIRS[0]}, "for": "1h"});
                let answer = both.send("POST", path, &[("content-type", "application/json")], Some(&body)).await?;
                ensure!(answer.0 == 403, "{rule}: {answer:?}");
            }
        }
        ("post", "/v1/query") => {
            knows(&["X-Adlake-Snapshot"])?;
            queries(both, document).await?;
        }
        ("get", "/v1/live") => knows(&["query", "Last-Event-ID"])?, // In `events`.
        ("post" | "delete", "/v1/session") => {
            let body = json!({"key": "adlk_zebra-key_00"});
            let (method, kind) = (method.to_uppercase(), [("content-type", "application/json")]);
            let (status, _) = both.send(&method, path, &kind, Some(&body)).await?;
            ensure!([401, 204].contains(&status), "{status}");
        }
        _ => bail!("this test does not know how to ask it"),
    }
    Ok(())
}

/// How many events there are is told to nobody whose they are not.
async fn freshness(both: &Both<'_>) -> Result<()> {
    for answer in both.answers("/v1/freshness").await? {
        for table in answer["tables"].as_array().context("no tables")? {
            let members: Vec<&String> = table.as_object().context("no table")?.keys().collect();
            ensure!(members == ["newest_event_time", "newest_ingested_at", "published_at", "table"], "{table}");
        }
        ensure!(answer["server"]["problem"].is_null(), "{answer}");
    }
    Ok(())
}

async fn campaign(both: &Both<'_>, below: &str, campaigns: &[&str]) -> Result<()> {
    let day = |place: i64| both.lakes.day(place);
    let closed = format!("from={}&to={}", day(3), day(9));
    let ways = [
        String::new(),
        closed.clone(),
        format!("to={}", day(9)),
        format!("{closed}&compare=previous_period"),
        format!("{closed}&compare=same_weekdays&grain=hour"),
        format!("{closed}&compare=previous_year&grain=week&metrics=impressions,ctr,spend"),
        format!("{closed}&grain=month&zone=America/New_York"),
        "grain=hour&metrics=impressions".to_owned(),
        "zone=Asia/Kathmandu".to_owned(),
        "grain=day&metrics=clicks,unknown".to_owned(),
        "from=yesterday".to_owned(),
        "nothing=1".to_owned(),
    ];
    for way in &ways {
        for id in campaigns.iter().chain(&["all"]) {
            both.same(&format!("/v1/campaigns/{id}{below}?{way}")).await?;
        }
        let unknown = both.same(&format!("/v1/campaigns/{NOBODY}{below}?{way}")).await?;
        for id in THEIRS.iter().chain(&["zebras", "null"]) {
            let foreign = both.same(&format!("/v1/campaigns/{id}{below}?{way}")).await?;
            ensure!(foreign == unknown, "{id} {way}: {foreign:?} is not {unknown:?}");
        }
    }
    ensure!(both.same(&format!("/v1/campaigns/{}{below}", THEIRS[0])).await?.0 == 404);
    if below == "/invalid_traffic" {
        // There is something of ours that could be mixed up with theirs.
        for id in campaigns.iter().chain(&["all"]) {
            let (status, own) = both.same(&format!("/v1/campaigns/{id}{below}?{closed}")).await?;
            let has_some = own["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty());
            ensure!(status == 200 && has_some, "{id}: {status} {own}");
        }
    }
    Ok(())
}

/// Rules watch all campaigns. Each of them has an alarm in the lake that has it.
async fn alarms(both: &Both<'_>, campaigns: &[&str]) -> Result<()> {
    let mut seen = Vec::new();
    wait::until_async(DEADLINE, "the alarms of our campaigns", async || {
        seen = both.answers("/v1/alarms").await?;
        let counts = seen.iter().map(|answer| answer["alarms"].as_array().map_or(0, Vec::len));
        Ok(counts.eq([campaigns.len(); 2]))
    })
    .await
    .with_context(|| format!("{seen:?}"))?;
    for answer in &seen {
        ensure!(answer["silences"].is_null() && answer["sinks"].is_null() && answer["problem"].is_null(), "{answer}");
        ensure!(!answer.to_string().contains("zebra"), "{answer}");
    }
    let values = |answer: &Value| -> Vec<(Value, Value)> {
        let alarms = answer["alarms"].as_array().cloned().unwrap_or_default();
        alarms.into_iter().map(|alarm| (alarm["group"].clone(), alarm["cause"].clone())).collect()
    };
    ensure!(values(&seen[0]) == values(&seen[1]), "{seen:?}");
    Ok(())
}

/// Every metric by every dimension, all pairs of dimensions, and everything else that can be asked.
async fn queries(both: &Both<'_>, document: &Value) -> Result<()> {
    let question = &document["components"]["schemas"]["Question"]["properties"];
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(String::from)).collect()
    };
    let members: BTreeSet<&str> = question.as_object().context("no members")?.keys().map(String::as_str).collect();
    let known = ["metrics", "dimensions", "filters", "time", "compare", "model", "order", "limit", "totals", "cursor"];
    ensure!(members == BTreeSet::from(known), "this test does not know all of {members:?}");
    let metrics = texts(&question["metrics"]["items"]["enum"]);
    let dimensions = texts(&question["dimensions"]["items"]["enum"]);
    ensure!(metrics.len() > 40 && dimensions.len() == 8, "{metrics:?} {dimensions:?}");
    let sums: Vec<&String> = metrics.iter().filter(|name| !["reach", "frequency"].contains(&name.as_str())).collect();

    for metric in &metrics {
        both.asked(&json!({"metrics": [metric], "totals": true})).await?;
        both.asked(&json!({"metrics": [metric], "dimensions": ["campaign_id"], "totals": true})).await?;
    }
    for (place, one) in dimensions.iter().enumerate() {
        both.asked(&json!({"metrics": sums, "dimensions": [one], "totals": true})).await?;
        both.asked(&json!({"metrics": ["reach", "impressions"], "dimensions": [one]})).await?;
        for other in &dimensions[place + 1..] {
            both.asked(&json!({"metrics": sums, "dimensions": [one, other], "totals": true})).await?;
        }
        // Theirs, and what is nobody's. What is asked for is not in the answer.
        let theirs = both.lakes.value_of_theirs(one);
        for make in [
            |name: &str, value: &str| json!(["=", name, value]),
            |name: &str, value: &str| json!(["!=", name, value]),
            |name: &str, value: &str| json!(["not", ["in", name, [value]]]),
            |name: &str, value: &str| json!(["or", ["=", name, value], ["=", name, null]]),
            |name: &str, value: &str| json!(["and", ["=", name, value], [">", "impressions", 0]]),
        ] {
            for grouped in [json!([]), json!(["campaign_id"]), json!([one])] {
                let question = |value: &str| {
                    json!({"metrics": ["impressions", "spend", "conversions"], "dimensions": grouped, "totals": true,
                           "filters": make(one, value)})
                };
                let foreign = both.asked(&question(theirs)).await?;
                let unknown = both.asked(&question(NOBODY)).await?;
                ensure!(foreign == unknown, "{}: {foreign:?}", question(theirs));
            }
        }
    }
    let everything = json!({"metrics": sums, "dimensions": dimensions, "totals": true});
    both.asked(&everything).await?;
    let range = json!([both.lakes.day(3), both.lakes.day(9)]);
    for grain in ["hour", "day", "week", "month"] {
        for fill in [false, true] {
            both.asked(&json!({"metrics": ["impressions", "spend"], "time": {"grain": grain, "fill": fill}})).await?;
            for zone in ["UTC", "America/New_York", "Asia/Kathmandu"] {
                let time = json!({"range": range, "grain": grain, "zone": zone, "fill": fill});
                both.asked(&json!({"metrics": ["impressions", "spend"], "time": time})).await?;
                let time = json!({"range": [null, null], "grain": grain, "zone": zone, "fill": fill});
                both.asked(&json!({"metrics": ["clicks"], "time": time})).await?;
            }
        }
        for compare in ["previous_period", "same_weekdays", "previous_year"] {
            let time = json!({"range": range, "grain": grain});
            both.asked(&json!({"metrics": ["impressions", "ctr"], "time": time, "compare": compare, "totals": true}))
                .await?;
            let grouped = json!({"metrics": ["impressions", "revenue"], "dimensions": ["campaign_id", "website"],
                                 "time": {"range": range}, "compare": compare, "totals": true});
            both.asked(&grouped).await?;
        }
    }
    for model in texts(&document["components"]["schemas"]["Model"]["enum"]) {
        let metrics = ["attributed_conversions", "attributed_revenue"];
        both.asked(&json!({"metrics": metrics, "dimensions": ["campaign_id"], "model": model, "totals": true})).await?;
    }
    // Errors name nothing of theirs either.
    for wrong in [
        json!({"metrics": ["clicks"], "order": ["zebra"]}),
        json!({"metrics": ["clicks"], "cursor": "1-2-2-2-0-2-0.1.00"}),
        json!({"metrics": ["clicks"], "limit": 0}),
        json!({"metrics": ["zebra"]}),
        json!({"metrics": ["clicks"], "filters": ["in", "country", 7]}),
        json!({"metrics": ["clicks"], "time": {"zone": "Zebra/Zone"}}),
    ] {
        ensure!(both.asked(&wrong).await?.0 == 422, "{wrong}");
    }
    Ok(())
}

/// CSV, Arrow, pages, cursors and ETags.
async fn formats_and_pages(lakes: &lakes::Lakes) -> Result<()> {
    let both = Both::new(lakes, &lakes.advertiser);
    let mut question = json!({"metrics": ["impressions", "spend"], "dimensions": ["campaign_id", "website", "country"],
                              "order": ["-impressions"], "limit": 1, "totals": true});
    for accept in ["text/csv", "application/vnd.apache.arrow.stream"] {
        let bodies = both.bytes(&question, accept).await?;
        ensure!(bodies[0] == bodies[1] && !bodies[0].is_empty(), "{accept}");
        ensure!(!String::from_utf8_lossy(&bodies[0]).contains("zebra"), "{accept}");
    }
    let mut cursors = [Value::Null, Value::Null];
    let mut pages = 0;
    loop {
        let [whole, alone] = both.pages(&question, &cursors).await?;
        ensure!(whole["rows"] == alone["rows"] && whole["totals"] == alone["totals"], "{whole} is not {alone}");
        ensure!(whole["meta"]["rows_in_all"] == alone["meta"]["rows_in_all"], "{whole} is not {alone}");
        cursors = [whole["meta"]["next_cursor"].clone(), alone["meta"]["next_cursor"].clone()];
        ensure!(cursors[0].is_null() == cursors[1].is_null(), "{cursors:?}");
        pages += 1;
        if cursors[0].is_null() {
            break;
        }
    }
    ensure!(pages > 3, "{pages} pages");
    // The cursor and the ETag of somebody who sees everything are of no use.
    let (etag, cursor) = lakes.of_analyst(&question).await?;
    question["cursor"] = json!(cursor);
    ensure!(both.asked(&question).await?.0 == 422);
    question["cursor"] = Value::Null;
    let headers = [("content-type", "application/json"), ("if-none-match", etag.as_str())];
    ensure!(both.send("POST", "/v1/query", &headers, Some(&question)).await?.0 == 200);
    Ok(())
}

/// A stream of events tells no more than answers do, also while events of others arrive.
async fn events(lakes: &lakes::Lakes) -> Result<()> {
    let both = Both::new(lakes, &lakes.advertiser);
    let question =
        json!({"metrics": ["impressions", "spend"], "dimensions": ["campaign_id", "country"], "totals": true});
    let (_, answer) = both.asked(&question).await?;
    let mut stream = both.live(&question).await?;
    let first = stream.next().await?;
    ensure!(first["rows"] == answer["rows"] && first["totals"] == answer["totals"], "{first} is not {answer}");
    lakes.add_theirs()?;
    let second = stream.next().await?;
    ensure!(second["meta"]["snapshot"] != first["meta"]["snapshot"], "{second}");
    ensure!(second["rows"] == first["rows"] && second["totals"] == first["totals"], "{second} is not {first}");
    ensure!(!second.to_string().contains("zebra"), "{second}");
    for (wrong, expected) in
        [("{\"metrics\": [\"zebra\"]}", 422), ("{", 400), ("{\"metrics\": [\"clicks\"], \"cursor\": \"a\"}", 422)]
    {
        let url = reqwest::Url::parse_with_params(&lakes.servers[0].url("/v1/live"), [("query", wrong)])?;
        let (status, problem) = both.same(&format!("/v1/live?{}", url.query().context("no query")?)).await?;
        ensure!(status == expected, "{wrong}: {status} {problem}");
    }
    Ok(())
}
