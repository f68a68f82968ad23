//! The simulation: opportunities to show an ad, one after the other, and the events that each of
//! them causes.
//!
//! Events come out in the order in which they *arrive*. A click arrives seconds after its
//! impression, a conversion minutes to hours after its click, and duplicates and late events at
//! times of their own. The stream is a function of the plan alone.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::clock::{Clock, HOUR, click_season};
use crate::event::{Action, Bid, Body, Copies, Event, Impression, Interaction, OurBid, Part};
use crate::incident::Sending;
use crate::plan::{Pace, Plan, kind_index};
use crate::random::{chance, exponential, mix};
use crate::world::World;

const SECOND: f64 = 1_000_000.0;
/// How many campaigns an opportunity tries, to find one with budget left.
const CAMPAIGN_DRAWS: usize = 8;
/// Conversions per impression without a click.
const VIEW_THROUGH: f64 = 0.0003;
const UNKNOWN_USERS: f64 = 0.003;
/// A bot's session has this many times the pageviews of a person's session.
const BOT_SESSION_FACTOR: u32 = 6;

/// An endless stream of events in order of arrival.
#[derive(Debug)]
pub struct Stream {
    plan: Plan,
    random: ChaCha8Rng,
    clock: Clock,
    /// The time of the next opportunity. Events that are due before it can be sent.
    now: i64,
    pending: BinaryHeap<Reverse<Pending>>,
    /// Counts pushed events, to order those that are due at the same instant.
    pushed: u64,
    /// The next number of an impression or auction, and below it the next number of an interaction.
    opportunities: u64,
    interactions: u64,
    sessions: Vec<Session>,
    /// The users of bot bursts.
    bots: Vec<u32>,
    spent_micros: Vec<i64>,
}

#[derive(Debug)]
struct Pending {
    due: i64,
    order: u64,
    event: Event,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// A user on a website.
#[derive(Debug, Clone, Copy)]
struct Session {
    user: u32,
    website: u32,
    bot: bool,
    /// Opportunities until the session ends.
    left: u32,
}

/// What an event concerns, as far as incidents ask.
#[derive(Debug, Clone, Copy)]
struct Concern {
    campaign: Option<u32>,
    website: u32,
}

impl Stream {
    /// The stream of a plan in its world.
    pub fn new(plan: &Plan, world: &World) -> Stream {
        let mut random = ChaCha8Rng::seed_from_u64(mix(plan.seed));
        let per_opportunity = records_per_opportunity(plan, world);
        let mut clock = match plan.pace {
            Pace::Span(span) => Clock::rhythm(plan.start, span, plan.events as f64 / per_opportunity, plan.seasons),
            Pace::PerSecond(rate) => Clock::steady(plan.start, rate / per_opportunity),
        };
        let open = (plan.users / 20).clamp(4, 20_000);
        let sessions = (0..open).map(|_| session(&mut random, plan, world)).collect();
        Stream {
            random,
            now: clock.next_time(),
            clock,
            pending: BinaryHeap::new(),
            pushed: 0,
            opportunities: 0,
            interactions: 0,
            sessions,
            bots: if plan.story.is_empty() { Vec::new() } else { world.burst_bots(plan.users) },
            spent_micros: vec![0; world.campaigns.len()],
            plan: plan.clone(),
        }
    }

    /// The next event that arrives.
    pub fn next(&mut self, world: &World) -> Event {
        loop {
            self.advance(world);
            if let Some(Reverse(first)) = self.pending.pop() {
                return first.event;
            }
        }
    }

    /// The event that [`Stream::next`] will return.
    pub fn peek(&mut self, world: &World) -> Event {
        loop {
            self.advance(world);
            if let Some(Reverse(first)) = self.pending.peek() {
                return first.event.clone();
            }
        }
    }

    /// Simulates opportunities until the first pending event is due.
    fn advance(&mut self, world: &World) {
        while self.pending.peek().is_none_or(|first| first.0.due > self.now) {
            self.opportunity(world);
            self.now = self.clock.next_time();
        }
    }

    /// The random generator, for what happens to records after they are encoded.
    pub fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.random
    }

    /// Simulates one opportunity to show an ad: bid requests, an impression, and what follows from
    /// it.
    fn opportunity(&mut self, world: &World) {
        let time = self.now;
        let place = self.random.random_range(0..self.sessions.len());
        let mut current = self.sessions[place];
        if current.left == 0 {
            self.sessions[place] = session(&mut self.random, &self.plan, world);
        } else {
            self.sessions[place].left -= 1;
        }
        if !self.plan.story.is_empty() {
            let share = self.plan.story.bot_share(current.website, time);
            if chance(&mut self.random, share) && !self.bots.is_empty() {
                let user = self.bots[self.random.random_range(0..self.bots.len())];
                current = Session { user, bot: true, ..current };
            }
        }
        let number = self.opportunities;
        self.opportunities += 1;
        let mut extra = (self.plan.bid_requests - 1.0).max(0.0);
        while extra > 0.0 {
            if chance(&mut self.random, extra.min(1.0)) {
                self.lost_auction(world, current, time);
            }
            extra -= 1.0;
        }
        let campaign = self.campaign_with_budget(world, time);
        let campaign_of = &world.campaigns[campaign as usize];
        let mut creative = self.random.random_range(campaign_of.creatives.clone());
        if let Some((website, share)) = self.plan.story.placement(campaign, time)
            && chance(&mut self.random, share)
        {
            (current.website, creative) = (website, campaign_of.creatives.start);
        }
        let cpm = campaign_of.cpm_micros * (0.5 + self.random.random::<f64>());
        // Prices are whole hundredths of a cent. The cost of one impression is a thousandth of the
        // CPM.
        let clearing_micros = (cpm / 100.0) as i64 * 100;
        let cost_factor = self.plan.story.cost_factor(campaign, current.website, time);
        let cost = ((clearing_micros / 1_000) as f64 * cost_factor) as i64;
        self.spent_micros[campaign as usize] += cost;
        let bid_micros =
            clearing_micros + (clearing_micros as f64 * 0.3 * self.random.random::<f64>()) as i64 / 100 * 100;
        let bid = OurBid { imp: 1, creative, bid_micros, clearing_micros: Some(clearing_micros) };
        let auctioned = self.plan.bid_requests >= 1.0 || chance(&mut self.random, self.plan.bid_requests);
        if auctioned {
            self.auction(world, current, number, time, Some(bid));
        }
        let shown = time + i64::from(self.random.random_range(30..400_u32)) * 1_000;
        self.impression(
            world,
            current,
            Impression {
                number,
                user: current.user,
                known_user: true,
                creative,
                website: current.website,
                time: shown,
                cost_micros: Some(cost),
                viewable: None,
                view_time_ms: 0,
                with_id: true,
                auction: auctioned,
            },
        );
    }

    fn impression(&mut self, world: &World, session: Session, mut impression: Impression) {
        let random = &mut self.random;
        impression.viewable = match random.random_range(0..20_u32) {
            0 | 1 => None,
            2..=13 => Some(true),
            _ => Some(false),
        };
        if impression.viewable == Some(true) {
            impression.view_time_ms = 1_000 + exponential(random, 4_000.0) as u32;
        }
        impression.with_id = !chance(random, self.plan.without_id);
        impression.known_user = !chance(random, UNKNOWN_USERS);
        if chance(random, 0.002) {
            impression.cost_micros = None;
        }
        let creative = &world.creatives[impression.creative as usize];
        let campaign = &world.campaigns[creative.campaign as usize];
        let website = &world.websites[session.website as usize];
        let mut click_factor = if session.bot { 5.0 } else { 1.0 };
        let (story, number) = (&self.plan.story, creative.campaign);
        click_factor *= story.ctr_factor(number, session.website, impression.time);
        let conversion_factor = story.cvr_factor(number, session.website, impression.time);
        if self.plan.seasons {
            click_factor *= click_season(impression.time);
        }
        let clicked = impression.known_user && chance(random, campaign.ctr * website.appeal * click_factor);
        let viewed_through = !clicked && impression.known_user && !session.bot && chance(random, VIEW_THROUGH);
        let seen = impression.clone();
        let concern = Concern { campaign: Some(creative.campaign), website: session.website };
        self.send(Body::Impression(impression), concern, 0.2);
        if clicked {
            let time = seen.time + (SECOND + exponential(&mut self.random, 8.0 * SECOND)) as i64;
            self.interaction(world, &seen, creative.campaign, Action::Click, time, self.interactions);
            if !session.bot && chance(&mut self.random, campaign.cvr * conversion_factor) {
                self.conversion(world, &seen, creative.campaign, time);
            }
        } else if viewed_through {
            self.conversion(world, &seen, creative.campaign, seen.time);
        }
    }

    fn conversion(&mut self, world: &World, impression: &Impression, campaign: u32, after: i64) {
        let action = match self.random.random_range(0..100_u32) {
            0..40 => Action::Visit,
            40..68 => Action::Signup,
            _ => Action::Purchase,
        };
        let delay = 2.0 * SECOND + exponential(&mut self.random, self.plan.conversion_delay);
        let time = after + delay as i64;
        let order = self.interactions;
        self.interaction(world, impression, campaign, action, time, order);
        if action == Action::Purchase && chance(&mut self.random, 0.02) {
            let delay = exponential(&mut self.random, self.plan.conversion_delay * 4.0);
            self.interaction(world, impression, campaign, Action::Refund, time + delay as i64, order);
        }
    }

    /// Sends an interaction. `order` is the number of the one that it belongs to: itself, or the
    /// purchase that is refunded.
    fn interaction(
        &mut self,
        world: &World,
        impression: &Impression,
        campaign: u32,
        action: Action,
        time: i64,
        order: u64,
    ) {
        let number = self.interactions;
        self.interactions += 1;
        let random = &mut self.random;
        let names_impression = impression.with_id && random.random_range(0..10_u32) < 6;
        // A click without an id of its own names its impression, so that no two such clicks are
        // alike.
        let with_id = !(action == Action::Click && names_impression && chance(random, self.plan.without_id));
        let (mut value_micros, mut quantity) = (0, 0);
        if action.has_order() {
            let mean = world.campaigns[campaign as usize].value_micros;
            value_micros = (mean * (0.3 + exponential(random, 0.7))) as i64 / 10_000 * 10_000 + 10_000;
            quantity = 1 + exponential(random, 0.6) as u8;
            if action == Action::Refund {
                value_micros = -value_micros;
            }
        }
        let currencies = self.plan.currencies.len();
        let currency = match random.random_range(0..4_u32) {
            0 if action.has_order() => random.random_range(0..currencies) as u8,
            _ => 0,
        };
        self.send(
            Body::Interaction(Interaction {
                number,
                order,
                user: impression.user,
                time: time.div_euclid(1_000) * 1_000,
                campaign,
                action,
                creative: impression.creative,
                impression: names_impression.then_some(impression.number),
                with_id,
                value_micros,
                currency,
                quantity,
            }),
            Concern { campaign: Some(campaign), website: impression.website },
            0.5,
        );
    }

    /// Simulates a request that we did not win: there is no bid, or it is too low.
    fn lost_auction(&mut self, world: &World, session: Session, time: i64) {
        let number = self.opportunities;
        self.opportunities += 1;
        let bid = chance(&mut self.random, 0.6).then(|| {
            let campaign = world.campaign_choice.pick(self.random.random());
            let campaign = &world.campaigns[campaign];
            let creative = self.random.random_range(campaign.creatives.clone());
            let bid_micros = (campaign.cpm_micros * (0.3 + self.random.random::<f64>())) as i64 / 100 * 100;
            OurBid { imp: 1, creative, bid_micros, clearing_micros: None }
        });
        self.auction(world, session, number, time, bid);
    }

    fn auction(&mut self, world: &World, session: Session, number: u64, time: i64, mut bid: Option<OurBid>) {
        let random = &mut self.random;
        let imps = if random.random_range(0..20_u32) == 0 { 2 } else { 1 };
        if let Some(bid) = &mut bid {
            bid.imp = random.random_range(1..=imps);
        }
        let (width, height) = match &bid {
            Some(bid) => {
                let creative = &world.creatives[bid.creative as usize];
                (creative.width, creative.height)
            }
            None => (300, 250),
        };
        let tmax = [80, 100, 120, 150, 250][random.random_range(0..5_usize)];
        let request = Bid {
            number,
            user: session.user,
            website: session.website,
            time,
            imps,
            width,
            height,
            tmax,
            bid,
            part: Part::Whole,
        };
        let campaign = request.bid.as_ref().map(|bid| world.creatives[bid.creative as usize].campaign);
        let concern = Concern { campaign, website: session.website };
        let won = request.bid.as_ref().is_some_and(|bid| bid.clearing_micros.is_some());
        if self.plan.kinds[2] && won && chance(random, self.plan.split_outcomes) {
            let seconds = 1.0 + exponential(random, 30.0);
            let outcome = Bid { part: Part::Outcome, ..request.clone() };
            let request = Bid { part: Part::Request, ..request };
            self.push(Event { copies: Copies::Split, body: Body::Bid(request) }, concern, 0.05);
            self.push(Event { copies: Copies::Split, body: Body::Bid(outcome) }, concern, seconds);
        } else {
            self.send(Body::Bid(request), concern, 0.05);
        }
    }

    /// A campaign with budget left. If none is found, one that overspends.
    fn campaign_with_budget(&mut self, world: &World, time: i64) -> u32 {
        let mut chosen = None;
        for _ in 0..CAMPAIGN_DRAWS {
            let campaign = world.campaign_choice.pick(self.random.random());
            if self.plan.story.has_begun(campaign as u32, time) {
                chosen = Some(campaign as u32);
                if self.spent_micros[campaign] < world.campaigns[campaign].budget_micros {
                    break;
                }
            }
        }
        // If no campaign that was drawn has begun, it is the first that has.
        let begun = |campaign: &u32| self.plan.story.has_begun(*campaign, time);
        chosen.or_else(|| (0..world.campaigns.len() as u32).find(begun)).unwrap_or_default()
    }

    /// Queues an event for sending, with the copies that the plan asks for. `delay` is its mean
    /// delay in seconds.
    fn send(&mut self, body: Body, concern: Concern, delay: f64) {
        let draw: f64 = self.random.random();
        let can_conflict = match &body {
            Body::Impression(impression) => impression.with_id && impression.cost_micros.is_some(),
            Body::Interaction(interaction) => interaction.with_id,
            Body::Bid(bid) => bid.imps == 1,
        };
        let duplicates = if self.plan.story.is_empty() {
            self.plan.duplicates
        } else {
            let (kind, time) = (body.kind(), body.time());
            self.plan.story.duplicates(kind, concern.campaign, concern.website, time).max(self.plan.duplicates)
        };
        let copies = if draw < self.plan.conflicts {
            if can_conflict { Copies::Conflict } else { Copies::Single }
        } else if draw < self.plan.conflicts + duplicates {
            Copies::Duplicate
        } else {
            Copies::Single
        };
        if copies != Copies::Single {
            let mut copy = body.clone();
            if copies == Copies::Conflict {
                self.make_conflicting(&mut copy);
            }
            // Most copies follow at once. Some are so late that a batch run may come in between.
            let mean = if self.random.random_range(0..5_u32) == 0 { 1_800.0 } else { 5.0 };
            self.push(Event { copies, body: copy }, concern, mean);
        }
        self.push(Event { copies, body }, concern, delay);
    }

    /// Changes the content of a copy, and often its time.
    fn make_conflicting(&mut self, body: &mut Body) {
        let random = &mut self.random;
        let shift = i64::from(random.random_range(-3..=3_i32)) * 1_000_000;
        match body {
            Body::Impression(impression) => {
                impression.time += shift;
                let more = i64::from(random.random_range(1..500_u32));
                impression.cost_micros = impression.cost_micros.map(|cost| cost + more);
            }
            Body::Interaction(interaction) => {
                // A new time makes the content different even if the interaction has no value that
                // could differ.
                interaction.time += if shift == 0 { 1_000_000 } else { shift };
                if interaction.action.has_order() {
                    interaction.value_micros += i64::from(random.random_range(1..2_000_u32)) * 10_000;
                }
            }
            Body::Bid(bid) => bid.tmax += 7,
        }
    }

    fn push(&mut self, event: Event, concern: Concern, delay_seconds: f64) {
        let random = &mut self.random;
        if !self.plan.kinds[kind_index(event.body.kind())] {
            return;
        }
        let mut due = event.body.time() + (exponential(random, delay_seconds) * SECOND) as i64;
        if chance(random, self.plan.late) {
            due += (60.0 * SECOND + exponential(random, HOUR as f64 / 2.0)) as i64;
        }
        let (kind, time) = (event.body.kind(), event.body.time());
        match self.plan.story.sending(kind, concern.campaign, concern.website, time) {
            Sending::AsUsual => {}
            Sending::Never => return,
            Sending::At(instant) => due = due.max(instant),
        }
        let order = self.pushed;
        self.pushed += 1;
        self.pending.push(Reverse(Pending { due, order, event }));
    }
}

fn session(random: &mut ChaCha8Rng, plan: &Plan, world: &World) -> Session {
    // Some users come back far more often than others.
    let skewed = random.random::<f64>().powf(1.6);
    let user = ((f64::from(plan.users) * skewed) as u32).min(plan.users - 1);
    let website = world.website_choice.pick(random.random()) as u32;
    let bot = world.user(user).bot;
    let left = 1 + exponential(random, 7.0) as u32;
    Session { user, website, bot, left: if bot { left * BOT_SESSION_FACTOR } else { left } }
}

/// The mean number of records per opportunity. It determines how many opportunities fit the events
/// into the plan's span.
fn records_per_opportunity(plan: &Plan, world: &World) -> f64 {
    let [impressions, interactions, bid_requests] = plan.kinds.map(|sent| if sent { 1.0 } else { 0.0 });
    let interactions = interactions * (world.ctr * (1.0 + world.cvr) + VIEW_THROUGH);
    let won = plan.bid_requests.min(1.0);
    let requests = bid_requests * (plan.bid_requests + won * plan.split_outcomes);
    let copies = 1.0 + plan.duplicates + plan.conflicts;
    ((impressions + interactions + requests) * copies / (1.0 - plan.malformed)).max(1e-6)
}
