//! Alarms end to end: the real server over a lake, with receivers that are down, servers that are
//! killed, and the programs that people have: Alertmanager, Prometheus, CloudWatch's API.

mod cloudwatch;
mod incident;
mod receivers;
mod site;
mod traced;

use std::collections::BTreeMap;
use std::time::Duration;

use adlake_tests::process::Process;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::receivers::{Alertmanager, Prometheus, Webhook};
use self::site::{Server, Site};

const DEADLINE: Duration = Duration::from_secs(60);
/// Long enough that a second notice would have come.
const QUIET: Duration = Duration::from_secs(2);

/// A rule that needs little traffic and little time.
const RULES: &str = r#"
[[rule]]
name = "ctr_fell"
description = "The click-through rate of a campaign has fallen"
metric = "ctr"
by = ["campaign_id"]
window = "1h"
detect = { baseline = "hour_of_week", weeks = 4, z = 3.0, min_change = "-30%" }
min_volume = { impressions = 300 }
for = "1s"
recover = { change = "-10%", for = "1s" }
severity = "critical"
owner = "trading"
runbook = "docs/runbooks/ctr_drop.md"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_is_told_once_whatever_happens_to_the_server_and_the_receiver() -> Result<()> {
    let port = setup::free_port()?;
    let url = format!("http://127.0.0.1:{port}/hook?token=hidden");
    let settings = format!("retry_pause_max = \"500ms\"\n[alarms.webhook]\nurls = [\"{url}\"]\nsecret = \"s3cret\"\n");
    let site = Site::new(RULES, &settings)?;
    site.history()?;
    let mut server = site.serve().await?;
    server.evaluated().await?;
    ensure!(server.alarms().await?["alarms"] == json!([]), "{}", server.alarms().await?);

    // Many impressions on one site, and no clicks: the rate is a fifth of what it was.
    site.drop()?;
    let firing = server.state_of("FIRING").await?;
    ensure!(firing["group"] == json!({"campaign_id": "c1"}), "{firing}");
    ensure!(firing["cause"].as_str().is_some_and(|cause| cause.contains("site bad.example")), "{firing}");
    ensure!(firing["runbook"] == "docs/runbooks/ctr_drop.md" && firing["owner"] == "trading", "{firing}");
    let id = firing["id"].as_str().context("no id")?.to_owned();
    // `status` tells it, and fails for those who want that.
    let status = site.adlake.run(["status", "--check", "--format", "json"]);
    ensure!(status.status.code() == Some(3), "{}", status.stderr);
    let status: Value = serde_json::from_str(&status.stdout)?;
    let alarms = status["facts"]["alarms"].clone();
    ensure!(alarms[0]["rule"] == "ctr_fell" && alarms[0]["severity"] == "critical", "{status}");
    // The receiver is down. The server says so, without what is secret in the address.
    let failing = wait::value_async(DEADLINE, "a failing sink", async || {
        let sinks = server.alarms().await?["sinks"].clone();
        let (name, sink) = sinks.as_object().and_then(|sinks| sinks.iter().next()).context("no sink")?;
        Ok(sink["problem"].is_string().then(|| format!("{name} {sink}")))
    });
    let failing = failing.await?;
    ensure!(failing.starts_with("webhook-") && !failing.contains("hidden"), "{failing}");
    ensure!(!server.process.logs().contains("hidden"), "{}", server.process.logs());

    // The last point of its series is the window that it is judged by.
    let series = format!("/v1/alarms/{id}/series");
    wait::until_async(DEADLINE, "the newest figures in the series", async || {
        let series = get(&server, &series).await?;
        let last = series["points"].as_array().and_then(|points| points.last()).cloned().unwrap_or_default();
        let alarm = server.alarms().await?["alarms"][0].clone();
        Ok(["value", "expected_low"].iter().all(|name| last[*name].is_number() && last[*name] == alarm[*name]))
    })
    .await
    .with_context(|| server.process.logs())?;

    // Killed after the transition is stored and before it is told; then two servers start.
    server.process.kill9()?;
    let webhook = Webhook::start(port).await?;
    let servers = [site.serve().await?, site.serve().await?];
    let told = webhook.notices(1).await.with_context(|| servers[0].process.logs())?;
    ensure!(told[0].body["id"] == id.as_str() && told[0].body["status"] == "firing", "{:?}", told[0]);
    ensure!(told[0].body["cause"] == firing["cause"], "{:?}", told[0]);
    told[0].check_signature("s3cret")?;
    // A batch run takes over from the stream: the values are the same, so nothing is told.
    site.adlake.ok(["batch", "run", "--quiet"]);
    tokio::time::sleep(QUIET).await;
    ensure!(webhook.count() == 1, "{:?}", webhook.notices(1).await?);
    let leaders = [servers[0].alarms().await?, servers[1].alarms().await?];
    ensure!(leaders.iter().filter(|alarms| alarms["is_leader"] == true).count() == 1, "{leaders:?}");
    ensure!(leaders.iter().all(|alarms| alarms["alarms"][0]["id"] == id.as_str()), "{leaders:?}");

    // Both kinds of people say something about it.
    let response = servers[0].post(&format!("/v1/alarms/{id}/ack"), &json!({})).await?;
    ensure!(response.0.is_success(), "{response:?}");
    let listed = site.alarms()?;
    ensure!(listed[0]["acked_by"] == "local" && listed[0]["state"] == "FIRING", "{listed}");
    let refused = servers[0].post("/v1/alarms/silences", &json!({"rule": "nobody", "for": "1h"})).await?;
    ensure!(refused.0.as_u16() == 422, "{refused:?}");
    site.adlake.ok(["alarms", "silence", "ctr_fell", "--label", "campaign_id=c9", "--for", "1h", "--why", "a test"]);

    // The leader is killed; the other takes over, and tells that it is over, once.
    let mut servers = servers;
    let leader = usize::from(leaders[1]["is_leader"] == true);
    servers[leader].process.kill9()?;
    site.recover()?;
    let told = webhook.notices(2).await.with_context(|| servers[1 - leader].process.logs())?;
    ensure!(told[1].body["id"] == id.as_str() && told[1].body["status"] == "resolved", "{:?}", told[1]);
    tokio::time::sleep(QUIET).await;
    ensure!(webhook.count() == 2, "{:?}", webhook.notices(2).await?);
    let silences = servers[1 - leader].alarms().await?["silences"].clone();
    ensure!(silences[0]["labels"] == json!({"campaign_id": "c9"}) && silences[0]["why"] == "a test", "{silences}");

    let sql = "SELECT at, alarm_state, sequence, notice FROM alarms WHERE rule = 'ctr_fell' AND sequence IS NOT NULL \
               ORDER BY sequence";
    let rows = site.adlake.query_json(sql);
    let states: Vec<&str> = rows.iter().filter_map(|row| row["alarm_state"].as_str()).collect();
    ensure!(states == ["PENDING", "FIRING", "OK"], "{rows:?}");
    // The history has it from its beginning to its end, with who looked after it.
    let past = get(&servers[1 - leader], &format!("/v1/alarms/history?like={id}")).await?;
    let troubles = past["alarms"].as_array().context("no alarms")?;
    ensure!(troubles.len() == 1 && troubles[0]["id"] == id.as_str() && troubles[0]["to"].is_string(), "{past}");
    let changes = troubles[0]["changes"].as_array().context("no changes")?;
    let states: Vec<&str> = changes.iter().filter_map(|change| change["state"].as_str()).collect();
    ensure!(states == ["FIRING", "ACKED", "OK"] && troubles[0]["acked_by"] == "local", "{past}");
    Ok(())
}

/// The answer of an address.
async fn get(server: &Server, path: &str) -> Result<Value> {
    let text = reqwest::get(format!("http://127.0.0.1:{}{path}", server.port)).await?.text().await?;
    serde_json::from_str(&text).context(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_and_prometheus_know_what_fires() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let alertmanager = Alertmanager::start(folder.path()).await?;
    let settings = format!("resend_interval = \"500ms\"\n[alarms.alertmanager]\nurls = [\"{}\"]\n", alertmanager.url);
    let site = Site::new(RULES, &settings)?;
    site.history()?;
    let server = site.serve().await?;
    let rules = site.adlake.ok(["alarms", "prometheus-rules"]);
    let prometheus = Prometheus::start(folder.path(), server.port, &rules).await?;
    server.evaluated().await?;
    ensure!(alertmanager.active().await? == BTreeMap::new(), "{:?}", alertmanager.active().await?);
    site.drop()?;
    let labels = wait::value_async(DEADLINE, "the alarm in Alertmanager", async || {
        Ok(alertmanager.active().await?.remove("ctr_fell"))
    });
    let labels = labels.await.with_context(|| server.process.logs())?;
    let expected = json!({"alertname": "ctr_fell", "campaign_id": "c1", "job": "adlake", "severity": "critical"});
    ensure!(labels == expected, "{labels}");
    wait::until_async(DEADLINE, "the alarm in Prometheus", async || prometheus.fires("AdlakeCtrFell").await).await?;
    site.recover()?;
    let is_quiet = async || Ok(alertmanager.active().await?.is_empty());
    wait::until_async(DEADLINE, "no alarm in Alertmanager", is_quiet).await?;
    let over = async || Ok(!prometheus.fires("AdlakeCtrFell").await?);
    wait::until_async(DEADLINE, "no alarm in Prometheus", over).await
}

#[test]
fn rules_are_checked_and_replayed() -> Result<()> {
    let site = Site::new(RULES, "")?;
    site.history()?;
    let checked: Value = serde_json::from_str(&site.adlake.ok(["alarms", "check", "--format", "json"]))?;
    ensure!(checked["rules"] == json!(["ctr_fell"]), "{checked}");
    site.drop_before()?;
    let from = site.hours_ago(3);
    let replayed = site.adlake.ok(["alarms", "test", "ctr_fell", "--from", &from, "--format", "json"]);
    let replayed: Value = serde_json::from_str(&replayed)?;
    let states: Vec<&str> =
        replayed.as_array().context("no list")?.iter().filter_map(|r| r["state"].as_str()).collect();
    ensure!(states.contains(&"PENDING"), "{replayed}");
    let wrong = "[[rule]]\nname = \"x\"\nmetric = \"ctr\"\nwindow = \"1 h\"\ndetect = { above = 1 }\nwhat = 3\n";
    site.write_rules(wrong)?;
    for command in [["alarms", "check"], ["config", "check"]] {
        let refused = site.adlake.run(command);
        ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
        ensure!(refused.stderr.contains("rules.toml:6") && refused.stderr.contains("what"), "{}", refused.stderr);
    }
    // A test beside a rule that does not give what it should.
    let test = "\n[[rule.test]]\nname = \"t\"\nbaseline = { clicks = 100, impressions = 1000 }\n\
                series = [{ clicks = 10, impressions = 1000 }]\nstates = [\"OK\"]\n";
    site.write_rules(&format!("{RULES}{test}"))?;
    let refused = site.adlake.run(["alarms", "check"]);
    ensure!(refused.stderr.contains("step 1 is PENDING instead of OK"), "{}", refused.stderr);
    Ok(())
}

/// Ends a process with the test.
fn start(name: &str, command: std::process::Command, folder: &std::path::Path) -> Result<Process> {
    Process::start(name, command, folder)
}

/// The built-in rule, by campaign and by site.
#[test]
fn traffic_that_is_mostly_invalid_is_told() -> Result<()> {
    let by_site = "[[rule]]\nname = \"invalid_sites\"\nmetric = \"invalid_rate\"\nby = [\"website\"]\nwindow = \"1h\"\n\
                   detect = { above = 0.5 }\nmin_volume = { gross_impressions = 1000 }\n";
    let told = |robots, people| -> Result<(Site, Vec<String>)> {
        let site = Site::new(by_site, "")?;
        site.edit_settings("defaults = false", "defaults = true")?;
        site.robots_before(robots, people)?;
        let mut groups = Vec::new();
        for rule in ["invalid_traffic", "invalid_sites"] {
            let replayed = ["alarms", "test", rule, "--from", &site.hours_ago(3), "--format", "json"];
            let replayed: Value = serde_json::from_str(&site.adlake.ok(replayed))?;
            let rows = replayed.as_array().context("no list")?.iter();
            let firing = rows.filter(|row| row["state"] == "FIRING" && row["told"] == true);
            groups.extend(firing.map(|row| format!("{} {}", row["group"], row["value"])));
        }
        Ok((site, groups))
    };
    let (site, groups) = told(900, 300)?;
    ensure!(groups == ["{\"campaign_id\":\"c1\"} 0.75", "{\"website\":\"some.example\"} 0.75"], "{groups:?}");
    // The reason is in the view that the runbook names.
    let sql = "SELECT reason, sum(events) AS events FROM invalid_traffic WHERE campaign_id = 'c1' GROUP BY reason";
    let rows = serde_json::to_string(&site.adlake.query_json(sql))?;
    ensure!(rows.contains("\"reason\":\"bot\"") && rows.contains("900"), "{rows}");
    ensure!(told(500, 700)?.1.is_empty() && told(900, 0)?.1.is_empty(), "too little was told");
    Ok(())
}

/// A replay counts what was spent until then, and not what came later.
#[test]
fn the_pace_of_a_campaign_is_replayed_as_it_was() -> Result<()> {
    let site = Site::new("", "")?;
    site.edit_settings("defaults = false", "defaults = true")?;
    site.plan(1_000_000, 8, 2)?;
    // 1.20 is spent two hours ago. It would have been too much at any time of the plan.
    site.robots_before(0, 1_200)?;
    let replayed = ["alarms", "test", "over_budget", "--from", &site.hours_ago(72), "--format", "json"];
    let replayed: Value = serde_json::from_str(&site.adlake.ok(replayed))?;
    let first = replayed[0]["at"].as_str().context("nothing was found")?;
    ensure!(replayed[0]["state"] == "PENDING" && *first >= *site.hours_ago(2), "{replayed}");
    Ok(())
}
