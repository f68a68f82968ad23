//! Input that fills the memory of a program that believes the sizes that the input states.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::wait;
use anyhow::{Result, ensure};

use super::{DEAD_LETTERS, GOOD, GOOD_CLICK};
use crate::raw::Raw;

#[tokio::test(flavor = "multi_thread")]
async fn what_would_fill_the_memory_costs_neither_memory_nor_neighbours() -> Result<()> {
    const HUGE: u64 = 1 << 30;
    let raw = Raw::new().await?;
    let events = raw.path().join("events");
    fs::create_dir(&events)?;
    // A line of a gigabyte between good ones. The file is sparse.
    let line = [GOOD, b"\n"].concat();
    let mut sparse = File::create(events.join("impressions-line.ndjson"))?;
    sparse.write_all(&[&line, &b"{\"user_id\": \""[..]].concat())?;
    sparse.seek(SeekFrom::Current(HUGE as i64))?;
    sparse.write_all(&[&b"\"}\n"[..], &line].concat())?;
    // Compression bombs: gigabytes of zeros in one line, in one quoted cell, in one string of an
    // array. A file may consist of several members or frames.
    let zeros = vec![0; 64 << 20];
    let gzip = |bytes: &[u8]| -> Result<Vec<u8>> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes)?;
        Ok(encoder.finish()?)
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1);
    let (gzip_zeros, zstd_zeros) = (gzip(&zeros)?, zstd(&zeros)?);
    let bomb = [gzip(&line)?, gzip_zeros.repeat(32), gzip(&[b"\n", &line[..]].concat())?].concat();
    fs::write(events.join("impressions-bomb.ndjson.gz"), &bomb)?;
    let list = [zstd(b"[\"")?, zstd_zeros.repeat(32), zstd(&[b"\", ", GOOD, b"]"].concat())?].concat();
    fs::write(events.join("impressions-list.json.zst"), &list)?;
    let click = [GOOD_CLICK, b"\n"].concat();
    let cells =
        [zstd(&[&click, &b"\"a"[..]].concat())?, zstd_zeros.repeat(16), zstd(&[b"\n", &click[..]].concat())?].concat();
    fs::write(events.join("clicks-cell.csv.zst"), &cells)?;
    // Ten thousand brackets, closed and unclosed.
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let good = String::from_utf8_lossy(GOOD);
    fs::write(events.join("impressions-deep.json"), format!("[{good},{{\"x\":{deep}}},{deep},{good}]"))?;
    fs::write(
        events.join("impressions-deep.ndjson"),
        format!("{good}\n{{\"x\":{deep}}}\n{}\n{good}\n", "[".repeat(10_000)),
    )?;
    // A container whose blocks state sizes that their content does not have.
    fs::write(events.join("bids-promise.avro"), promises()?)?;
    let stored: u64 = bomb.len() as u64 + list.len() as u64 + cells.len() as u64;

    let adlake = Adlake::in_dir(raw.path()).config("[lake]\nuri = \"lake\"\n");
    let mut process = adlake.spawn(["ingest", "files", &events.display().to_string(), "--format", "json"]);
    let status = PathBuf::from(format!("/proc/{}/status", process.id()));
    let mut peak = 0;
    let exit = wait::value(Duration::from_secs(180), "the end of ingest", || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(peak);
        process.exited()
    })?;
    ensure!(exit.success(), "{exit}\n{}", process.logs());
    let good = "select count(*) from t where user_id = 'good'";
    assert_eq!(raw.number("raw/impressions", good).await?, 2 + 2 + 1 + 2 + 2);
    assert_eq!(raw.number("raw/interactions", good).await?, 2);
    let sql = "select reverse(split_part(reverse(source['topic']), '/', 1)), source['offset'], reason, \
               length(encode(arrow_cast(payload, 'Binary'), 'hex')) / 2 from t order by 1, 2";
    let letters = raw.query(DEAD_LETTERS, sql).await?;
    let kept = 64 << 10;
    let expected = [
        "bids-promise.avro 0 invalid_avro 10".to_owned(),
        "bids-promise.avro 1 truncated 5".to_owned(),
        format!("clicks-cell.csv.zst 1 too_long {kept}"),
        format!("impressions-bomb.ndjson.gz 1 too_long {kept}"),
        "impressions-deep.json 1 invalid_json 20007".to_owned(),
        "impressions-deep.json 2 not_an_object 20001".to_owned(),
        "impressions-deep.ndjson 1 invalid_json 20007".to_owned(),
        // The first bracket opens an array that is never closed.
        "impressions-deep.ndjson 2 invalid_json 9999".to_owned(),
        "impressions-deep.ndjson 4 truncated 0".to_owned(),
        format!("impressions-line.ndjson 1 too_long {kept}"),
        format!("impressions-list.json.zst 0 too_long {kept}"),
    ];
    assert_eq!(letters, expected);
    println!(
        "a line of {HUGE} bytes, bombs of 5 GiB in {stored} bytes, 10,000 brackets: 11 good records in, {} dead \
         letters, \
         {} MiB resident at most",
        letters.len(),
        peak >> 10
    );
    ensure!(peak > 0 && peak < 400 << 10, "{peak} KiB were resident");
    Ok(())
}

/// A container with two blocks. The first states more records than it has bytes. The second states
/// a size, and its text a length, that reach far beyond the file.
fn promises() -> Result<Vec<u8>> {
    let schema = r#"{"type":"record","name":"Promise","fields":[{"name":"text","type":"string"}]}"#;
    let mut container = apache_avro::Writer::new(&apache_avro::Schema::parse_str(schema)?, Vec::new())?.into_inner()?;
    let sync = container[container.len() - 16..].to_vec();
    // Numbers are zigzag-encoded: 2^60 records in no byte, then one record of 2^27 bytes, with a
    // text of 2^24.
    container.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x00]);
    container.extend(&sync);
    container.extend([0x02, 0x80, 0x80, 0x80, 0x80, 0x01]);
    container.extend([0x80, 0x80, 0x80, 0x10, b'x']);
    Ok(container)
}
