//! The events that the tests of the batch layer ingest, in rounds, and the answers that belong to
//! each state of the lake.
//!
//! A round is one file for each kind of event. The answers are computed here by plain loops, from
//! the numbers of the rounds whose events are in: one number for each raw table, because each is
//! committed by itself. Costs, values and prices are random, so a state that holds only a part of a
//! round, or a part of a published run, has sums that belong to no state.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::whole_way::number;

/// The new impressions of a round. Other records of a round are copies and corrections of earlier
/// ones, which change no count.
const IMPRESSIONS: usize = 20;
const CLICKS: usize = 10;
const CONVERSIONS: usize = 8;
const BID_REQUESTS: usize = 9;
/// The days that the events are spread over.
const DAYS: usize = 3;
/// The seconds of the minute at which events happen. A correction of an impression happens a second
/// before what it corrects, so it is the one that counts.
const BID_SECOND: u32 = 1;
const IMPRESSION_SECOND: u32 = 30;
const CLICK_SECOND: u32 = 45;
const CONVERSION_SECOND: u32 = 52;
/// The most corrections of one impression.
const CORRECTIONS_MAX: u32 = 20;

/// The question. All views are asked at once, so that they answer from one snapshot.
pub const QUESTION: &str = "SELECT * FROM \
    (SELECT count(*) AS impressions, sum(cost) AS cost FROM impressions), \
    (SELECT count(*) AS clicks FROM clicks), \
    (SELECT count(*) AS conversions, sum(value) AS value FROM conversions), \
    (SELECT count(*) AS bid_requests, sum(bid_price) AS bid_price FROM bid_requests), \
    (SELECT count(*) AS touches, sum(seconds_between) AS seconds, sum(credit_linear) AS credit, \
     sum(revenue_last_touch) AS credited FROM attributions), \
    (SELECT sum(impressions) AS kpi_impressions, sum(spend) AS kpi_cost, sum(reach) AS kpi_reach, \
     sum(clicks) AS kpi_clicks, sum(conversions) AS kpi_conversions, sum(revenue) AS kpi_value, \
     sum(bids) AS kpi_bids, sum(joined_clicks) AS kpi_joined, sum(seconds_to_click) AS kpi_seconds, \
     sum(attributed_conversions_linear) AS kpi_credit, sum(attributed_revenue_time_decay) AS kpi_credited \
     FROM campaign_kpis), \
    (SELECT sum(impressions) AS day_impressions, sum(spend) AS day_cost, sum(clicks) AS day_clicks, \
     sum(revenue) AS day_value, sum(bids) AS day_bids, sum(attributed_revenue) AS day_credited FROM geo_daily)";

/// An event by the round that brings it first, and its number there.
type Id = (usize, usize);

#[derive(Debug, Clone, Copy)]
struct Impression {
    id: Id,
    cost_micros: i128,
    second: u32,
}

#[derive(Debug, Clone, Copy)]
struct Conversion {
    id: Id,
    user: Id,
    value_micros: i128,
}

/// The records of a round.
#[derive(Debug, Default, Clone)]
struct Round {
    impressions: Vec<Impression>,
    /// The number of a click, and its user: the one of the impression with that number.
    clicks: Vec<(Id, Id)>,
    conversions: Vec<Conversion>,
    /// The number of a bid request, and its price.
    bid_requests: Vec<(Id, i128)>,
}

/// How many rounds of each raw table are in the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub impressions: usize,
    pub interactions: usize,
    pub bid_requests: usize,
}

impl State {
    /// The state in which this many rounds are in.
    pub fn of(rounds: usize) -> State {
        State { impressions: rounds, interactions: rounds, bid_requests: rounds }
    }

    /// Whether each raw table holds at least what it holds in another state.
    pub fn is_at_least(&self, other: &State) -> bool {
        self.impressions >= other.impressions
            && self.interactions >= other.interactions
            && self.bid_requests >= other.bid_requests
    }
}

/// The answer to [`QUESTION`]; amounts are in millionths.
pub type Answer = BTreeMap<String, i128>;

/// What was sent so far.
pub struct Events {
    folder: PathBuf,
    random: ChaCha8Rng,
    rounds: Vec<Round>,
    /// How often each impression was corrected.
    corrections: HashMap<Id, u32>,
}

impl Events {
    /// No events yet. Their files come into `folder`, each under a name of its own.
    pub fn new(folder: &Path, seed: u64) -> Result<Events> {
        fs::create_dir_all(folder)?;
        let random = ChaCha8Rng::seed_from_u64(seed);
        Ok(Events { folder: folder.to_owned(), random, rounds: Vec::new(), corrections: HashMap::new() })
    }

    /// The number of rounds so far.
    pub fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// The folder with the files of all rounds.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the files of one more round. Returns their paths.
    pub fn write_round(&mut self) -> Result<Vec<String>> {
        let round = self.draw();
        let number = self.rounds.len();
        let mut interactions: String = round.clicks.iter().map(|click| click_line(*click)).collect();
        interactions.extend(round.conversions.iter().map(conversion_line));
        let files = [
            ("impressions", round.impressions.iter().map(impression_line).collect()),
            ("interactions", interactions),
            ("bid_requests", round.bid_requests.iter().map(|bid| bid_line(*bid)).collect::<String>()),
        ];
        self.rounds.push(round);
        let written = files.into_iter().map(|(kind, lines)| {
            let path = self.folder.join(format!("{number:05}-{kind}.ndjson"));
            fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path.display().to_string())
        });
        written.collect()
    }

    fn draw(&mut self) -> Round {
        let number = self.rounds.len();
        let random = &mut self.random;
        let mut round = Round::default();
        for place in 0..IMPRESSIONS {
            let cost_micros = random.random_range(1..1_000_000);
            round.impressions.push(Impression { id: (number, place), cost_micros, second: IMPRESSION_SECOND });
        }
        for place in 0..CLICKS {
            // Some clicks come a round before their impressions.
            let user = (number + usize::from(random.random_bool(0.3)), random.random_range(0..IMPRESSIONS));
            round.clicks.push(((number, place), user));
        }
        for place in 0..CONVERSIONS {
            let user = (number + usize::from(random.random_bool(0.3)), random.random_range(0..IMPRESSIONS));
            let value_micros = random.random_range(1..1_000_000_000);
            round.conversions.push(Conversion { id: (number, place), user, value_micros });
        }
        for place in 0..BID_REQUESTS {
            round.bid_requests.push(((number, place), random.random_range(1..10_000_000)));
        }
        if number == 0 {
            return round;
        }
        for _ in 0..3 {
            let earlier = &self.rounds[random.random_range(0..number)];
            let impression = earlier.impressions[random.random_range(0..IMPRESSIONS)];
            round.impressions.push(impression);
            round.clicks.push(earlier.clicks[random.random_range(0..CLICKS)]);
            round.conversions.push(earlier.conversions[random.random_range(0..CONVERSIONS)]);
            round.bid_requests.push(earlier.bid_requests[random.random_range(0..BID_REQUESTS)]);
        }
        for _ in 0..2 {
            let id = (random.random_range(0..number), random.random_range(0..IMPRESSIONS));
            let level = self.corrections.entry(id).or_default();
            if *level < CORRECTIONS_MAX {
                *level += 1;
                let cost_micros = random.random_range(1..1_000_000);
                round.impressions.push(Impression { id, cost_micros, second: IMPRESSION_SECOND - *level });
            }
        }
        round
    }

    /// The state that an answer tells of. Fails if it is the answer of no state.
    pub fn state_of(&self, answer: &Answer) -> Result<State> {
        let rounds = |name: &str, of_one: usize| {
            let count = *answer.get(name).with_context(|| format!("no {name} in {answer:?}"))? / 1_000_000;
            ensure!(count % of_one as i128 == 0, "{count} {name} are no whole rounds: {answer:?}");
            let rounds = usize::try_from(count)? / of_one;
            ensure!(rounds <= self.rounds(), "{rounds} rounds of {name}; {} were written", self.rounds());
            Ok(rounds)
        };
        let state = State {
            impressions: rounds("impressions", IMPRESSIONS)?,
            interactions: rounds("clicks", CLICKS)?,
            bid_requests: rounds("bid_requests", BID_REQUESTS)?,
        };
        let expected = self.answer(state);
        ensure!(*answer == expected, "{state:?} has other answers:\nfound    {answer:?}\nexpected {expected:?}");
        Ok(state)
    }

    /// The answer in a state.
    pub fn answer(&self, state: State) -> Answer {
        let mut impressions: HashMap<Id, Impression> = HashMap::new();
        for impression in self.rounds[..state.impressions].iter().flat_map(|round| &round.impressions) {
            let kept = impressions.entry(impression.id).or_insert(*impression);
            if impression.second < kept.second {
                *kept = *impression;
            }
        }
        let rounds = &self.rounds[..state.interactions];
        let clicks: HashMap<Id, Id> = rounds.iter().flat_map(|round| round.clicks.iter().copied()).collect();
        let conversions: HashMap<Id, Conversion> = rounds
            .iter()
            .flat_map(|round| round.conversions.iter().map(|conversion| (conversion.id, *conversion)))
            .collect();
        let bids: HashMap<Id, i128> =
            self.rounds[..state.bid_requests].iter().flat_map(|round| round.bid_requests.iter().copied()).collect();

        let mut clicks_of: HashMap<Id, i128> = HashMap::new();
        let (mut joined, mut click_seconds) = (0_i128, 0_i128);
        for user in clicks.values() {
            *clicks_of.entry(*user).or_default() += 1;
            if let Some(impression) = impressions.get(user) {
                joined += 1;
                click_seconds += i128::from(CLICK_SECOND - impression.second);
            }
        }
        let (mut touches, mut seconds) = (joined, click_seconds);
        let (mut credited, mut credited_micros) = (0_i128, 0_i128);
        for conversion in conversions.values() {
            match (clicks_of.get(&conversion.user), impressions.get(&conversion.user)) {
                // If there are clicks, they share the credit.
                (Some(clicks), _) => {
                    touches += clicks;
                    seconds += clicks * i128::from(CONVERSION_SECOND - CLICK_SECOND);
                }
                (None, Some(impression)) => {
                    touches += 1;
                    seconds += i128::from(CONVERSION_SECOND - impression.second);
                }
                (None, None) => continue,
            }
            credited += 1;
            credited_micros += conversion.value_micros;
        }
        let count = |number: usize| number as i128 * 1_000_000;
        let cost = impressions.values().map(|impression| impression.cost_micros).sum();
        let value = conversions.values().map(|conversion| conversion.value_micros).sum();
        let mut answer = Answer::new();
        let mut tell = |names: &[&str], micros: i128| {
            answer.extend(names.iter().map(|name| ((*name).to_owned(), micros)));
        };
        tell(&["impressions", "kpi_impressions", "day_impressions", "kpi_reach"], count(impressions.len()));
        tell(&["cost", "kpi_cost", "day_cost"], cost);
        tell(&["clicks", "kpi_clicks", "day_clicks"], count(clicks.len()));
        tell(&["conversions", "kpi_conversions"], count(conversions.len()));
        tell(&["value", "kpi_value", "day_value"], value);
        tell(&["bid_requests", "kpi_bids", "day_bids"], count(bids.len()));
        tell(&["bid_price"], bids.values().sum());
        tell(&["touches"], touches * 1_000_000);
        tell(&["seconds"], seconds * 1_000_000);
        tell(&["kpi_joined"], joined * 1_000_000);
        tell(&["kpi_seconds"], click_seconds * 1_000_000);
        tell(&["credit", "kpi_credit"], credited * 1_000_000);
        tell(&["credited", "kpi_credited", "day_credited"], credited_micros);
        answer
    }
}

/// Reads the row that answers [`QUESTION`]. An empty sum is 0.
pub fn parse(rows: &[serde_json::Map<String, Value>]) -> Result<Answer> {
    let [row] = rows else { anyhow::bail!("{} rows, not one: {rows:?}", rows.len()) };
    let cell = |(name, value): (&String, &Value)| (name.clone(), if value.is_null() { 0 } else { number(value) });
    Ok(row.iter().map(cell).collect())
}

fn time((round, place): Id, second: u32) -> String {
    format!("2026-03-{:02}T10:{:02}:{second:02}Z", 1 + (round + place) % DAYS, place % 60)
}

fn campaign((round, place): Id) -> String {
    format!("k{}", (round * 3 + place) % 5)
}

fn impression_line(impression: &Impression) -> String {
    let Impression { id, cost_micros, second } = *impression;
    format!(
        "{{\"impression_id\":\"i{0}-{1}\",\"ad_creative_id\":\"r{2}\",\"user_id\":\"u{0}-{1}\",\"campaign_id\":\"{3}\",\
         \"website\":\"s{2}.example\",\"cost_micros\":{cost_micros},\"timestamp\":\"{4}\"}}\n",
        id.0,
        id.1,
        id.1 % 3,
        campaign(id),
        time(id, second)
    )
}

fn click_line((id, user): (Id, Id)) -> String {
    format!(
        "{{\"event_id\":\"c{}-{}\",\"user_id\":\"u{}-{}\",\"campaign_id\":\"{}\",\"conversion_type\":\"click\",\
         \"timestamp\":\"{}\"}}\n",
        id.0,
        id.1,
        user.0,
        user.1,
        campaign(user),
        time(user, CLICK_SECOND)
    )
}

fn conversion_line(conversion: &Conversion) -> String {
    let Conversion { id, user, value_micros } = *conversion;
    format!(
        "{{\"event_id\":\"v{}-{}\",\"user_id\":\"u{}-{}\",\"campaign_id\":\"{}\",\"conversion_type\":\"purchase\",\
         \"value\":\"{}.{:06}\",\"timestamp\":\"{}\"}}\n",
        id.0,
        id.1,
        user.0,
        user.1,
        campaign(user),
        value_micros / 1_000_000,
        value_micros % 1_000_000,
        time(user, CONVERSION_SECOND)
    )
}

fn bid_line((id, price_micros): (Id, i128)) -> String {
    format!(
        "{{\"auction_id\":\"a{0}-{1}\",\"imp\":[{{\"id\":\"1\"}}],\"user_id\":\"u{0}-{1}\",\"campaign_id\":\"{2}\",\
         \"bid_price\":\"{3}.{4:06}\",\"timestamp\":\"{5}\"}}\n",
        id.0,
        id.1,
        campaign(id),
        price_micros / 1_000_000,
        price_micros % 1_000_000,
        time(id, BID_SECOND)
    )
}

#[test]
fn an_answer_belongs_to_one_state_and_a_part_of_a_round_to_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut events = Events::new(folder.path(), 7)?;
    for _ in 0..4 {
        events.write_round()?;
    }
    let state = State { impressions: 3, interactions: 4, bid_requests: 2 };
    let answer = events.answer(state);
    assert_eq!(events.state_of(&answer)?, state);
    assert!(State::of(4).is_at_least(&state) && !state.is_at_least(&State::of(3)));
    for name in answer.keys() {
        let mut wrong = answer.clone();
        *wrong.get_mut(name).context(name.clone())? += 1_000_000;
        assert!(events.state_of(&wrong).is_err(), "{name} may be wrong");
    }
    Ok(())
}
