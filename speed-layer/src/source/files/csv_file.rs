//! How a CSV file begins: what its columns are, and where its rows begin.
//!
//! Mostly the first bytes tell, which were read anyway to detect the format. If they end within
//! what may be the header, more is read, up to the length of a record. A header is never taken in
//! part: if its end is not found, the file is set aside.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use adlake_decode::Decoder;
use adlake_decode::header::{self, Beginning, HeaderDetector, Unclear};
use adlake_decode::record::{RecordRef, StreamFormat};
use adlake_decode::reject::Reason;
use adlake_domain::event::EventKind;
use arrow::array::{Array, AsArray};

use super::discover::{Cut, HEAD_BYTES, Mappings};
use super::open::Content;
use super::split::{Piece, Splitter, csv};
use crate::clock::now_micros;
use crate::error::SpeedError;
use crate::plans::trial_plan;
use crate::settings::SpeedSettings;

/// How a CSV file is read.
#[derive(Debug)]
pub(super) struct Csv {
    pub(super) cut: Cut,
    pub(super) format: StreamFormat,
    pub(super) preamble_lines: u64,
    pub(super) was_cut_otherwise: bool,
}

/// How many bytes of a CSV file are looked at if its first lines are long: as many as a record may
/// have.
fn head_bytes_max(settings: &SpeedSettings) -> usize {
    settings.ingest.record_bytes_max.max(HEAD_BYTES)
}

/// Reads on until twice as many bytes are at hand, up to a limit.
fn read_on(content: &mut Content, head: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let before = head.len();
    head.resize((2 * before).min(limit), 0);
    let read = content.read_up_to(&mut head[before..])?;
    head.truncate(before + read);
    Ok(())
}

fn too_long(line: usize, limit: usize) -> String {
    format!(
        "line {line} does not end within the first {limit} bytes, so that it is not known whether it is the header: \
         raise ingest.record_bytes_max, or set csv.header = false if the file has none"
    )
}

/// What is known of a CSV file beside its content.
pub(super) struct CsvFile<'a> {
    pub(super) kind: EventKind,
    /// The delimiter that the file's extension tells.
    pub(super) delimiter: Option<u8>,
    /// When it was last changed.
    pub(super) time: Option<i64>,
    pub(super) settings: &'a SpeedSettings,
    pub(super) mappings: &'a Mappings,
}

impl CsvFile<'_> {
    /// Looks for the header in the bytes at hand. If they end within it, more of the content is
    /// read. An inner error says why nobody can tell what the columns are.
    pub(super) fn begins(
        &self,
        content: &mut Content,
        head: &mut Vec<u8>,
        unreadable: impl Fn(io::Error) -> SpeedError,
    ) -> Result<Result<Csv, String>, SpeedError> {
        let limit = head_bytes_max(self.settings);
        loop {
            let is_whole = content.fill().map_err(&unreadable)?.is_empty();
            let is_last_look = head.len() >= limit;
            return Ok(match self.look(head, is_whole, is_last_look)? {
                Ok(csv) => Ok(csv),
                Err(Unclear::Unknown(reason)) => Err(reason),
                Err(Unclear::Cut(line)) if is_last_look => Err(too_long(line, limit)),
                Err(Unclear::Cut(_)) => {
                    read_on(content, head, limit).map_err(&unreadable)?;
                    continue;
                }
            });
        }
    }

    fn look(&self, head: &[u8], is_whole: bool, is_last_look: bool) -> Result<Result<Csv, Unclear>, SpeedError> {
        let CsvFile { kind, delimiter, time, settings, mappings } = *self;
        let (csv, mapping) = (&settings.sources.of(kind).csv, mappings.of(kind));
        let problem = Cell::new(None);
        let refuses = |row: &[u8], delimiter: u8| {
            let refused = refused(row, kind, delimiter, time, settings);
            refused.unwrap_or_else(|error| {
                problem.set(Some(error));
                None
            })
        };
        let detector = HeaderDetector { mapping, csv, delimiter, is_whole, is_last_look, refuses: &refuses };
        let found = detector.detect(head);
        if let Some(problem) = problem.take() {
            return Err(problem);
        }
        // Older versions of adlake looked at this many bytes.
        let head_before = &head[..head.len().min(HEAD_BYTES)];
        Ok(found.map(|found| {
            let Beginning { header_line, delimiter: named, rows_at, preamble_lines } = found;
            let by = named.unwrap_or(csv.delimiter as u8);
            let names = header_line.as_deref().map(|line| header::names(line, by));
            let is_first = header_line.is_some() && preamble_lines == 0;
            let was_header = header::was_header(head_before, csv, delimiter, mapping);
            Csv {
                cut: Cut::Csv { delimiter: by, rows_at, columns: names.as_ref().map(Vec::len) },
                format: StreamFormat::Csv { header: names, header_line, delimiter: named },
                preamble_lines,
                was_cut_otherwise: named != delimiter || preamble_lines > 0 || was_header != is_first,
            }
        }))
    }
}

/// Decodes the first row of some bytes, and says why it cannot be read with the configured columns,
/// if it cannot. A problem that reference data or the clock may solve does not count.
fn refused(
    rows: &[u8],
    kind: EventKind,
    delimiter: u8,
    time: Option<i64>,
    settings: &SpeedSettings,
) -> Result<Option<String>, SpeedError> {
    let mut row = Vec::new();
    let content = Content::from_bytes(rows.to_vec());
    match csv::Rows::new(content, delimiter, head_bytes_max(settings), None).next(&mut row) {
        Ok(Piece::Record) => {}
        Ok(Piece::Rejected(rejection)) => return Ok(Some(rejection.detail)),
        Ok(Piece::End) | Err(_) => return Ok(Some("there is no row in it".to_owned())),
    }
    let format = StreamFormat::Csv { header: None, header_line: None, delimiter: Some(delimiter) };
    let mut decoder = Decoder::new(Arc::new(trial_plan(settings, kind, &format)?), "")?;
    decoder.push(RecordRef { payload: &row, key: None, partition: 0, offset: 0, time }, now_micros());
    let decoded = decoder.finish()?;
    let is_mendable = |reason: &&str| [Reason::NoFxRate.name(), Reason::TooFarInFuture.name()].contains(reason);
    if decoded.rows.num_rows() > 0 || decoded.reasons.keys().all(is_mendable) {
        return Ok(None);
    }
    let detail = decoded.dead_letters.column_by_name("detail").and_then(|column| column.as_string_opt::<i32>());
    let detail = detail.filter(|detail| !detail.is_empty()).map_or("", |detail| detail.value(0));
    let reasons: Vec<&str> = decoded.reasons.into_keys().collect();
    Ok(Some(format!("{}: {detail}", reasons.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::discover::{FilesWanted, input};
    use super::super::place::Found;
    use super::*;

    #[test]
    fn a_first_row_is_one_that_can_be_decoded() {
        let settings = SpeedSettings::default();
        let mappings = Mappings::new(&settings).unwrap();
        let cut = |head: &str| clicks(&settings, &mappings).look(head.as_bytes(), true, true).unwrap();
        let check = |head: &str, expected: Option<&[&str]>, rows: &str| {
            let csv = cut(head).unwrap();
            let StreamFormat::Csv { header, .. } = csv.format else { panic!("{:?}", csv.format) };
            let expected: Option<Vec<String>> =
                expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(header, expected, "{head:?}");
            let Cut::Csv { rows_at, .. } = csv.cut else { panic!("{:?}", csv.cut) };
            assert_eq!(head[rows_at..].trim(), rows, "{head:?}");
        };
        check("", None, "");
        let names = ["timestamp", "user_id", "ad_campaign_id", "conversion_type"];
        check("timestamp,user_id,ad_campaign_id,conversion_type\n1,2,3,click", Some(&names), "1,2,3,click");
        let row = "2023-10-07 16:11:30,82650,5,visit\n";
        check(row, None, row.trim());
        // A rate that is loaded later solves this problem, and only the clock decides the next one.
        let foreign = "2023-10-07 16:11:30,82650,5,visit,,,,,1.5,CHF";
        check(foreign, None, foreign);
        check("2999-10-07 16:11:30,82650,5,visit", None, "2999-10-07 16:11:30,82650,5,visit");
        let why = cut("when,who,what,how\n2023-10-07 16:11:30,82650,5,visit\n").unwrap_err();
        assert!(matches!(&why, Unclear::Unknown(why) if why.contains("bad_timestamp")), "{why:?}");
    }

    /// The header, and the first byte of the rows, of a CSV file with this content; or why the file
    /// is set aside.
    fn begins(content: &str, change: impl FnOnce(&mut SpeedSettings)) -> Result<(Option<Vec<String>>, usize), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clicks.csv");
        fs::write(&path, content).unwrap();
        let mut settings = SpeedSettings::default();
        change(&mut settings);
        let mappings = Mappings::new(&settings).unwrap();
        let found = Found::local(path).unwrap();
        let input = input(found, &FilesWanted::default(), &settings, &mappings).map_err(|error| error.to_string())?;
        let Cut::Csv { rows_at, .. } = input.cut else { panic!("{:?}", input.cut) };
        let StreamFormat::Csv { header, .. } = &input.stream.format else { panic!("{:?}", input.stream.format) };
        Ok((header.clone(), rows_at))
    }

    #[test]
    fn a_header_is_looked_at_whole_or_not_at_all() {
        let names = "timestamp,user_id,campaign_id,conversion_type";
        let row = "2026-03-01 10:00:00,u,k,click\n";
        let wide = |count: usize| (10_000..10_000 + count).map(|n| format!(",column_{n}")).collect::<String>();
        // Required names stand at the beginning and at the end of the header.
        let both = |wide: &str| [format!("{names}{wide}"), format!("{}{wide},conversion_type", &names[..29])];
        for header in both(&wide(4_500)) {
            for preamble in
                ["", "a report\n", &format!("{}\n", "x".repeat(10_000)), &format!("{}\n", "x".repeat(200_000))]
            {
                let content = format!("{preamble}{header}\n{row}");
                let (found, rows_at) = begins(&content, |_| ()).unwrap();
                assert_eq!(found.unwrap(), header.split(',').collect::<Vec<_>>());
                assert_eq!(&content[rows_at..], row);
            }
        }
        // Each dead letter would hold the whole header.
        for header in both(&wide(20_000)) {
            let why = begins(&format!("{header}\n{row}"), |_| ()).unwrap_err();
            assert!(why.contains(&format!("its header has {} bytes, and at most 65536", header.len() + 1)), "{why}");
        }
        // A long first row is still a row.
        let long = format!("2026-03-01 10:00:00,u,k,click,{}\n{row}", "x".repeat(100_000));
        assert_eq!(begins(&long, |_| ()).unwrap(), (None, 0));
    }

    #[test]
    fn a_first_line_that_is_too_long_to_be_looked_at_sets_the_file_aside() {
        let row = "2026-03-01 10:00:00,u,k,click\n";
        let limit = |settings: &mut SpeedSettings| settings.ingest.record_bytes_max = 100_000;
        let long = format!("timestamp,user_id,campaign_id,conversion_type,{}\n{row}", "x".repeat(100_000));
        let why = begins(&long, limit).unwrap_err();
        assert!(why.contains("line 1 does not end within the first 100000 bytes"), "{why}");
        assert!(why.contains("raise ingest.record_bytes_max"), "{why}");
        let why = begins(&format!("a report\n{long}"), limit).unwrap_err();
        assert!(why.contains("line 2 does not end"), "{why}");
        let no_header = |settings: &mut SpeedSettings| {
            limit(settings);
            settings.sources.interactions.csv.header = Some(false);
        };
        assert_eq!(begins(&long, no_header).unwrap(), (None, 0));
        // Where the configuration says that the first line is the header, a long line after it
        // costs nothing.
        let header = |settings: &mut SpeedSettings| {
            limit(settings);
            settings.sources.interactions.csv.header = Some(true);
        };
        let content = format!("a,b\n1,{}\n", "x".repeat(200_000));
        assert_eq!(begins(&content, header).unwrap(), (Some(vec!["a".to_owned(), "b".to_owned()]), 4));
        assert!(begins(&long, header).unwrap_err().contains("line 1 does not end"));
        // Exactly as long as the bytes that are looked at.
        let content = format!("{}\n", "x".repeat(HEAD_BYTES - 1));
        assert!(begins(&content, limit).unwrap_err().contains("none of its first 20 lines"));
    }

    fn clicks<'a>(settings: &'a SpeedSettings, mappings: &'a Mappings) -> CsvFile<'a> {
        CsvFile { kind: EventKind::Interaction, delimiter: None, time: None, settings, mappings }
    }

    #[test]
    fn it_is_known_where_an_older_adlake_numbered_records_otherwise() {
        let settings = SpeedSettings::default();
        let mappings = Mappings::new(&settings).unwrap();
        let check = |head: &str, expected: bool| {
            let csv = clicks(&settings, &mappings).look(head.as_bytes(), true, true).unwrap().unwrap();
            assert_eq!(csv.was_cut_otherwise, expected, "{head:?}");
        };
        let header = "timestamp,user_id,campaign_id,conversion_type";
        check(&format!("{header}\n"), false);
        check("2023-10-07 16:11:30,82650,5,visit\n", false);
        check("", false);
        check(&format!("{header},source,medium,term,content,price_eur\n"), true);
        check(&format!("sep=,\n{header}\n"), true);
        check(&format!("report\n{header}\n"), true);
    }
}
