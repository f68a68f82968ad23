//! Data quality through the program: a batch run whose expectations fail is not published, nothing
//! of it is seen, `--publish-anyway` says who did, and the report is a page.

use std::fs;

use adlake_tests::adlake::Adlake;
use adlake_tests::readers::Seen;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::whole_way::as_every_reader_sees;

const EXPECTATIONS: &str = r#"
[[expectation]]
name = "no_blocked_site"
type = "sql"
sql = "SELECT impression_id, website FROM impressions WHERE website = '<b>blocked</b>'"
severity = "fail"
owner = "data@example.org"

[[expectation]]
name = "countries"
type = "accepted_values"
table = "impressions"
column = "country"
values = ["US"]
"#;

fn impressions(website: &str, ids: std::ops::Range<u32>) -> String {
    let line = |id: u32| {
        let event = serde_json::json!({
            "impression_id": format!("i{id}"), "ad_creative_id": "k1", "user_id": format!("u{id}"),
            "campaign_id": "c1", "timestamp": "2026-03-01T10:00:00Z", "website": website, "country": "DE",
        });
        format!("{event}\n")
    };
    ids.map(line).collect()
}

#[test]
fn a_run_that_fails_an_expectation_is_not_published() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    fs::write(path("expectations.toml"), EXPECTATIONS)?;
    let config = "[lake]\nuri = \"lake\"\n[batch]\nvacuum_retention = \"0s\"\n\
                  [quality]\nexpectations = \"expectations.toml\"\n";
    let adlake = Adlake::in_dir(folder.path()).config(config).env("USER", "<ann>");
    let published = || -> Result<Value> {
        let status: Value = serde_json::from_str(&adlake.ok(["status", "--format", "json"]))?;
        Ok(status["batch_run"]["run"].clone())
    };
    let rows = |sql: &str| -> Result<String> { Ok(serde_json::to_string(&adlake.query_json(sql))?) };

    fs::write(path("good.json"), impressions("example.org", 0..10))?;
    adlake.ok(["ingest", "files", "good.json", "--quiet"]);
    let first = adlake.ok(["batch", "run", "--quiet"]);
    ensure!(first.contains("pass   no_blocked_site") && !first.contains("countries"), "{first}");
    let of_batch = |seen: Vec<Seen>| {
        let is_result = |seen: &&Seen| {
            let table = seen.table.to_string_lossy();
            let is_log = ["alarms", "manifest", "quality"].iter().any(|name| table.ends_with(name));
            table.contains("/batch/") && !is_log
        };
        seen.iter().filter(is_result).map(|seen| format!("{seen:?}")).collect::<Vec<_>>()
    };
    let every_row = of_batch(as_every_reader_sees(&path("lake")));
    ensure!(every_row.len() == 8, "{every_row:?}");

    // The rows are in the lake, and in the merged answers. They are not in the batch tables.
    fs::write(path("bad.json"), impressions("<b>blocked</b>", 10..13))?;
    adlake.ok(["ingest", "files", "bad.json", "--quiet"]);
    let refused = adlake.run(["batch", "run", "--quiet", "--html", "refused.html", "--format", "json"]);
    ensure!(refused.status.code() == Some(3), "{refused:?}");
    ensure!(refused.stderr.contains("batch run 2 was not published") && refused.stderr.contains("no_blocked_site"));
    let report: Value = serde_json::from_str(&refused.stdout).context("the report of the refused run")?;
    ensure!(report["decision"] == "refuse" && report["outcomes"][0]["violating_rows"] == 3, "{report}");
    ensure!(published()? == 1, "{}", published()?);
    let page = fs::read_to_string(path("refused.html"))?;
    ensure!(page.contains("<strong>not published</strong>") && page.contains("&lt;b&gt;blocked&lt;/b&gt;"), "{page}");
    // Data is text, and nothing is loaded or run.
    for not_in in ["<b>blocked", "<script", "src=", "href=", "url(", "@import"] {
        ensure!(!page.contains(not_in), "{not_in}: {page}");
    }
    let jobs: Value = serde_json::from_str(&adlake.ok(["batch", "status", "--format", "json"]))?;
    ensure!(jobs["jobs"][0]["outcome"] == "failed", "{jobs}");

    // Also who reads the newest versions of the batch tables sees none of it.
    ensure!(of_batch(as_every_reader_sees(&path("lake"))) == every_row, "what was refused is in the newest version");
    adlake.ok(["batch", "vacuum", "--quiet"]);
    adlake.ok(["check-lake", "--deep", "--all", "--quiet"]);
    let count = "SELECT count(*) AS n FROM impressions";
    ensure!(rows(count)? == "[{\"n\":13}]", "{}", rows(count)?);

    // It is refused again, until somebody decides.
    ensure!(adlake.run(["batch", "run", "--full", "--quiet"]).status.code() == Some(3));
    let anyway = ["batch", "run", "--quiet", "--publish-anyway", "--html", "anyway.html"];
    let text = adlake.ok(anyway);
    ensure!(text.contains("published batch run 2") && text.contains("published anyway by <ann>"), "{text}");
    ensure!(published()? == 2);
    let page = fs::read_to_string(path("anyway.html"))?;
    ensure!(page.contains("<strong>published anyway</strong>, by &lt;ann&gt;"), "{page}");
    ensure!(rows(count)? == "[{\"n\":13}]");
    adlake.ok(["check-lake", "--deep", "--all", "--quiet"]);

    // A backfill stops at the same gate, and gives back what it has written.
    let every_row = of_batch(as_every_reader_sees(&path("lake")));
    let backfill = ["batch", "backfill", "--from", "2026-03-01", "--to", "2026-03-01", "--quiet"];
    let refused = adlake.run([&backfill[..], &["--html", "backfill.html", "--format", "json"]].concat());
    ensure!(refused.status.code() == Some(3), "{refused:?}");
    ensure!(refused.stderr.contains("batch run 3 was not published"), "{refused:?}");
    let report: Value = serde_json::from_str(&refused.stdout).context("the report of the refused backfill")?;
    ensure!(report["decision"] == "refuse" && report["outcomes"][0]["violating_rows"] == 3, "{report}");
    ensure!(fs::read_to_string(path("backfill.html"))?.contains("<strong>not published</strong>"));
    ensure!(published()? == 2, "{}", published()?);
    ensure!(of_batch(as_every_reader_sees(&path("lake"))) == every_row, "what was refused is in the newest version");
    let text = adlake.ok([&backfill[..], &["--publish-anyway"]].concat());
    ensure!(text.contains("published batch run 3") && text.contains("published anyway by <ann>"), "{text}");
    ensure!(published()? == 3 && of_batch(as_every_reader_sees(&path("lake"))) == every_row);
    adlake.ok(["check-lake", "--deep", "--all", "--quiet"]);

    let view = rows(
        "SELECT run, decision, decided_by, status, violating_rows FROM quality WHERE expectation = 'no_blocked_site' \
         ORDER BY checked_at",
    )?;
    let expected = "[{\"decided_by\":null,\"decision\":\"publish\",\"run\":1,\"status\":\"pass\",\"violating_rows\":0},\
                    {\"decided_by\":null,\"decision\":\"refuse\",\"run\":2,\"status\":\"fail\",\"violating_rows\":3},\
                    {\"decided_by\":null,\"decision\":\"refuse\",\"run\":2,\"status\":\"fail\",\"violating_rows\":3},\
                    {\"decided_by\":\"<ann>\",\"decision\":\"publish_anyway\",\"run\":2,\"status\":\"fail\",\
                    \"violating_rows\":3},\
                    {\"decided_by\":null,\"decision\":\"refuse\",\"run\":3,\"status\":\"fail\",\"violating_rows\":3},\
                    {\"decided_by\":\"<ann>\",\"decision\":\"publish_anyway\",\"run\":3,\"status\":\"fail\",\
                    \"violating_rows\":3}]";
    let (view, expected): (Value, Value) = (serde_json::from_str(&view)?, serde_json::from_str(expected)?);
    ensure!(view == expected, "{view}");

    // A check of all expectations, also those that stop nothing.
    let checked = adlake.run(["batch", "check", "--quiet", "--html", "check.html"]);
    ensure!(checked.status.code() == Some(3), "{checked:?}");
    ensure!(checked.stdout.contains("warn   countries") && checked.stdout.contains("1 failed"), "{checked:?}");
    ensure!(adlake.run(["batch", "check", "countries", "--quiet"]).status.success());
    ensure!(adlake.run(["batch", "check", "nothing", "--quiet"]).status.code() == Some(2));
    let proposed = adlake.ok(["batch", "check", "--suggest", "impressions", "--quiet"]);
    ensure!(proposed.contains("[[expectation]]") && proposed.contains("column = \"impression_id\""), "{proposed}");
    fs::write(path("expectations.toml"), proposed)?;
    let met = adlake.run(["batch", "check", "--quiet", "--no-record", "--format", "json"]);
    let met: Value = serde_json::from_str(&met.stdout).context("the report of the proposals")?;
    let outcomes = met["outcomes"].as_array().context("outcomes")?;
    // The rows are of the past, so that the proposed freshness is not met.
    let wrong = outcomes.iter().filter(|outcome| outcome["status"] != "pass" && outcome["kind"] != "freshness");
    ensure!(wrong.count() == 0 && outcomes.len() > 3, "{met}");

    // What is wrong in the file is told with its line, before anything is done.
    fs::write(path("expectations.toml"), "\n[[expectation]]\ntype = \"not_nul\"\ntable = \"clicks\"\n")?;
    let wrong = adlake.run(["batch", "run", "--quiet"]);
    ensure!(wrong.status.code() == Some(2) && wrong.stderr.contains("expectations.toml:2: type \"not_nul\""));
    Ok(())
}

#[test]
fn the_built_in_expectations_are_met_by_usual_traffic() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let adlake = Adlake::in_dir(folder.path()).config("[lake]\nuri = \"lake\"\n[quality]\nin_runs = \"all\"\n");
    adlake.ok(["generate", "--to-files", "sent", "--events", "4000", "--days", "2", "--quiet"]);
    for table in ["creatives", "campaigns"] {
        adlake.ok(["ref", "load", table, &format!("sent/{table}.csv"), "--quiet"]);
    }
    adlake.ok(["ingest", "files", "sent/events", "--quiet"]);
    let report: Value = serde_json::from_str(&adlake.ok(["batch", "run", "--quiet", "--format", "json"]))?;
    let outcomes = report["quality"]["outcomes"].as_array().context("the results of the run")?;
    ensure!(outcomes.len() > 10 && report["published"] == true, "{report}");
    ensure!(outcomes.iter().all(|outcome| outcome["status"] != "error"), "{report}");
    ensure!(outcomes.iter().all(|outcome| outcome["severity"] != "fail" || outcome["status"] == "pass"), "{report}");
    Ok(())
}
