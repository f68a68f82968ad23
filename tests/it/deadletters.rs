//! Dead letters are listed, shown, and replayed once the cause is fixed. Each is replayed once,
//! whatever is killed and whoever else replays.

use std::fs;
use std::time::{Duration, Instant};

use adlake_tests::adlake::Adlake;
use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::raw::Raw;

const IMPRESSIONS: &str = "raw/impressions";
const DEAD_LETTERS: &str = "raw/dead_letters";
const LAKE: &str = "[lake]\nuri = \"lake\"\n";
/// No record has a website. With this default, none needs one.
const MENDED: &str = "[sources.impressions.defaults]\nwebsite = \"example.com\"\n";

/// The format of the rows of clicks.
const CSV: &str = "[sources.interactions.csv]\nheader = true\ndelimiter = \";\"\n";

fn impression(n: usize, good: bool) -> String {
    let website = if good { "\"website\":\"a.com\"," } else { "" };
    format!(
        r#"{{"ad_creative_id":"c{}","user_id":"u{n}",{website}"timestamp":"2026-03-{:02} 10:00:00"}}"#,
        n % 10,
        1 + n % 3
    )
}

fn report(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// Changes the configuration for later runs. All runs in a folder belong to one program, which
/// numbers them.
fn configured(adlake: Adlake, more: &str) -> Adlake {
    adlake.config(&format!("{LAKE}{more}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_become_rows_once_the_cause_is_mended() -> Result<()> {
    let raw = Raw::new().await?;
    let events = raw.path().join("events");
    fs::create_dir(&events)?;
    let lines = [impression(0, true), impression(1, false), "{\"cut\": ".to_owned(), impression(3, false)];
    fs::write(events.join("impressions.ndjson"), lines.join("\n"))?;
    // The names of the columns are known from the file only.
    fs::write(
        events.join("clicks.csv"),
        "when;who;what;k\n2026-03-01 10:00:00;u1;click;k1\n2026-03-01 10:00:01;u2;click;k1\n",
    )?;
    fs::write(events.join("bids.avro"), bids(5)?)?;
    fs::write(events.join("impressions-cut.json"), format!("[{},{{\"user_id\": \"u", impression(9, true)))?;
    let adlake = configured(Adlake::in_dir(raw.path()), CSV);
    adlake.ok(["ingest", "files", &events.display().to_string()]);
    assert_eq!((raw.count(IMPRESSIONS).await?, raw.count(DEAD_LETTERS).await?), (2, 11));

    let counts = report(&adlake.ok(["deadletters", "list", "--kind", "impressions", "--format", "json"]))?;
    let reasons: Vec<_> = counts
        .as_array()
        .context("the counts are no JSON array")?
        .iter()
        .map(|row| (&row["reason"], &row["letters"]))
        .collect();
    assert_eq!(reasons[0], (&json!("missing_field"), &json!(2)), "{counts}");
    let path = events.join("impressions.ndjson").display().to_string();
    let listed = adlake.ok([
        "deadletters",
        "list",
        "--rows",
        "--topic",
        &path,
        "--reason",
        "invalid_json",
        "--since",
        "1h",
        "--format",
        "csv",
    ]);
    ensure!(listed.lines().count() == 2 && listed.contains("invalid_json"), "{listed}");
    let none = adlake.ok(["deadletters", "list", "--rows", "--until", "1h", "--format", "json"]);
    assert_eq!(report(&none)?, json!([]));
    assert_eq!(adlake.ok(["deadletters", "show", &path, "0", "2", "--raw"]), "{\"cut\": ");
    let shown = report(&adlake.ok(["deadletters", "show", &path, "0", "1", "--format", "json"]))?;
    assert_eq!((&shown[0]["payload"], &shown[0]["detail"]), (&json!(impression(1, false)), &json!("website")));
    let missing = adlake.run(["deadletters", "show", &path, "0", "77"]);
    ensure!(!missing.status.success() && missing.stderr.contains("offset 77"), "{}", missing.stderr);

    // The cause is not fixed: all letters are rejected again, and the report says so.
    let again = report(&adlake.ok(["deadletters", "replay", "--format", "json"]))?;
    assert_eq!((&again["letters"], &again["replayed"]), (&json!(11), &json!(0)), "{again}");
    assert_eq!(again["rejected"]["fragment"], 1);
    assert_eq!(raw.number(DEAD_LETTERS, "select count(*) from t where replay_outcome = reason").await?, 10);

    let names = "[sources.interactions.fields]\ntimestamp = [\"when\"]\nuser_id = [\"who\"]\nconversion_type = \
        [\"what\"]\ncampaign_id = [\"k\"]\n\
        [sources.bid_requests.defaults]\ntimestamp = \"file_time\"\n";
    let mended = configured(adlake, &format!("{MENDED}{CSV}{names}"));
    let tried = report(&mended.ok(["deadletters", "replay", "--dry-run", "--format", "json"]))?;
    assert_eq!((&tried["letters"], &tried["replayed"]), (&json!(11), &json!(9)), "{tried}");
    assert_eq!(raw.count(IMPRESSIONS).await?, 2, "a trial changes nothing");
    let first = report(&mended.ok(["deadletters", "replay", "--limit", "4", "--format", "json"]))?;
    assert_eq!(first["letters"], 4, "{first}");
    let rest = report(&mended.ok(["deadletters", "replay", "--format", "json"]))?;
    let both = |key: &str| first[key].as_u64().unwrap_or(0) + rest[key].as_u64().unwrap_or(0);
    assert_eq!(both("replayed"), 9, "{first} {rest}");
    let nothing = report(&mended.ok(["deadletters", "replay", "--format", "json"]))?;
    assert_eq!((&nothing["replayed"], &nothing["letters"]), (&json!(0), &json!(2)), "{nothing}");

    let rows = "select user_id, source['offset'] from t where source['topic'] like '%impressions.ndjson' order by 2";
    assert_eq!(raw.query(IMPRESSIONS, rows).await?, ["u0 0", "u1 1", "u3 3"]);
    let rows = "select user_id, campaign_id, source['offset'] from t order by 3";
    assert_eq!(raw.query("raw/interactions", rows).await?, ["u1 k1 0", "u2 k1 1"]);
    assert_eq!(raw.count("raw/bid_requests").await?, 5);
    assert_eq!(raw.count(DEAD_LETTERS).await?, 11);
    let left = "select reason, replay_outcome from t where replay_outcome <> 'replayed' order by 1";
    assert_eq!(raw.query(DEAD_LETTERS, left).await?, ["invalid_json invalid_json", "truncated fragment"]);
    let view = mended.query_json("SELECT count(*) AS n FROM dead_letters WHERE replay_outcome = 'replayed'");
    assert_eq!(view[0]["n"], 9);
    assert_eq!(mended.query_json("SELECT count(*) AS n FROM impressions")[0]["n"], 4);

    // The records of replayed letters are still not ingested again.
    mended.ok(["ingest", "files", &events.display().to_string()]);
    assert_eq!((raw.count(IMPRESSIONS).await?, raw.count(DEAD_LETTERS).await?), (4, 11));
    let state = report(&mended.ok(["deadletters", "list", "--state", "replayed", "--format", "json"]))?;
    let replayed: u64 = state
        .as_array()
        .context("the states are no JSON array")?
        .iter()
        .filter_map(|row| row["replayed"].as_u64())
        .sum();
    assert_eq!(replayed, 9);
    adlake_tests::readers::assert_agree(&raw.path().join("lake/raw/dead_letters"), &["source.offset"]);
    Ok(())
}

/// Bid requests without a time.
fn bids(count: usize) -> Result<Vec<u8>> {
    let schema = apache_avro::Schema::parse_str(
        r#"{"type": "record", "name": "Bid", "fields": [
            {"name": "auction_id", "type": "string"}, {"name": "user_id", "type": "long"}]}"#,
    )?;
    let mut writer = apache_avro::Writer::new(&schema, Vec::new())?;
    for n in 0..count {
        let mut record = apache_avro::types::Record::new(&schema).context("the schema is no record's")?;
        record.put("auction_id", format!("a{n}"));
        record.put("user_id", n as i64);
        writer.append_value(record)?;
    }
    Ok(writer.into_inner()?)
}

/// Checks that every letter's record is a row exactly once, and that every letter is marked as
/// replayed.
async fn ensure_each_once(raw: &Raw, rows: i64, letters: i64) -> Result<()> {
    let of = "select count(*), count(distinct source['offset']), count(distinct user_id) from t";
    assert_eq!(raw.query(IMPRESSIONS, of).await?, [format!("{rows} {rows} {rows}")]);
    let of = "select count(*), count(distinct source['offset']), count(*) filter (where replay_outcome = 'replayed'), \
              count(replay_id), count(replayed_at) from t";
    assert_eq!(raw.query(DEAD_LETTERS, of).await?, [format!("{letters} {letters} {letters} {letters} {letters}")]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_are_killed_and_race_and_double_nothing() -> Result<()> {
    const RECORDS: usize = 6_000;
    const KILLS: usize = 15;
    let seed: u64 = rand::rng().random();
    println!("replays under kill -9: seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let raw = Raw::new().await?;
    let file = raw.path().join("impressions.ndjson");
    fs::write(&file, (0..RECORDS).map(|n| impression(n, n % 3 == 0) + "\n").collect::<String>())?;
    let small = "[ingest]\nflush_rows = 400\nqueue_bytes_max = 65536\n";
    let adlake = configured(Adlake::in_dir(raw.path()), small);
    adlake.ok(["ingest", "files", &file.display().to_string()]);
    let (good, bad) = ((RECORDS / 3) as i64, (RECORDS - RECORDS / 3) as i64);
    assert_eq!((raw.count(IMPRESSIONS).await?, raw.count(DEAD_LETTERS).await?), (good, bad));

    // Each run replays few letters, so that many claims are interrupted.
    let mended = configured(adlake, &format!("[ingest]\nflush_rows = 50\n{MENDED}"));
    let (mut kills, mut ended, mut claimed) = (0, 0, 0);
    let started = Instant::now();
    while kills < KILLS {
        ensure!(started.elapsed() < Duration::from_secs(120), "{kills} of {KILLS} kills, seed {seed}");
        // Two replays run at once, and one of them is killed.
        let mut process = mended.spawn(["deadletters", "replay", "--limit", "500"]);
        let mut other = mended.spawn(["deadletters", "replay", "--limit", "100"]);
        tokio::time::sleep(Duration::from_millis(random.random_range(20..500))).await;
        match process.exited()? {
            None => {
                process.kill9()?;
                kills += 1;
            }
            Some(status) => {
                ensure!(status.success(), "{}", process.logs());
                ended += 1;
            }
        }
        if random.random_bool(0.5) && other.exited()?.is_none() {
            other.kill9()?;
            kills += 1;
        } else {
            let status = other.wait_exit(Duration::from_secs(60))?;
            ensure!(status.success(), "{}", other.logs());
        }
        let open = "select count(*) from t where replay_id is not null and replay_outcome is null";
        claimed += i64::from(raw.number(DEAD_LETTERS, open).await? > 0);
        if raw.count(IMPRESSIONS).await? == good + bad {
            break;
        }
    }
    let last = report(&mended.ok(["deadletters", "replay", "--format", "json"]))?;
    ensure_each_once(&raw, good + bad, bad).await.with_context(|| format!("seed {seed}"))?;
    println!(
        "replays: {kills} kills, {ended} ended before, {claimed} times claims were left, {bad} letters: lost 0, \
         doubled 0 ({last})"
    );
    adlake_tests::readers::assert_agree(&raw.path().join("lake/raw/dead_letters"), &["source.offset"]);
    Ok(())
}
