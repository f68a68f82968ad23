//! Times in the forms that sources write.

use super::*;

#[test]
fn times_as_a_source_writes_them() {
    let mut decoder = decoder(EventKind::Interaction, &csv(), |source| {
        source.time_formats = vec!["%d/%b/%Y:%H:%M:%S %z".to_owned(), "%Y%m%d%H".to_owned()];
        source.time_zone = Some("Europe/Berlin".to_owned());
    });
    let rows: [&[u8]; 5] = [
        b"01/Mar/2025:10:00:00 +0000,u,k,click",
        b"2025030110,u,k,click",
        b"2025-03-01 10:00,u,k,click",
        b"20250301T100000Z,u,k,click",
        b"14102100,u,k,click",
    ];
    let decoded = push(&mut decoder, &rows);
    let times: Vec<_> = (0..4).map(|row| cell(&decoded.rows, "event_time", row).unwrap()).collect();
    assert_eq!(times, ["2025-03-01T10:00:00Z", "2025-03-01T09:00:00Z", "2025-03-01T09:00:00Z", "2025-03-01T10:00:00Z"]);
    assert_eq!(letters(&decoded), [(rows[4].to_vec(), "implausible_timestamp".to_owned())]);
    assert_eq!(
        cell(&decoded.dead_letters, "detail", 0).as_deref(),
        Some(
            "event_time: 14102100 read as epoch seconds is 1970-06-13T05:15:00Z, before \
             ingest.event_time_min (2000-01-01)"
        )
    );
}

#[test]
fn the_time_of_an_event_in_the_future_is_shown_as_it_was_read() {
    let payload = br#"{"ad_creative_id":"c","user_id":"u","timestamp":1748910960,"website":"w"}"#;
    let decoded = decode(EventKind::Impression, &StreamFormat::Json, &[payload]);
    assert_eq!(letters(&decoded)[0].1, "too_far_in_future");
    assert_eq!(
        cell(&decoded.dead_letters, "detail", 0).as_deref(),
        Some("event_time: 2025-06-03T00:36:00Z is 24.6 h ahead; 24 h are allowed (ingest.future_max)")
    );
}
