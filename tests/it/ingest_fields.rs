//! What the built program makes of values: fields of another shape, empty texts, foreign time
//! formats, and bounds.

use std::fs;

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::raw::Raw;

const RECORDS: usize = 500;

fn report(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// Bid requests as a public data set has them: targeting criteria are a list of words.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_where_a_map_is_expected_costs_no_bid_request() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("events");
    fs::create_dir(&folder)?;
    let bid = |n: usize| {
        format!(
            concat!(
                r#"{{"auction_id":"a{n}","user_id":"u{n}","timestamp":"2026-03-01 10:00:00","#,
                r#""bid_amount":1.5,"targeting_criteria":["age","city{n}"]}}"#
            ),
            n = n
        )
    };
    let bids: Vec<String> = (0..RECORDS).map(bid).collect();
    fs::write(folder.join("bid_requests.ndjson"), bids.join("\n"))?;
    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let events = folder.display().to_string();
    let first = report(&adlake.ok(["ingest", "files", &events, "--format", "json"]))?;
    assert_eq!(first["rows"], json!({ "raw/bid_requests": RECORDS }), "{first}");
    assert_eq!(first["rejected"], json!({}));
    assert_eq!(first["shape_mismatches"], json!({ "raw/bid_requests.targeting": RECORDS }));
    let kept = "select user_id, attributes from t where targeting is null order by length(user_id), user_id limit 2";
    assert_eq!(
        raw.query("raw/bid_requests", kept).await?,
        [r#"u0 {"targeting_criteria":["age","city0"]}"#, r#"u1 {"targeting_criteria":["age","city1"]}"#]
    );

    // If the configuration names it, it counts.
    let raw = Raw::new().await?;
    let adlake = Adlake::in_dir(raw.path())
        .config("[lake]\nuri = \"lake\"\n[sources.bid_requests.fields]\ntargeting = [\"targeting_criteria\"]\n");
    let report = report(&adlake.ok(["ingest", "files", &events, "--format", "json"]))?;
    assert_eq!((&report["rows"], &report["rejected"]), (&json!({}), &json!({ "bad_type": RECORDS })));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_of_somebody_elses_times_and_empty_cells_comes_in() -> Result<()> {
    let raw = Raw::new().await?;
    let folder = raw.path().join("events");
    fs::create_dir(&folder)?;
    let rows = [
        "timestamp,cuid,afid,campaign_id,conversion_type,currency,value,order_id",
        "01.03.2026 10:00,,a1,k,purchase,,1.5,o1",
        "2026030111,c2,a2,k,purchase,EUR,2,o2",
        "2026-03-01 12:00:00 UTC,c3,,k,purchase,USD,3,o3",
        "20260301,c4,,k,purchase,USD,4,o4",
        "01.03.2026 14:00,c5,,k,purchase,USD,9000000000000,o5",
    ];
    fs::write(folder.join("conversions.csv"), rows.join("\n"))?;
    let config = r#"
        [lake]
        uri = "lake"
        [account]
        currency = "EUR"
        [sources.interactions]
        time_formats = ["%d.%m.%Y %H:%M", "%Y%m%d%H"]
        time_zone = "Europe/Berlin"
        [sources.interactions.fields]
        user_id = ["cuid", "afid"]
        [sources.interactions.defaults]
        currency = "EUR"
    "#;
    let adlake = Adlake::in_dir(raw.path()).config(config);
    fs::write(raw.path().join("rates.csv"), "day,currency,rate\n2026-02-28,USD,0.5\n2026-03-01,USD,0.5\n")?;
    adlake.ok(["ref", "load", "fx_rates", "rates.csv"]);
    let report = report(&adlake.ok(["ingest", "files", &folder.display().to_string(), "--format", "json"]))?;
    assert_eq!(report["rejected"], json!({ "implausible_timestamp": 1, "out_of_range": 1 }), "{report}");
    let sql = "select user_id, event_time, currency, enriched['value_micros'] from t order by event_time";
    assert_eq!(
        raw.query("raw/interactions", sql).await?,
        [
            "a1 2026-03-01T09:00:00Z EUR 1500000",
            "c2 2026-03-01T10:00:00Z EUR 2000000",
            "c3 2026-03-01T12:00:00Z USD 1500000",
        ]
    );
    let letters = adlake.ok(["deadletters", "list", "--rows", "--reason", "implausible_timestamp", "--format", "json"]);
    let shown = "20260301 read as epoch seconds is 1970-08-23T11:51:41Z, before ingest.event_time_min (2000-01-01)";
    assert!(letters.contains(shown), "{letters}");

    // The configuration gets the format, and the letter is replayed.
    let config = config.replace("\"%Y%m%d%H\"", "\"%Y%m%d%H\", \"%Y%m%d\"");
    let adlake = Adlake::in_dir(raw.path()).config(&config);
    adlake.ok(["deadletters", "replay", "--reason", "implausible_timestamp"]);
    let replayed = "select event_time from t where order_id = 'o4'";
    assert_eq!(raw.query("raw/interactions", replayed).await?, ["2026-02-28T23:00:00Z"]);
    Ok(())
}
