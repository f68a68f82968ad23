//! CloudWatch: what fires is a metric, and `adlake alarms sync` changes our alarms and no others.

use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::receivers::Moto;
use super::site::Site;
use super::{DEADLINE, RULES};

/// A second rule, which inhibits the first one.
const PARENT: &str = r#"
[[rule]]
name = "stale"
description = "No rows"
metric = "freshness"
detect = { above = 1e9 }
severity = "critical"
runbook = "docs/runbooks/stale_feed.md"
"#;

/// Runs `adlake alarms sync`, and returns what it says.
fn sync(site: &Site, more: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&site.adlake.ok([&["alarms", "sync", "--format", "json"], more].concat()))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudwatch_has_metrics_and_only_our_alarms() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let moto = Moto::start(folder.path()).await?;
    let settings = "resend_interval = \"500ms\"\n[alarms.cloudwatch]\nenabled = true\n";
    let site = Site::with_environment(RULES, settings, moto.environment())?;
    site.history()?;
    moto.put_alarm("adlake-of-somebody-else")?;
    let planned = sync(&site, &[])?;
    ensure!(planned["created"] == json!(["adlake-heartbeat", "adlake-ctr_fell", "adlake-any-critical"]), "{planned}");
    ensure!(planned["foreign"] == json!(["adlake-of-somebody-else"]), "{planned}");
    ensure!(moto.alarms()? == ["adlake-of-somebody-else"], "a dry run has done something");
    sync(&site, &["--apply"])?;
    let all = ["adlake-ctr_fell", "adlake-heartbeat", "adlake-of-somebody-else"];
    ensure!(moto.alarms()? == all, "{:?}", moto.alarms()?);
    let again = sync(&site, &["--apply"])?;
    ensure!(again["created"] == json!([]) && again["updated"] == json!([]), "{again}");
    // A rule that is no more takes its alarm with it.
    site.write_rules(&RULES.replace("ctr_fell", "ctr_dropped"))?;
    let changed = sync(&site, &["--apply"])?;
    ensure!(changed["removed"] == json!(["adlake-ctr_fell"]), "{changed}");
    ensure!(moto.alarms()? == ["adlake-ctr_dropped", "adlake-heartbeat", "adlake-of-somebody-else"]);
    moto.put_alarm("adlake-cpc")?;
    site.write_rules(&RULES.replace("ctr_fell", "cpc"))?;
    let refused = site.adlake.run(["alarms", "sync", "--apply"]);
    ensure!(!refused.status.success() && refused.stderr.contains("adlake-cpc"), "{}", refused.stderr);
    site.write_rules(RULES)?;

    let server = site.serve().await?;
    server.evaluated().await?;
    site.drop()?;
    let fires = wait::until_async(DEADLINE, "a metric that counts", async || {
        Ok(moto.maximum("Firing", "ctr_fell")? == Some(1.0))
    });
    fires.await.with_context(|| server.process.logs())?;
    ensure!(moto.maximum("Heartbeat", "")? == Some(1.0), "no heartbeat");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn composite_alarms_follow_the_rules() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let moto = Moto::start(folder.path()).await?;
    let topic = |name: &str| format!("arn:aws:sns:eu-central-1:123456789012:{name}");
    let settings =
        format!("[alarms.cloudwatch]\nactions = [\"{}\"]\ncritical_actions = [\"{}\"]\n", topic("all"), topic("pager"));
    let inhibited = RULES.replace("severity", "inhibited_by = [\"stale\"]\nseverity");
    let site = Site::with_environment(&format!("{inhibited}{PARENT}"), &settings, moto.environment())?;
    // Those of somebody else: one without our tags, one of a deployment with a longer prefix.
    moto.put_alarm("another")?;
    moto.put_composite("adlake-another", "another", &[])?;
    moto.put_composite("adlake-eu-any-critical", "another", &[("adlake-prefix", "adlake-eu-")])?;
    let others = || -> Result<Value> {
        let all = moto.composites()?;
        Ok(json!([all["adlake-another"], all["adlake-eu-any-critical"]]))
    };
    let before = others()?;
    ensure!(before.as_array().context("no list")?.iter().all(Value::is_object), "{before}");

    let planned = sync(&site, &[])?;
    let metrics = ["adlake-heartbeat", "adlake-ctr_fell", "adlake-stale"];
    let ours = ["adlake-ctr_fell-not-inhibited", "adlake-any-critical"];
    ensure!(planned["created"] == json!([metrics.as_slice(), &ours].concat()), "{planned}");
    ensure!(planned["foreign"] == json!(["adlake-another", "adlake-eu-any-critical"]), "{planned}");
    // 5 metrics, 3 alarms on them, 2 composite alarms.
    ensure!((planned["dollars_a_month"].as_f64().context("no price")? - 2.8).abs() < 1e-9, "{planned}");
    ensure!(moto.alarms()? == ["another"], "a dry run has done something: {:?}", moto.alarms()?);
    sync(&site, &["--apply"])?;
    let all = moto.composites()?;
    let expected = json!({
        "rule": "ALARM(\"adlake-ctr_fell\") AND NOT ALARM(\"adlake-stale\")",
        "actions": [topic("all")],
    });
    ensure!(all[ours[0]] == expected, "{all}");
    let expected = json!({
        "rule": "ALARM(\"adlake-heartbeat\") OR ALARM(\"adlake-ctr_fell-not-inhibited\") OR ALARM(\"adlake-stale\")",
        "actions": [topic("pager")],
    });
    ensure!(all[ours[1]] == expected, "{all}");
    let again = sync(&site, &["--apply"])?;
    ensure!([&again["created"], &again["updated"], &again["removed"]].iter().all(|l| **l == json!([])), "{again}");
    ensure!(again["unchanged"].as_array().context("no list")?.len() == 5, "{again}");

    // What somebody has changed by hand is put back.
    moto.put_composite(ours[0], "another", &[])?;
    let mended = sync(&site, &["--apply"])?;
    ensure!(mended["updated"] == json!([ours[0]]), "{mended}");

    // The parent is no more: its alarm can be removed only after those that name it have changed.
    site.write_rules(RULES)?;
    let changed = sync(&site, &["--apply"])?;
    ensure!(changed["updated"] == json!(["adlake-ctr_fell", ours[1]]), "{changed}");
    ensure!(changed["removed"] == json!([ours[0], "adlake-stale"]), "{changed}");
    let rule = "ALARM(\"adlake-heartbeat\") OR ALARM(\"adlake-ctr_fell\")";
    ensure!(moto.composites()?[ours[1]]["rule"] == rule, "{}", moto.composites()?);

    // Without composite alarms, those that are there are removed, before what they name.
    site.write_rules(&format!("{inhibited}{PARENT}"))?;
    sync(&site, &["--apply"])?;
    site.edit_settings("[alarms.cloudwatch]", "[alarms.cloudwatch]\ncomposites = false")?;
    let refused = site.adlake.run(["alarms", "sync"]);
    ensure!(refused.stderr.contains("alarms.cloudwatch.critical_actions"), "{}", refused.stderr);
    site.edit_settings(&format!("critical_actions = [\"{}\"]\n", topic("pager")), "")?;
    let off = sync(&site, &["--apply"])?;
    ensure!(off["removed"] == json!([ours[1], ours[0]]), "{off}");
    ensure!(off["updated"] == json!(["adlake-ctr_fell"]), "{off}");
    let left = moto.composites()?;
    ensure!(left.as_object().context("no object")?.len() == 2 && others()? == before, "{left}");
    ensure!(
        moto.alarms()? == ["adlake-ctr_fell", "adlake-heartbeat", "adlake-stale", "another"],
        "{:?}",
        moto.alarms()?
    );
    Ok(())
}
