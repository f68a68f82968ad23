use std::collections::{BTreeMap, BTreeSet};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::Value;

use super::*;
use crate::clock::DAY;
use crate::incident::{IncidentText, Sending, Story};
use crate::plan::{Pace, kind_index};
use crate::world::FLIGHT_DAYS;

/// Collects every record.
#[derive(Default, PartialEq)]
struct Collected(Vec<(EventKind, Vec<u8>, Vec<u8>)>);

impl Sink for Collected {
    fn send(&mut self, kind: EventKind, key: &[u8], payload: &[u8]) -> Result<(), TrafficError> {
        self.0.push((kind, key.to_vec(), payload.to_vec()));
        Ok(())
    }

    fn pause(&mut self) -> Result<(), TrafficError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TrafficError> {
        Ok(())
    }
}

impl Collected {
    fn of(&self, kind: EventKind) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(other, _, _)| *other == kind).map(|(_, _, payload)| payload.as_slice())
    }
}

fn schema() -> Schema {
    Schema::parse_str(adlake_decode::bid_request_avro_schema()).unwrap()
}

fn generated(plan: &Plan, framed: bool, rate: f64) -> (Collected, Value) {
    let mut generator = Generator::new(plan.clone(), &schema(), framed).unwrap();
    let mut collected = Collected::default();
    generator.run(&mut collected, rate, &CancellationToken::new(), &mut |_, _| {}).unwrap();
    (collected, serde_json::from_str(&generator.truth_json().unwrap()).unwrap())
}

/// A plan with so many records. All else is the default.
fn plan(events: u64) -> Plan {
    Plan { events, ..Plan::default() }
}

/// The kinds of a plan that sends one kind alone.
fn only(kind: EventKind) -> [bool; 3] {
    EventKind::ALL.map(|other| other == kind)
}

#[test]
fn the_same_seed_gives_the_same_records_at_any_rate() {
    let seeded = |seed: u64| Plan { seed, id_seed: seed, ..plan(3_000) };
    let (first, truth) = generated(&seeded(7), true, 0.0);
    let (again, same_truth) = generated(&seeded(7), true, 60_000.0);
    assert!(first == again);
    assert_eq!(truth, same_truth);
    let (other, _) = generated(&seeded(8), true, 0.0);
    assert!(first != other);
}

#[test]
fn budgets_are_paced_as_the_traffic_spends_them() {
    for (days, bid_requests) in [(60, 1.0), (15, 2.5)] {
        let pace = Pace::Span(days * DAY);
        let plan = Plan { pace, campaigns: 8, bid_requests, bots: 0.0, duplicates: 0.01, ..plan(200_000) };
        let (_, truth) = generated(&plan, false, 0.0);
        let share = days as f64 / FLIGHT_DAYS as f64;
        for (place, campaign) in World::new(&plan).campaigns.iter().enumerate() {
            let spend = truth["campaigns"][place]["spend_micros"].as_i64().unwrap() as f64;
            let pace = spend / (campaign.budget_micros as f64 * share);
            let (from, to) = [(0.9, 1.1), (1.1, 1.5), (0.9, 1.1), (0.4, 0.9)][place % 4];
            assert!((from..to).contains(&pace), "{}: {pace:.3} of the pace after {days} days", campaign.id);
        }
    }
}

#[test]
fn as_many_records_as_were_asked_for() {
    for events in [1, 17, 20_000] {
        let (collected, truth) = generated(&plan(events), false, 0.0);
        assert_eq!((collected.0.len() as u64, truth["records"].as_u64().unwrap()), (events, events));
    }
}

#[test]
fn the_truth_is_what_reading_the_records_finds() {
    let plan = Plan {
        malformed: 0.0,
        conflicts: 0.0,
        duplicates: 0.05,
        ctr: 0.1,
        cvr: 0.5,
        conversion_delay: 5.0 * 60e6,
        ..plan(60_000)
    };
    let (collected, truth) = generated(&plan, false, 0.0);
    let mut spend = BTreeMap::<String, i64>::new();
    let (mut seen, mut duplicates) = (BTreeSet::new(), 0);
    let creatives: BTreeMap<String, String> = {
        let world = World::new(&plan);
        let campaign = |creative: u32| world.campaigns[creative as usize].id.clone();
        world.creatives.iter().map(|creative| (creative.id.clone(), campaign(creative.campaign))).collect()
    };
    for record in collected.of(EventKind::Impression) {
        let impression: Value = serde_json::from_slice(record).unwrap();
        if !seen.insert(record) {
            duplicates += 1;
            continue;
        }
        let campaign = &creatives[impression["ad_creative_id"].as_str().unwrap()];
        *spend.entry(campaign.clone()).or_default() += impression["cost_micros"].as_i64().unwrap_or(0);
    }
    assert_eq!(truth["impressions"]["duplicates"], duplicates);
    assert_eq!(truth["impressions"]["events"], seen.len());
    assert!(duplicates > 500, "{duplicates}");
    let campaigns = truth["campaigns"].as_array().unwrap();
    for campaign in campaigns {
        let name = campaign["campaign_id"].as_str().unwrap();
        assert_eq!(campaign["gross_spend_micros"].as_i64().unwrap(), spend.get(name).copied().unwrap_or(0), "{name}");
    }
    let (mut clicks, mut conversions, mut revenue) = (BTreeSet::new(), BTreeSet::new(), 0.0);
    for record in collected.of(EventKind::Interaction) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(record);
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!(row.len(), encode_text::CSV_HEADER.split(',').count());
        let fresh = if &row[3] == "click" { clicks.insert(record) } else { conversions.insert(record) };
        if fresh && !row[8].is_empty() {
            revenue += row[8].parse::<f64>().unwrap();
        }
    }
    assert_eq!(
        (
            truth["gross_clicks"].as_u64().unwrap(),
            truth["gross_conversions"].as_u64().unwrap() + truth["refunds"].as_u64().unwrap()
        ),
        (clicks.len() as u64, conversions.len() as u64)
    );
    assert!((truth["gross_revenue_micros"].as_f64().unwrap() / 1e6 - revenue).abs() < 1e-3);
    assert!(conversions.len() > 300, "{}", conversions.len());
}

#[test]
fn bid_requests_are_avro() {
    let currencies = vec!["USD".to_owned(), "EUR".to_owned()];
    let sent = Plan { kinds: only(EventKind::BidRequest), malformed: 0.0, currencies, ..plan(5_000) };
    let (collected, truth) = generated(&sent, true, 0.0);
    let schema = schema();
    let fingerprint = schema.fingerprint::<apache_avro::rabin::Rabin>().bytes;
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let (mut wins, mut imps) = (0, 0);
    let mut seen = BTreeSet::new();
    for record in collected.of(EventKind::BidRequest) {
        assert_eq!((&record[..2], &record[2..10]), (&[0xc3, 0x01][..], fingerprint.as_slice()));
        let mut rest = &record[10..];
        let Avro::Record(fields) = reader.read_value(&mut rest).unwrap() else { panic!() };
        assert!(rest.is_empty());
        let fields: BTreeMap<String, Avro> = fields.into_iter().collect();
        let inner = |name: &str| match &fields[name] {
            Avro::Union(_, inner) => inner.as_ref().clone(),
            other => other.clone(),
        };
        let fresh = seen.insert(inner("auction_id").clone().to_string_for_test());
        if let (true, Avro::Array(elements)) = (fresh, inner("imp")) {
            imps += elements.len();
        }
        if inner("won") == Avro::Boolean(true)
            && seen.insert(format!("won {}", inner("auction_id").to_string_for_test()))
        {
            wins += 1;
        }
    }
    assert_eq!(truth["wins"], wins);
    assert_eq!(truth["bid_request_events"], imps);
    assert!(wins > 1_000, "{wins}");
}

trait Text {
    fn to_string_for_test(&self) -> String;
}

impl Text for Avro {
    fn to_string_for_test(&self) -> String {
        match self {
            Avro::String(text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn shares_are_kept() {
    let plan = Plan { malformed: 0.02, duplicates: 0.03, conflicts: 0.01, ..plan(200_000) };
    let (_, truth) = generated(&plan, true, 0.0);
    let share = |name: &str| {
        let of = |kind: &str| truth[kind][name].as_u64().unwrap();
        (of("impressions") + of("interactions") + of("bid_requests")) as f64 / 200_000.0
    };
    assert!((share("malformed_total") - 0.02).abs() < 0.002, "{}", share("malformed_total"));
    assert!((share("duplicates") - 0.03).abs() < 0.005, "{}", share("duplicates"));
    assert!((share("conflicts") - 0.01).abs() < 0.002, "{}", share("conflicts"));
    for (kind, count) in [("impressions", 6), ("bid_requests", 4)] {
        assert_eq!(
            truth[kind]["malformed"].as_object().unwrap().len(),
            count + usize::from(kind == "impressions"),
            "{kind}"
        );
    }
}

#[test]
fn malformed_records_stay_on_their_line() {
    let (collected, _) = generated(&Plan { malformed: 0.5, ..plan(50_000) }, false, 0.0);
    for (kind, _, payload) in &collected.0 {
        let is_text = kind_index(*kind) != 2;
        assert!(
            !is_text || (!payload.is_empty() && !payload.contains(&b'\n')),
            "{:?}",
            String::from_utf8_lossy(payload)
        );
    }
}

#[test]
fn impressions_are_of_the_usual_size() {
    let plan = Plan { kinds: only(EventKind::Impression), malformed: 0.0, ..plan(50_000) };
    let (_, truth) = generated(&plan, true, 0.0);
    let mean = truth["impressions"]["bytes"].as_u64().unwrap() / 50_000;
    assert!((250..300).contains(&mean), "{mean}");
}

/// Impressions and clicks by campaign and day.
type Counts = BTreeMap<(u32, i64), (u64, u64)>;

/// Impressions and clicks as the records tell, and the truth.
fn by_campaign_and_day(plan: &Plan) -> (Counts, Value) {
    let plan = Plan { kinds: [true, true, false], malformed: 0.0, duplicates: 0.0, conflicts: 0.0, ..plan.clone() };
    let (collected, truth) = generated(&plan, false, 0.0);
    let mut counts = Counts::new();
    let day = |time: &str| {
        let time = time.replace(' ', "T");
        let time = time.trim_end_matches('Z');
        let date = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M:%S%.f").unwrap().date();
        (date - chrono::NaiveDate::from_ymd_opt(2025, 1, 1).unwrap()).num_days()
    };
    for record in collected.of(EventKind::Impression) {
        let impression: Value = serde_json::from_slice(record).unwrap();
        let campaign = impression["ad_creative_id"].as_str().unwrap()[3..7].parse().unwrap();
        let day = match &impression["timestamp"] {
            Value::String(text) => day(text),
            millis => millis.as_i64().unwrap() / 86_400_000 - 20_089,
        };
        counts.entry((campaign, day)).or_default().0 += 1;
    }
    for record in collected.of(EventKind::Interaction) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(record);
        let row = reader.records().next().unwrap().unwrap();
        if &row[3] == "click" {
            let time: &str = &row[0];
            counts.entry((row[2][2..].parse().unwrap(), day(time))).or_default().1 += 1;
        }
    }
    (counts, truth)
}

#[test]
fn planted_incidents_show_in_the_records_and_in_the_truth() {
    let base = Plan { campaigns: 4, ctr: 0.2, late: 0.0, pace: Pace::Span(10 * DAY), ..plan(120_000) };
    let planted = [
        "ctr_drop,campaign=0,size=0.5,from=+4d,for=2d",
        "launch,campaign=1,from=+5d",
        "silence,campaign=2,from=+7d,for=1d",
    ];
    let story = Story(planted.map(|text| text.parse::<IncidentText>().unwrap().planted(base.start)).to_vec());
    let (usual, _) = by_campaign_and_day(&base);
    let (counts, truth) = by_campaign_and_day(&Plan { story, ..base });
    let of = |counts: &Counts, campaign, day| counts.get(&(campaign, day)).copied().unwrap_or_default();
    for day in 0..9 {
        let (impressions, clicks) = of(&counts, 0, day);
        let (before, clicked) = of(&usual, 0, day);
        let factor = (clicks as f64 / impressions as f64) / (clicked as f64 / before as f64);
        let range = if (4..6).contains(&day) { 0.4..0.6 } else { 0.85..1.15 };
        assert!(range.contains(&factor), "day {day}: clicks per impression are {factor} times the usual ones");
        assert_eq!(of(&counts, 1, day).0 > 0, day >= 5, "day {day}");
        // Clicks on impressions of the evening before come after midnight.
        assert_eq!(of(&counts, 2, day).0 > 0, day != 7, "day {day}");
    }
    assert_eq!(truth["incidents"][0]["fault"], "ctr_drop");
    assert_eq!(truth["incidents"].as_array().unwrap().len(), 3);
}

#[test]
fn a_late_feed_comes_when_it_ends_and_a_burst_is_one_of_bots() {
    let base = Plan { websites: 3, late: 0.0, malformed: 0.0, duplicates: 0.0, conflicts: 0.0, ..plan(30_000) };
    let planted = ["late_feed,website=1,from=+2h,for=4h", "bot_burst,website=0,size=0.9,from=+12h,for=2h"];
    let story = Story(planted.map(|text| text.parse::<IncidentText>().unwrap().planted(base.start)).to_vec());
    let plan = Plan { story: story.clone(), kinds: only(EventKind::Impression), ..base };
    let world = World::new(&plan);
    let mut stream = Stream::new(&plan, &world);
    let (mut newest, mut late, mut burst, mut bots) = (i64::MIN, 0, 0_u64, 0_u64);
    for _ in 0..29_000 {
        let Body::Impression(event) = stream.next(&world).body else { panic!("no impression") };
        if story.sending(EventKind::Impression, None, event.website, event.time) != Sending::AsUsual {
            assert!(newest > story.0[0].to - 60_000_000, "sent while the feed was silent");
            late += 1;
        }
        newest = newest.max(event.time);
        if story.bot_share(event.website, event.time) > 0.0 {
            burst += 1;
            bots += u64::from(world.user(event.user).bot);
        }
    }
    assert!(late > 300, "{late}");
    assert!(bots * 10 > burst * 8 && burst > 300, "{bots} of {burst}");
}
