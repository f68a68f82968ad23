//! The world of the events: advertisers' campaigns with budgets, creatives, websites and apps,
//! users.
//!
//! The world is drawn once from the seed. Users are not stored: a [`User`] is a function of the
//! seed and the user's number, so a hundred million users need no memory.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::clock::DAY;
use crate::places::{AGENTS, Agent, BOT_AGENTS, PLACES, Place};
use crate::plan::Plan;
use crate::random::{Weighted, around, mix};
use crate::text;

/// The scale of exchange rates: a rate is an integer in units of 10^-12.
pub const RATE_SCALE: i128 = 1_000_000_000_000;

/// How many days a campaign runs, from the day of the first event on.
pub const FLIGHT_DAYS: i64 = 75;
/// How fast campaigns spend, as a multiple of the pace that uses a budget up at the end of the
/// flight: from and to. Two of four campaigns are on pace, one is ahead, one is behind.
const PACES: [(f64, f64); 4] = [(0.95, 1.05), (1.2, 1.4), (0.95, 1.05), (0.5, 0.8)];

/// The number of users of a burst of bots, and how many users are searched for them.
const BURST_BOTS: usize = 8;
const BURST_BOTS_SEARCHED: u32 = 100_000;

/// A campaign of an advertiser.
#[derive(Debug, Clone)]
pub struct Campaign {
    pub id: String,
    pub advertiser_id: String,
    pub advertiser_name: String,
    pub name: String,
    /// Clicks per impression.
    pub ctr: f64,
    /// Conversions per click.
    pub cvr: f64,
    /// What a thousand impressions cost, micros of the account currency.
    pub cpm_micros: f64,
    pub budget_micros: i64,
    /// Mean value of a purchase, micros.
    pub value_micros: f64,
    /// The range of its creatives in [`World::creatives`].
    pub creatives: std::ops::Range<u32>,
}

/// What is shown.
#[derive(Debug, Clone)]
pub struct Creative {
    pub id: String,
    pub campaign: u32,
    pub width: u16,
    pub height: u16,
}

/// Where it is shown.
#[derive(Debug, Clone)]
pub struct Website {
    /// A domain, or an app's bundle.
    pub name: String,
    pub app: bool,
    pub category: &'static str,
    /// The format in which it writes times.
    pub times: Times,
    /// Factor on every campaign's click-through rate.
    pub appeal: f64,
    /// The currency that it charges in, as an index into [`Plan::currencies`].
    pub currency: u8,
    /// Which optional fields it sends.
    pub optional_fields: OptionalFields,
}

/// The format in which a website writes times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// `2025-01-01T00:00:00.000Z`
    Rfc3339,
    /// `2025-01-01 00:00:00.000`, UTC
    Plain,
    /// Milliseconds since 1970, a number
    Millis,
}

/// Which optional fields a website sends.
#[derive(Debug, Clone, Copy)]
pub struct OptionalFields {
    pub campaign: bool,
    pub user_agent: bool,
    pub auction: bool,
    pub view_time: bool,
    pub city: bool,
    /// A field that is in no schema.
    pub unknown_field: bool,
}

/// Who sees it.
#[derive(Debug, Clone, Copy)]
pub struct User {
    pub place: &'static Place,
    pub agent: &'static Agent,
    pub ip: [u8; 4],
    pub bot: bool,
}

/// Everything that exists before the first event.
#[derive(Debug)]
pub struct World {
    pub campaigns: Vec<Campaign>,
    pub creatives: Vec<Creative>,
    pub websites: Vec<Website>,
    /// Chooses the campaign of an opportunity.
    pub campaign_choice: Weighted,
    /// Chooses the website of a session.
    pub website_choice: Weighted,
    /// Mean click-through rate over the impressions.
    pub ctr: f64,
    /// Mean conversion rate over the clicks.
    pub cvr: f64,
    places: Weighted,
    agents: Weighted,
    seed: u64,
    bots: u64,
    currencies: usize,
}

const ADVERTISERS: [&str; 20] = [
    "Acme",
    "Globex",
    "Initech",
    "Umbrella",
    "Hooli",
    "Stark",
    "Wayne",
    "Wonka",
    "Cyberdyne",
    "Tyrell",
    "Soylent",
    "Oscorp",
    "Aperture",
    "Massive",
    "Vandelay",
    "Bluth",
    "Dunder",
    "Prestige",
    "Gringotts",
    "Monarch",
];
const THEMES: [&str; 8] = [
    "Spring Sale",
    "Brand Launch",
    "Always On",
    "Retargeting",
    "Back to School",
    "Holiday",
    "New Arrivals",
    "App Install",
];
const SIZES: [(u16, u16); 6] = [(300, 250), (728, 90), (160, 600), (320, 50), (970, 250), (300, 600)];
const CATEGORIES: [&str; 8] = ["news", "sports", "games", "music", "travel", "finance", "weather", "cooking"];

impl World {
    /// The world of this plan.
    pub fn new(plan: &Plan) -> World {
        let mut random = ChaCha8Rng::seed_from_u64(mix(plan.seed ^ 0x0077_6f72_6c64));
        let weights: Vec<f64> = (0..plan.campaigns).map(|i| zipf(i, 0.6)).collect();
        let total: f64 = weights.iter().sum();
        let (mut campaigns, mut creatives) = (Vec::new(), Vec::new());
        for number in 0..plan.campaigns {
            let advertiser = mix(plan.seed ^ u64::from(number)) % u64::from(plan.campaigns.div_ceil(3));
            let advertiser_name = match ADVERTISERS.get(advertiser as usize) {
                Some(name) => (*name).to_string(),
                None => format!("{} {}", ADVERTISERS[advertiser as usize % 20], advertiser / 20 + 1),
            };
            let first = creatives.len() as u32;
            for creative in 0..random.random_range(2..=6) {
                let (width, height) = SIZES[random.random_range(0..SIZES.len())];
                let id = format!("cr-{number:04}-{creative}");
                creatives.push(Creative { id, campaign: number, width, height });
            }
            let cpm_micros = around(&mut random, 2_500_000.0, 3.0);
            let impressions = plan.impressions_per_day() * FLIGHT_DAYS as f64 * weights[number as usize] / total;
            let (slowest, fastest) = PACES[number as usize % PACES.len()];
            let pace = random.random_range(slowest..fastest);
            campaigns.push(Campaign {
                id: format!("c-{number:04}"),
                advertiser_id: format!("adv-{advertiser:03}"),
                name: format!("{advertiser_name} {} {number}", THEMES[random.random_range(0..THEMES.len())]),
                advertiser_name,
                ctr: (plan.ctr * around(&mut random, 0.9, 3.0)).min(1.0),
                cvr: (plan.cvr * around(&mut random, 0.9, 2.5)).min(1.0),
                cpm_micros,
                // The budgets of those that are ahead run out before the flight ends.
                budget_micros: ((impressions * cpm_micros / 1_000.0 / pace) as i64).max(1_000_000) / 10_000 * 10_000,
                value_micros: around(&mut random, 45_000_000.0, 3.0),
                creatives: first..creatives.len() as u32,
            });
        }
        let websites = (0..plan.websites).map(|number| website(&mut random, number, plan)).collect();
        let share = |value: fn(&Campaign) -> f64| {
            campaigns.iter().zip(&weights).map(|(campaign, weight)| value(campaign) * weight).sum::<f64>() / total
        };
        World {
            ctr: share(|campaign| campaign.ctr),
            cvr: share(|campaign| campaign.cvr),
            campaign_choice: Weighted::new(weights),
            website_choice: Weighted::new((0..plan.websites).map(|i| zipf(i, 0.9))),
            places: Weighted::new(PLACES.iter().map(|place| place.weight)),
            agents: Weighted::new(AGENTS.iter().map(|agent| agent.weight)),
            seed: plan.seed,
            bots: (plan.bots * u64::MAX as f64) as u64,
            currencies: plan.currencies.len(),
            campaigns,
            creatives,
            websites,
        }
    }

    /// Whether the user agent of a user says that it is a robot: half of the bots say so.
    pub fn is_robot(&self, number: u32) -> bool {
        let hash = mix(mix(self.seed) ^ u64::from(number));
        hash & 1 == 0 && self.is_bot(hash)
    }

    /// The users of a burst of bots, of so many users: robots, or else the first users.
    pub fn burst_bots(&self, users: u32) -> Vec<u32> {
        let searched = users.min(BURST_BOTS_SEARCHED);
        let robots: Vec<u32> = (0..searched).filter(|user| self.is_robot(*user)).take(BURST_BOTS).collect();
        if robots.is_empty() { (0..users.min(BURST_BOTS as u32)).collect() } else { robots }
    }

    fn is_bot(&self, hash: u64) -> bool {
        mix(hash ^ 1) < self.bots
    }

    /// The user with this number.
    pub fn user(&self, number: u32) -> User {
        let hash = mix(mix(self.seed) ^ u64::from(number));
        let bot = self.is_bot(hash);
        let place = &PLACES[self.places.pick(mix(hash ^ 2))];
        let agent = if self.is_robot(number) {
            &BOT_AGENTS[(hash >> 8) as usize % BOT_AGENTS.len()]
        } else {
            &AGENTS[self.agents.pick(mix(hash ^ 3))]
        };
        // 198.18.0.0/15 is reserved for benchmarks: nobody has such an address.
        let ip = [198, 18 | (hash >> 16) as u8 & 1, (hash >> 24) as u8, (hash >> 32) as u8];
        User { place, agent, ip, bot }
    }

    /// Units of the account currency per unit of a currency (by its index) on a UTC day, scaled by
    /// [`RATE_SCALE`]. Rates have six fractional digits.
    pub fn rate(&self, currency: u8, day: i64) -> i128 {
        if currency == 0 || usize::from(currency) >= self.currencies {
            return RATE_SCALE;
        }
        let base = 250_000 + mix(self.seed ^ 0xfee ^ u64::from(currency)) % 1_500_000;
        let daily_change = mix(self.seed ^ (day as u64) << 8 ^ u64::from(currency)) % (base / 50);
        i128::from(base + daily_change) * (RATE_SCALE / 1_000_000)
    }

    /// Converts micros of a currency to micros of the account currency, at the rate of the UTC day
    /// of `time`. Rounds half to even.
    pub fn account_micros(&self, micros: i64, currency: u8, time: i64) -> i64 {
        if currency == 0 {
            return micros;
        }
        divide_half_even(i128::from(micros) * self.rate(currency, time.div_euclid(DAY)), RATE_SCALE) as i64
    }
}

fn divide_half_even(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value.div_euclid(by), value.rem_euclid(by));
    let up = rest * 2 > by || (rest * 2 == by && quotient.rem_euclid(2) == 1);
    quotient + i128::from(up)
}

fn zipf(rank: u32, exponent: f64) -> f64 {
    f64::from(rank + 1).powf(-exponent)
}

fn website(random: &mut ChaCha8Rng, number: u32, plan: &Plan) -> Website {
    let category = CATEGORIES[random.random_range(0..CATEGORIES.len())];
    let app = random.random_range(0..4) == 0;
    let name = match app {
        true => format!("com.example.{category}{number}"),
        false => format!("{category}-{number}.example"),
    };
    let mut one_in = |n: u32| random.random_range(0..n) == 0;
    let optional_fields = OptionalFields {
        campaign: !one_in(4),
        user_agent: one_in(10),
        auction: one_in(5),
        view_time: one_in(4),
        city: one_in(12),
        unknown_field: one_in(25),
    };
    let times = match random.random_range(0..10) {
        0 => Times::Plain,
        1 => Times::Millis,
        _ => Times::Rfc3339,
    };
    let currency = match random.random_range(0..3) {
        0 => random.random_range(0..plan.currencies.len()) as u8,
        _ => 0,
    };
    Website { name, app, category, times, appeal: around(random, 1.0, 1.5), currency, optional_fields }
}

/// Appends a user's id.
pub fn user_id(out: &mut Vec<u8>, user: u32) {
    out.push(b'u');
    text::padded(out, u64::from(user), 8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_rounds_half_to_even() {
        for (value, expected) in [(25, 2), (35, 4), (26, 3), (24, 2), (-25, -2), (-35, -4), (-26, -3), (0, 0)] {
            assert_eq!(divide_half_even(value, 10), expected, "{value}");
        }
    }
}
