//! Decides to which touchpoints an interaction is joined. [`mod@crate::credit`] says which credit
//! each of them gets.
//!
//! [`attribute`] works on all the events of one user. These rules hold:
//!
//! - Touchpoints are never used up.
//! - The result does not depend on the order of the input.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::credit::credits;
use crate::invalid::{FAST_CLICK, ORDER_INVALID};
use crate::settings::{Attribution, Meaning, Scope};

/// The role of an event in attribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An impression: a touchpoint.
    Impression,
    /// A click: a touchpoint, and an interaction.
    Click,
    /// A conversion: an interaction.
    Conversion,
    /// A refund: an interaction. Its touchpoints are those of its order.
    Refund,
}

/// The rules of attribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How clicks and conversions are joined.
    pub joins: Attribution,
    /// The longest time from an order to its refund, in microseconds.
    pub refund_window: i64,
    /// A click is invalid that comes less than this after its impression, in microseconds.
    pub fast_click: i64,
}

impl Rules {
    /// The rules of a configuration.
    pub fn of(meaning: &Meaning) -> Rules {
        Rules {
            joins: meaning.attribution.clone(),
            refund_window: micros(meaning.conversions.refund_window),
            fast_click: micros(meaning.invalid.fast_click),
        }
    }
}

/// An event of a user, as attribution sees it.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its time, in microseconds UTC.
    pub time: i64,
    /// Its id as shown. It orders events of the same instant.
    pub id: &'a str,
    /// Its identity. It orders events of the same instant and id.
    pub key: &'a [u8],
    /// Its campaign, if known.
    pub campaign: Option<&'a str>,
    /// The campaign's advertiser according to `ref/campaigns`, if known.
    pub advertiser: Option<&'a str>,
    /// The explicit `impression_id` of a click or conversion.
    pub impression_id: Option<&'a str>,
    /// The `order_id` of a conversion or refund, if known.
    pub order_id: Option<&'a str>,
    /// Its `conversion_type` as sent.
    pub conversion_type: &'a str,
    /// Whether it is a conversion whose type is primary.
    pub primary: bool,
    /// Whether it is valid as far as is known before attribution. Invalid impressions and clicks
    /// are no touchpoints.
    pub valid: bool,
}

/// The touchpoints of one interaction, ordered by time. Only a refund may have none. Invalid
/// interactions have none, but a click that came too soon has its impression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributed {
    /// Index of the interaction in the input.
    pub interaction: usize,
    /// Index of the order, if the interaction is a refund.
    pub order: Option<usize>,
    /// Why it is invalid, if attribution tells: [`FAST_CLICK`] or [`ORDER_INVALID`].
    pub invalid: Option<&'static str>,
    /// The touchpoints. The last touchpoint is the last element. Those of a refund are those of its
    /// order, with the credits that the order gives them.
    pub touchpoints: Vec<Touchpoint>,
}

/// A touchpoint of an interaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touchpoint {
    /// Index of the touchpoint in the input.
    pub event: usize,
    /// Its impression: the touchpoint itself, or the impression that the click is joined to.
    pub impression: Option<usize>,
    /// Billionths by model, in the order of [`Model::ALL`](crate::credit::Model::ALL).
    pub credits: [i64; 5],
}

#[derive(PartialEq, Eq)]
enum ScopeValue<'a> {
    Advertiser(&'a str),
    Campaign(&'a str),
}

impl<'a> Event<'a> {
    fn order(&self) -> (i64, &'a [u8], &'a [u8]) {
        (self.time, self.id.as_bytes(), self.key)
    }

    /// The order of conversions with the same `order_id`: the greatest is the latest.
    fn order_of_orders(&self) -> (i64, &'a [u8], Option<&'a [u8]>, &'a [u8]) {
        let owner = self.advertiser.or(self.campaign).map(str::as_bytes);
        (self.time, self.conversion_type.as_bytes(), owner, self.key)
    }

    fn scope(&self, rules: &Attribution) -> Option<ScopeValue<'a>> {
        match (rules.scope, self.advertiser, self.campaign) {
            (Scope::Auto | Scope::Advertiser, Some(advertiser), _) => Some(ScopeValue::Advertiser(advertiser)),
            (Scope::Auto | Scope::Campaign, _, Some(campaign)) => Some(ScopeValue::Campaign(campaign)),
            _ => None,
        }
    }
}

/// Joins every click, conversion and refund of one user to its touchpoints.
///
/// Left out are clicks and conversions without touchpoints or that were invalid before, and refunds
/// without an order. The result is ordered by the interactions' (time, id).
pub fn attribute(events: &[Event<'_>], rules: &Rules) -> Vec<Attributed> {
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_unstable_by(|&a, &b| events[a].order().cmp(&events[b].order()));
    let valid = |kind: Kind| {
        order.iter().copied().filter(|&i| events[i].kind == kind && events[i].valid).collect::<Vec<usize>>()
    };
    let mut finder = Finder { events, rules: &rules.joins, impressions: valid(Kind::Impression), clicks: Vec::new() };
    let is_fast = |click: usize, impression: usize| events[click].time - events[impression].time < rules.fast_click;
    let (mut joined, mut fast) = (Vec::new(), BTreeMap::new());
    for click in valid(Kind::Click) {
        match finder.impression_of_click(click) {
            Some(impression) if is_fast(click, impression) => drop(fast.insert(click, impression)),
            impression => {
                finder.clicks.push(click);
                joined.push(impression);
            }
        }
    }
    let impression_behind = |event: usize| match events[event].kind {
        Kind::Impression => Some(event),
        Kind::Click => {
            let place = finder.clicks.binary_search_by(|&click| events[click].order().cmp(&events[event].order()));
            place.ok().and_then(|place| joined[place])
        }
        Kind::Conversion | Kind::Refund => None,
    };
    let touchpoints_of = |interaction: usize| {
        let touchpoints = match events[interaction].kind {
            Kind::Click => impression_behind(interaction).into_iter().collect(),
            Kind::Conversion => finder.touchpoints_of_conversion(interaction),
            Kind::Impression | Kind::Refund => Vec::new(),
        };
        let times: Vec<i64> = touchpoints.iter().map(|&event| events[event].time).collect();
        let credits = if events[interaction].primary && events[interaction].kind == Kind::Conversion {
            credits(&times, micros(rules.joins.half_life))
        } else {
            vec![[0; 5]; touchpoints.len()]
        };
        let with_impression = |(event, credits)| Touchpoint { event, impression: impression_behind(event), credits };
        touchpoints.into_iter().zip(credits).map(with_impression).collect::<Vec<Touchpoint>>()
    };
    let orders = Orders::of(events, &order);
    let mut result = Vec::new();
    for &interaction in &order {
        let event = &events[interaction];
        let attributed = |order, invalid, touchpoints| Attributed { interaction, order, invalid, touchpoints };
        if event.kind == Kind::Refund {
            let Some(order) = orders.order_of(interaction, rules) else { continue };
            result.push(match (event.valid, events[order].valid) {
                (true, true) => attributed(Some(order), None, touchpoints_of(order)),
                (true, false) => attributed(Some(order), Some(ORDER_INVALID), Vec::new()),
                (false, _) => attributed(Some(order), None, Vec::new()),
            });
        } else if let Some(&impression) = fast.get(&interaction) {
            let touchpoint = Touchpoint { event: impression, impression: Some(impression), credits: [0; 5] };
            result.push(attributed(None, Some(FAST_CLICK), vec![touchpoint]));
        } else if event.valid {
            let touchpoints = touchpoints_of(interaction);
            if !touchpoints.is_empty() {
                result.push(attributed(None, None, touchpoints));
            }
        }
    }
    result
}

/// The conversions that a refund may belong to.
struct Orders<'a, 'e> {
    events: &'a [Event<'e>],
    /// By `order_id`, ordered by time. Empty if there are no refunds.
    by_id: BTreeMap<&'e str, Vec<usize>>,
}

impl<'a, 'e> Orders<'a, 'e> {
    /// `order` are the places of the events, ordered by time.
    fn of(events: &'a [Event<'e>], order: &[usize]) -> Orders<'a, 'e> {
        let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        if events.iter().any(|event| event.kind == Kind::Refund) {
            for &place in order.iter().filter(|&&place| events[place].kind == Kind::Conversion) {
                if let Some(id) = events[place].order_id {
                    by_id.entry(id).or_default().push(place);
                }
            }
        }
        Orders { events, by_id }
    }

    /// The order of a refund: the latest conversion with its `order_id`, in the window, and of the
    /// same scope where both scopes are known.
    fn order_of(&self, refund: usize, rules: &Rules) -> Option<usize> {
        let refund = &self.events[refund];
        let candidates = self.by_id.get(refund.order_id?)?;
        let from = refund.time.saturating_sub(rules.refund_window);
        let begin = candidates.partition_point(|&i| self.events[i].time < from);
        let end = candidates.partition_point(|&i| self.events[i].time <= refund.time);
        let scope = refund.scope(&rules.joins);
        let fits = |&&order: &&usize| match (&scope, self.events[order].scope(&rules.joins)) {
            (Some(one), Some(other)) => *one == other,
            _ => true,
        };
        let fitting = candidates.get(begin..end)?.iter().filter(fits);
        fitting.copied().max_by_key(|&order| self.events[order].order_of_orders())
    }
}

/// A duration in microseconds, at most `i64::MAX`.
pub fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

struct Finder<'a, 'e> {
    events: &'a [Event<'e>],
    rules: &'a Attribution,
    impressions: Vec<usize>,
    clicks: Vec<usize>,
}

impl Finder<'_, '_> {
    /// The touchpoints that are at most `window` older than `time`, and not newer. `touchpoints` is
    /// ordered by time.
    fn within<'t>(&self, touchpoints: &'t [usize], time: i64, window: i64) -> &'t [usize] {
        let from = touchpoints.partition_point(|&i| self.events[i].time < time.saturating_sub(window));
        let to = touchpoints.partition_point(|&i| self.events[i].time <= time);
        &touchpoints[from..to]
    }

    /// The impression of this user that the interaction names, if it is within the window.
    fn explicit_impression(&self, interaction: usize, window: i64) -> Option<usize> {
        let named = self.events[interaction].impression_id?;
        let candidates = self.within(&self.impressions, self.events[interaction].time, window);
        candidates.iter().copied().rev().find(|&i| self.events[i].id == named)
    }

    fn impression_of_click(&self, click: usize) -> Option<usize> {
        let event = &self.events[click];
        let window = micros(self.rules.click_to_impression_window);
        self.explicit_impression(click, window).or_else(|| {
            let candidates = self.within(&self.impressions, event.time, window);
            candidates.iter().copied().rev().find(|&i| {
                let campaign = self.events[i].campaign;
                campaign.is_none() || campaign == event.campaign
            })
        })
    }

    fn touchpoints_of_conversion(&self, conversion: usize) -> Vec<usize> {
        let event = &self.events[conversion];
        let scope = event.scope(self.rules);
        let in_scope = |&touchpoint: &usize| {
            let touchpoint = &self.events[touchpoint];
            self.rules.scope == Scope::Account
                || touchpoint.campaign.is_none()
                || (scope.is_some() && touchpoint.scope(self.rules) == scope)
        };
        let latest = |candidates: &[usize]| {
            let mut found: Vec<usize> =
                candidates.iter().rev().filter(|i| in_scope(i)).take(self.rules.touchpoints_max).copied().collect();
            found.reverse();
            found
        };
        let clicks = latest(self.within(&self.clicks, event.time, micros(self.rules.click_through_window)));
        if !clicks.is_empty() {
            return clicks;
        }
        let window = micros(self.rules.view_through_window);
        match self.explicit_impression(conversion, window) {
            Some(impression) => vec![impression],
            None => latest(self.within(&self.impressions, event.time, window)),
        }
    }
}

/// Whether an event without a region takes the region of its touchpoint: only if its country is
/// unknown too, or is the touchpoint's country. Countries are normalized.
pub fn takes_region(country: Option<&str>, touch_country: Option<&str>) -> bool {
    country.is_none() || country == touch_country
}

#[cfg(test)]
mod tests;
