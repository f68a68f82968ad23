//! Every byte of a file is accounted for: files as users really write them, and what ingest makes
//! of them.

use std::fs;

use adlake_tests::adlake::Adlake;
use anyhow::Result;

use crate::raw::Raw;

const ADLAKE_TOML: &str = "[lake]\nuri = \"lake\"\n";

fn impression(user: &str) -> String {
    format!(r#"{{"ad_creative_id":"c","user_id":"{user}","timestamp":"2026-03-01 10:00:00","website":"w"}}"#)
}

/// Ingests one file. Returns its users in order, and the reason and payload of each dead letter.
async fn ingest(name: &str, content: &str) -> Result<(Vec<String>, Vec<String>)> {
    let raw = Raw::new().await?;
    fs::write(raw.path().join(name), content)?;
    let adlake = Adlake::in_dir(raw.path()).config(ADLAKE_TOML);
    adlake.ok(["ingest", "files", name]);
    let table = if name.ends_with("json") { "raw/impressions" } else { "raw/interactions" };
    let users = raw.query(table, "select user_id from t order by source['offset']").await?;
    let sql = "select reason, arrow_cast(payload, 'Utf8') from t order by source['offset']";
    Ok((users, raw.query("raw/dead_letters", sql).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_rows_that_end_in_a_bare_cr_land() -> Result<()> {
    let text = "timestamp,user_id,campaign_id,conversion_type\r2026-03-01 10:00:00,u0,k,click\r\
                2026-03-01 10:00:00,u1,k,click\r";
    assert_eq!(ingest("clicks.csv", text).await?, (vec!["u0".to_owned(), "u1".to_owned()], Vec::new()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn json_values_in_a_row_resynchronise() -> Result<()> {
    let [a, b, c] = ["a", "b", "c"].map(impression);
    let users = || ["a", "b", "c"].map(str::to_owned).to_vec();
    for (between, letter) in
        [("x", Some("x")), ("\\n", Some("\\n")), ("\0", Some("\0")), ("\u{1e}", None), (",\n", None)]
    {
        let letters: Vec<String> = letter.iter().map(|letter| format!("invalid_json {letter}")).collect();
        let found = ingest("impressions.json", &format!("{a}{between}{b}{c}\n")).await?;
        assert_eq!(found, (users(), letters), "{between:?}");
    }
    // Several values share some lines, and a cut value is on another.
    let cut = &a[..40];
    let found = ingest("impressions.ndjson", &format!("{a}{b}\n{cut}\n{c}\n")).await?;
    assert_eq!(found, (users(), vec![format!("invalid_json {cut}")]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_quotes_cost_their_line_only() -> Result<()> {
    let row = |user: &str, rest: &str| format!("2026-03-01 10:00:00,{user},k,purchase,{rest}\n");
    let header = "timestamp,user_id,campaign_id,conversion_type,order_id,value\n";
    let text = [
        header,
        &row("u1", "o1,1"),
        &row("u2", "\"o2,2"),
        &row("u3", "o3,3"),
        &row("u4", "\"o4\",4"),
        &row("u5", "\"he said \"hi\" there\",5"),
        &row("u6", "o6,6"),
    ]
    .concat();
    let (users, letters) = ingest("conversions.csv", &text).await?;
    assert_eq!(users, ["u1", "u3", "u4", "u6"]);
    let letter = |row: String| format!("invalid_csv {}", row.trim_end());
    assert_eq!(letters, [letter(row("u2", "\"o2,2")), letter(row("u5", "\"he said \"hi\" there\",5"))]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_row_that_the_end_of_the_file_cuts_off_is_a_dead_letter() -> Result<()> {
    let text = "timestamp,user_id,campaign_id,conversion_type,order_id,value\n\
                2026-03-01 10:00:00,u0,k,purchase,o0,1.5\n2026-03-01 10:00:00,u1,k,purchase,o1";
    let cut = "truncated 2026-03-01 10:00:00,u1,k,purchase,o1".to_owned();
    assert_eq!(ingest("conversions.csv", text).await?, (vec!["u0".to_owned()], vec![cut]));
    Ok(())
}
