//! Sums that exceed 64 bits, through the whole program.

use std::fmt::Write;
use std::fs;

use adlake_tests::adlake::Adlake;
use tempfile::tempdir;

/// The largest amount of one event, in micros. The sum of a thousand of them exceeds 64 bits.
const MICROS: u64 = 10_000_000_000_000_000;
const EVENTS: usize = 1_000;

#[test]
fn a_thousand_of_the_largest_events_are_summed_exactly() {
    let folder = tempdir().unwrap();
    let adlake = Adlake::in_dir(folder.path()).config("[lake]\nuri = \"lake\"\n");
    let mut impressions = String::new();
    let mut interactions = "timestamp,user_id,campaign_id,conversion_type,event_id,value\n".to_string();
    for number in 0..EVENTS {
        writeln!(
            impressions,
            concat!(
                r#"{{"ad_creative_id":"r1","user_id":"u1","timestamp":"2026-03-01T10:00:00Z","#,
                r#""website":"a.example","impression_id":"i{number}","campaign_id":"c1","cost_micros":{MICROS}}}"#
            ),
            number = number,
            MICROS = MICROS
        )
        .unwrap();
        writeln!(interactions, "2026-03-01 11:00:00,u1,c1,purchase,e{number},{}", MICROS / 1_000_000).unwrap();
    }
    fs::write(folder.path().join("impressions.ndjson"), impressions).unwrap();
    fs::write(folder.path().join("interactions.csv"), interactions).unwrap();
    adlake.ok(["ingest", "files", "impressions.ndjson", "interactions.csv", "--quiet"]);
    let ask = |moment: &str| {
        let sql = "SELECT spend, revenue, attributed_revenue, seconds_to_conversion, roas FROM campaign_kpis";
        let expected = "10000000000000.000000,10000000000000.000000,10000000000000.000000,3600000.000000,1.0";
        for (format, part) in
            [("csv", expected.to_string()), ("json", "\"revenue\":10000000000000.000000,".to_string())]
        {
            let answer = adlake.ok(["query", sql, "--format", format]);
            assert!(answer.contains(&part), "{moment}: {answer}");
        }
        let sum = adlake.ok(["query", "SELECT sum(value) AS v FROM conversions", "--format", "csv"]);
        assert_eq!(sum, "v\n10000000000000.000000\n", "{moment}");
    };
    ask("unbatched");
    adlake.ok(["batch", "run", "--quiet"]);
    ask("batched");
}
