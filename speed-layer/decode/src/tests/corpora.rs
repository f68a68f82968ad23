//! Public test suites as payloads: all records are accounted for, and dead letters hold the exact
//! bytes.

use std::collections::BTreeMap;

use super::*;

const GOOD: &[u8] = br#"{"ad_creative_id":"c","user_id":"u","timestamp":1748736000,"website":"w"}"#;

/// The events that a payload holds, as they are sent: the elements of a JSON list that holds an
/// object, else the payload itself.
pub(super) fn events(payload: &[u8]) -> Vec<&[u8]> {
    let text = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    match serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(text) {
        Ok(elements) if elements.iter().any(|element| element.get().starts_with('{')) => {
            elements.into_iter().map(|element| element.get().as_bytes()).collect()
        }
        _ => vec![payload],
    }
}

/// Pushes each payload between two good records. All good records give rows, and the payload's
/// events are rows or dead letters with their exact bytes.
fn account(decoder: &mut Decoder, good: &[u8], payloads: &[Vec<u8>]) -> Decoded {
    let mut records: Vec<&[u8]> = vec![good];
    for payload in payloads {
        records.extend([payload.as_slice(), good]);
    }
    let decoded = push(decoder, &records);
    let sent: usize = records.iter().map(|record| events(record).len()).sum();
    assert_eq!(decoded.rows.num_rows() + decoded.dead_letters.num_rows(), sent);
    let offsets = column(&decoded.rows, "source.offset");
    let offsets: Vec<i64> = offsets.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
    assert!((0..records.len() as i64).step_by(2).all(|offset| offsets.contains(&offset)), "a good record is lost");
    let places = column(&decoded.dead_letters, "source.offset");
    let places = places.as_primitive::<arrow::datatypes::Int64Type>();
    for (row, (payload, _)) in letters(&decoded).iter().enumerate() {
        assert!(events(records[places.value(row) as usize]).contains(&payload.as_slice()));
    }
    let (good, rows, dead) = (payloads.len() + 1, decoded.rows.num_rows(), decoded.dead_letters.num_rows());
    println!(
        "{} payloads among {good} good records: {rows} rows and {dead} dead letters, of {sent} events",
        payloads.len()
    );
    decoded
}

#[test]
fn json_test_suite() {
    let files = files("JSONTestSuite/test_parsing", ".json");
    assert_eq!(files.len(), 318);
    let payloads: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut decoder = decoder(EventKind::Impression, &StreamFormat::Json, |_| ());
    let decoded = account(&mut decoder, GOOD, &payloads);
    // None of the suite's texts is an event.
    assert_eq!(decoded.rows.num_rows(), payloads.len() + 1);
    let syntax = ["invalid_json", "invalid_utf8", "empty_record"];
    let places = column(&decoded.dead_letters, "source.offset");
    let places = places.as_primitive::<arrow::datatypes::Int64Type>();
    for (row, (_, reason)) in letters(&decoded).iter().enumerate() {
        let path = &files[places.value(row) as usize / 2];
        let name = path.file_name().unwrap().to_string_lossy();
        match name.chars().next() {
            Some('y') => assert!(!syntax.contains(&reason.as_str()), "{name} is JSON, but {reason}"),
            Some('n') => assert!(syntax.contains(&reason.as_str()), "{name} is no JSON, but {reason}"),
            _ => {}
        }
    }
}

#[test]
fn json_test_suite_as_values() {
    // The same texts as the value of an unknown field. A text that is JSON is kept unchanged.
    let files = files("JSONTestSuite/test_parsing", ".json");
    let payloads: Vec<Vec<u8>> = files
        .iter()
        .map(|path| [&GOOD[..GOOD.len() - 1], b",\"x\":", &std::fs::read(path).unwrap(), b"}"].concat())
        .collect();
    let mut decoder = decoder(EventKind::Impression, &StreamFormat::Json, |_| ());
    let decoded = account(&mut decoder, GOOD, &payloads);
    let rejected: Vec<Vec<u8>> = letters(&decoded).into_iter().map(|(payload, _)| payload).collect();
    for (payload, path) in payloads.iter().zip(&files) {
        let name = path.file_name().unwrap().to_string_lossy();
        // An empty text is no value, and a text that begins with the end of an object ends the
        // record.
        match name.chars().next() {
            Some('y') => assert!(!rejected.contains(payload), "{name} is JSON"),
            Some('n') => assert!(rejected.contains(payload), "{name} is no JSON"),
            _ => {}
        }
    }
}

#[test]
fn csv_spectrum() {
    for path in files("csv-spectrum/csvs", ".csv") {
        let content = std::fs::read(&path).unwrap();
        // The csv crate splits the file into records, as a reference. Our code splits the records
        // into cells.
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&content[..]);
        let mut starts: Vec<usize> = Vec::new();
        let mut record = ::csv::ByteRecord::new();
        let mut header = Vec::new();
        loop {
            let start = reader.position().byte() as usize;
            if !reader.read_byte_record(&mut record).unwrap() {
                break;
            }
            starts.push(start);
            if starts.len() == 1 {
                header = record.iter().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect::<Vec<_>>();
            }
        }
        starts.push(content.len());
        let payloads: Vec<&[u8]> = starts[1..].windows(2).map(|ends| &content[ends[0]..ends[1]]).collect();
        let mut decoder = decoder(
            EventKind::Interaction,
            &StreamFormat::Csv { header: Some(header.clone()), header_line: None, delimiter: None },
            |source| {
                for (field, constant) in [("user_id", "u"), ("campaign_id", "c"), ("conversion_type", "t")] {
                    source.defaults.insert(field.to_owned(), constant.to_owned());
                }
                source.defaults.insert("timestamp".to_owned(), "ingest_time".to_owned());
            },
        );
        let decoded = push(&mut decoder, &payloads);
        let expected = shared("csv-spectrum/json").join(path.with_extension("json").file_name().unwrap());
        let expected = std::fs::read(&expected).unwrap();
        // One file has its only row without a list around it, and another phone number than its CSV
        // file.
        let expected: Vec<BTreeMap<String, String>> = serde_json::from_slice(&expected).unwrap_or_else(|_| {
            let mut only: BTreeMap<String, String> = serde_json::from_slice(&expected).unwrap();
            only.insert("Contact Phone Number".to_owned(), "2095257564".to_owned());
            vec![only]
        });
        assert_eq!(letters(&decoded), [], "{}", path.display());
        assert_eq!(decoded.rows.num_rows(), expected.len(), "{}", path.display());
        for (row, expected) in expected.iter().enumerate() {
            let attributes = cell(&decoded.rows, "attributes", row).unwrap_or_else(|| "{}".to_owned());
            let found: BTreeMap<String, String> = serde_json::from_str(&attributes).unwrap();
            let expected: BTreeMap<String, String> =
                expected.iter().filter(|(_, value)| !value.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(found, expected, "{} row {row}", path.display());
        }
    }
}

#[test]
fn hostile_csv() {
    let payloads: Vec<Vec<u8>> = std::fs::read_dir(shared("arrow-testing/data/csv/fuzzing"))
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(payloads.len() >= 7);
    let mut decoder = decoder(EventKind::Interaction, &csv(), |_| ());
    account(&mut decoder, b"1748736000,u,c,click", &payloads);
}

/// The Avro files of the test data, each as one message, for a source whose required fields have
/// defaults.
fn avro_files(folder: &str) -> Decoded {
    let mut decoder = decoder(EventKind::BidRequest, &StreamFormat::AvroMessage, |source| {
        source.defaults.insert("auction_id".to_owned(), "a".to_owned());
        source.defaults.insert("user_id".to_owned(), "u".to_owned());
        source.defaults.insert("timestamp".to_owned(), "ingest_time".to_owned());
    });
    let payloads: Vec<Vec<u8>> = files(folder, ".avro").iter().map(|path| std::fs::read(path).unwrap()).collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    push(&mut decoder, &payloads)
}

#[test]
fn avro_of_every_codec_and_logical_type() {
    let folder = "arrow-testing/data/avro";
    let decoded = avro_files(folder);
    let names: Vec<String> =
        files(folder, ".avro").iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    // Every record of every file is counted, as apache-avro counts them.
    let mut expected = 0;
    for path in files(folder, ".avro") {
        let reader = apache_avro::Reader::new(std::fs::File::open(&path).unwrap()).unwrap();
        expected += reader.map(Result::unwrap).count();
    }
    let rejected: Vec<(&str, String)> = {
        let places = column(&decoded.dead_letters, "source.offset");
        let places = places.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
        let details =
            (0..decoded.dead_letters.num_rows()).map(|row| cell(&decoded.dead_letters, "detail", row).unwrap());
        places.iter().map(|place| names[*place as usize].as_str()).zip(details).collect()
    };
    assert_eq!(rejected, [], "of {} rows", decoded.rows.num_rows());
    assert_eq!(decoded.rows.num_rows(), expected);
}

#[test]
fn avro_shared_data() {
    // Five files of weather reports, each with another codec or order. `time` is an alias of the
    // event time, and the reports are from the 1950s.
    let decoded = avro_files("avro/share/test/data");
    let reasons: Vec<String> = letters(&decoded).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["implausible_timestamp"; 5]);
    for row in 0..5 {
        let detail = cell(&decoded.dead_letters, "detail", row).unwrap();
        assert!(detail.starts_with("5 bad of 5 records: record 1: event_time: -6"), "{detail}");
    }
    assert!(decoded.rows.num_rows() > 0, "the other files have good records");
}

#[test]
fn avro_single_object() {
    let folder = shared("avro/share/test/data/messageV1");
    let message = std::fs::read(folder.join("test_message.bin")).unwrap();
    let schema = std::fs::read_to_string(folder.join("test_schema.avsc")).unwrap();
    let mut decoder = decoder(EventKind::BidRequest, &StreamFormat::AvroMessage, |source| {
        source.avro.schema = Some(schema);
        source.defaults.insert("auction_id".to_owned(), "a".to_owned());
        source.defaults.insert("user_id".to_owned(), "u".to_owned());
        source.defaults.insert("timestamp".to_owned(), "record_time".to_owned());
    });
    let decoded = push(&mut decoder, &[&message]);
    assert_eq!(letters(&decoded), []);
    assert_eq!(decoded.rows.num_rows(), 1);
}

#[test]
fn openrtb_requests() {
    let text = std::fs::read_to_string(shared("openrtb").join("prebid_adapters_exemplary_bid_requests.jsonl")).unwrap();
    let requests: Vec<String> = text
        .lines()
        .map(|line| {
            let line: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(line).unwrap();
            line["bid_request"].get().to_owned()
        })
        .collect();
    assert_eq!(requests.len(), 1418);
    let mut decoder = decoder(EventKind::BidRequest, &StreamFormat::Json, |source| {
        source.defaults.insert("user_id".to_owned(), "unknown".to_owned());
        source.defaults.insert("timestamp".to_owned(), "record_time".to_owned());
    });
    let payloads: Vec<&[u8]> = requests.iter().map(String::as_bytes).collect();
    let decoded = push(&mut decoder, &payloads);
    let details: Vec<String> =
        (0..decoded.dead_letters.num_rows()).map(|row| cell(&decoded.dead_letters, "detail", row).unwrap()).collect();
    assert_eq!(details, Vec::<String>::new(), "of {} rows", decoded.rows.num_rows());
    assert_eq!(decoded.rows.num_rows(), 1418);
    let imps = column(&decoded.rows, "imp");
    assert_eq!(imps.as_list::<i32>().values().len(), 1644);
    let valid = |name: &str| decoded.rows.num_rows() - column(&decoded.rows, name).null_count();
    assert_eq!((valid("site"), valid("app"), valid("device"), valid("user")), (702, 458, 890, 462));
}

#[test]
fn somebody_elses_names_and_types() {
    let folder = shared("advertisex/vikramk55");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let impressions: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_slice(&read("ad_impressions.json")).unwrap();
    let impressions: Vec<&[u8]> = impressions.iter().map(|object| object.get().as_bytes()).collect();
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &impressions);
    assert_eq!((decoded.rows.num_rows(), decoded.dead_letters.num_rows()), (1000, 0));
    assert_eq!(cell(&decoded.rows, "website", 0).as_deref(), Some("http://example2.com/path/83"));
    assert_eq!(column(&decoded.rows, "attributes").null_count(), 1000);

    let interactions = read("clicks_conversions.csv");
    let mut lines = interactions.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let header = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
    let header = header.trim_end().split(',').map(str::to_owned).collect();
    let format = StreamFormat::Csv { header: Some(header), header_line: None, delimiter: None };
    let decoded = decode(EventKind::Interaction, &format, &lines.collect::<Vec<_>>());
    assert_eq!((decoded.rows.num_rows(), decoded.dead_letters.num_rows()), (1000, 0));
    let types = column(&decoded.rows, "conversion_type");
    let count = |wanted: &str| types.as_string::<i32>().iter().filter(|found| *found == Some(wanted)).count();
    assert_eq!((count("purchase"), count("visit"), count("signup")), (344, 329, 327));
    assert_eq!(column(&decoded.rows, "campaign_id").null_count(), 0);

    let mut decoder = decoder(EventKind::BidRequest, &StreamFormat::AvroMessage, |source| {
        source.defaults.insert("timestamp".to_owned(), "file_time".to_owned());
    });
    let decoded = push(&mut decoder, &[&read("bid_requests.avro")]);
    assert_eq!((decoded.rows.num_rows(), decoded.dead_letters.num_rows()), (1000, 0));
    assert_eq!(column(&decoded.rows, "bid_price").null_count(), 0);
    assert_eq!(cell(&decoded.rows, "event_time", 0).as_deref(), Some("2025-06-01T23:59:59Z"));
}
