//! A fall that is provoked in the traffic of `adlake demo`: it is on the dashboard, in Alertmanager
//! and in CloudWatch within two minutes, with its cause.

use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::receivers::{Alertmanager, Moto};
use super::site::Server;

/// A demo makes its history first.
const START: Duration = Duration::from_secs(180);
/// From the first impression of the placement.
const TOLD_WITHIN: Duration = Duration::from_secs(120);
const RULE: &str = "demo_ctr_drop";

#[tokio::test(flavor = "multi_thread")]
async fn a_fall_in_the_demo_is_told_everywhere_with_its_cause_within_two_minutes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let alertmanager = Alertmanager::start(folder.path()).await?;
    let moto = Moto::start(folder.path()).await?;
    let config =
        format!("[alarms.alertmanager]\nurls = [\"{}\"]\n[alarms.cloudwatch]\nenabled = true\n", alertmanager.url);
    let adlake = Adlake::in_dir(folder.path()).config(&config).envs(moto.environment());
    let port = setup::free_port()?;
    let listen = format!("127.0.0.1:{port}");
    // From the tenth second on, four fifths of the first campaign are shown on the 21st site.
    let incident = "bad_placement,campaign=0,website=20,size=0.8,from=+10s,for=1h";
    let history = ["--history", "30", "--history-events", "400000", "--campaigns", "5"];
    let traffic = ["--rate", "600", "--incident", incident];
    let place = ["--dir", "demo", "--listen", &listen, "--plain", "--batch-every", "20s"];
    let server = Server::over(adlake.spawn([&["demo"], &history[..], &traffic, &place].concat()), port);
    server.is_ready(START).await?;

    let is_placed = async || {
        let filter = json!(["=", "campaign_id", "c-0000"]);
        let time = json!({"range": [hour_ago(), null]});
        let question = json!({"metrics": ["impressions", "clicks"], "dimensions": ["website"], "filters": filter,
                              "time": time, "order": ["-impressions"], "limit": 1});
        let (_, text) = server.post("/v1/query", &question).await?;
        let answer: Value = serde_json::from_str(&text).context(text)?;
        let row = answer["rows"][0].clone();
        // The site had clicks before. No other has so many impressions and so few clicks.
        let (Some(impressions), Some(clicks)) = (row[1].as_i64(), row[2].as_i64()) else { return Ok(None) };
        let is_it = impressions > 300 && clicks * 100 < impressions;
        Ok(is_it.then(|| row[0].as_str().map(String::from)).flatten())
    };
    let site = wait::value_async(TOLD_WITHIN, "impressions of the placement", is_placed);
    let site = site.await.with_context(|| server.process.logs())?;
    let began = Instant::now();
    // Chance may make another campaign fall too.
    let of_campaign = async || {
        let alarms = server.alarms().await?["alarms"].clone();
        let is_it = |alarm: &&Value| {
            alarm["rule"] == RULE && alarm["state"] == "FIRING" && alarm["group"] == json!({"campaign_id": "c-0000"})
        };
        Ok(alarms.as_array().context("no list")?.iter().find(is_it).cloned())
    };
    let firing = wait::value_async(TOLD_WITHIN, "the alarm", of_campaign).await;
    let firing = firing.with_context(|| server.process.logs())?;
    let cause = firing["cause"].as_str().context("no cause")?;
    ensure!(cause.contains(&format!("site {site} (")) && cause.contains("creative cr-0000-0 ("), "{cause}, not {site}");
    let left = || TOLD_WITHIN.saturating_sub(began.elapsed());
    let in_alertmanager = async || {
        let is_it = |labels: &Value| labels["alertname"] == RULE && labels["campaign_id"] == "c-0000";
        Ok(alertmanager.alerts().await?.into_iter().find(is_it))
    };
    let labels = wait::value_async(left(), "the alarm in Alertmanager", in_alertmanager).await?;
    ensure!(labels["severity"] == "critical", "{labels}");
    let in_cloudwatch = async || Ok(moto.maximum("Firing", RULE)?.is_some_and(|groups| groups >= 1.0));
    wait::until_async(left(), "the alarm in CloudWatch", in_cloudwatch).await?;
    ensure!(began.elapsed() < TOLD_WITHIN, "told after {:?}", began.elapsed());
    println!("told everywhere after {:.1} s", began.elapsed().as_secs_f64());

    let tests = crate::dashboard::run_tests(&format!("http://{listen}/"), &["--only", "^alarms are the API's"]);
    crate::dashboard::finish(tests, folder.path())
}

fn hour_ago() -> String {
    (chrono::Utc::now() - chrono::TimeDelta::hours(1)).format("%Y-%m-%dT%H:00:00Z").to_string()
}
