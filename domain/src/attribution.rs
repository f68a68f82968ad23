//! Decides to which touchpoints an interaction is joined, and which credit each of them gets.
//!
//! [`attribute`] works on all the events of one user. These rules hold:
//!
//! - Touchpoints are never used up.
//! - The credits of a credited conversion sum to exactly [`CREDIT_WHOLE`] under every model, and
//!   its revenues to exactly its value.
//! - The result does not depend on the order of the input.

use serde::{Deserialize, Serialize};

use crate::settings::{Attribution, Scope};

/// The credit of a whole conversion. Credits are billionths.
pub const CREDIT_WHOLE: i64 = 1_000_000_000;

/// An attribution model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// All credit to the last touchpoint.
    #[default]
    LastTouch,
    /// All credit to the first touchpoint.
    FirstTouch,
    /// The same credit to each touchpoint.
    Linear,
    /// 40% each to the first and the last touchpoint. The others share the rest.
    PositionBased,
    /// The weight of a touchpoint halves for every half-life before the last touchpoint.
    TimeDecay,
}

impl Model {
    /// Every model, in the order of the columns.
    pub const ALL: [Model; 5] =
        [Model::LastTouch, Model::FirstTouch, Model::Linear, Model::PositionBased, Model::TimeDecay];

    /// The suffix of the model's columns.
    pub fn name(self) -> &'static str {
        match self {
            Model::LastTouch => "last_touch",
            Model::FirstTouch => "first_touch",
            Model::Linear => "linear",
            Model::PositionBased => "position_based",
            Model::TimeDecay => "time_decay",
        }
    }
}

/// The role of an event in attribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An impression: a touchpoint.
    Impression,
    /// A click: a touchpoint, and an interaction.
    Click,
    /// A conversion: an interaction.
    Conversion,
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
    /// Whether it is a conversion whose type is primary.
    pub primary: bool,
}

/// The touchpoints of one interaction, ordered by time. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributed {
    /// Index of the interaction in the input.
    pub interaction: usize,
    /// The touchpoints. The last touchpoint is the last element.
    pub touchpoints: Vec<Touchpoint>,
}

/// A touchpoint of an interaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touchpoint {
    /// Index of the touchpoint in the input.
    pub event: usize,
    /// Its impression: the touchpoint itself, or the impression that the click is joined to.
    pub impression: Option<usize>,
    /// Billionths by model, in the order of [`Model::ALL`].
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

    fn scope(&self, rules: &Attribution) -> Option<ScopeValue<'a>> {
        match (rules.scope, self.advertiser, self.campaign) {
            (Scope::Auto | Scope::Advertiser, Some(advertiser), _) => Some(ScopeValue::Advertiser(advertiser)),
            (Scope::Auto | Scope::Campaign, _, Some(campaign)) => Some(ScopeValue::Campaign(campaign)),
            _ => None,
        }
    }
}

/// Joins every click and conversion of one user to its touchpoints.
///
/// Interactions without touchpoints are left out. The result is ordered by the interactions' (time,
/// id).
pub fn attribute(events: &[Event<'_>], rules: &Attribution) -> Vec<Attributed> {
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_unstable_by(|&a, &b| events[a].order().cmp(&events[b].order()));
    let impressions: Vec<usize> = order.iter().copied().filter(|&i| events[i].kind == Kind::Impression).collect();
    let clicks: Vec<usize> = order.iter().copied().filter(|&i| events[i].kind == Kind::Click).collect();
    let finder = Finder { events, rules, impressions, clicks };
    let joined: Vec<Option<usize>> = finder.clicks.iter().map(|&click| finder.impression_of_click(click)).collect();
    let impression_behind = |event: usize| match events[event].kind {
        Kind::Impression => Some(event),
        Kind::Click => {
            let place = finder.clicks.binary_search_by(|&click| events[click].order().cmp(&events[event].order()));
            place.ok().and_then(|place| joined[place])
        }
        Kind::Conversion => None,
    };
    let mut result = Vec::new();
    for &interaction in &order {
        let touchpoints = match events[interaction].kind {
            Kind::Impression => continue,
            Kind::Click => impression_behind(interaction).into_iter().collect(),
            Kind::Conversion => finder.touchpoints_of_conversion(interaction),
        };
        if touchpoints.is_empty() {
            continue;
        }
        let times: Vec<i64> = touchpoints.iter().map(|&event| events[event].time).collect();
        let credits = if events[interaction].primary && events[interaction].kind == Kind::Conversion {
            credits(&times, micros(rules.half_life))
        } else {
            vec![[0; 5]; touchpoints.len()]
        };
        let touchpoints = touchpoints
            .into_iter()
            .zip(credits)
            .map(|(event, credits)| Touchpoint { event, impression: impression_behind(event), credits })
            .collect();
        result.push(Attributed { interaction, touchpoints });
    }
    result
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

/// The credits of the touchpoints at `times` (ascending), by model. For each model they sum to
/// [`CREDIT_WHOLE`].
pub fn credits(times: &[i64], half_life_micros: i64) -> Vec<[i64; 5]> {
    let count = times.len();
    let Some(&last_time) = times.last() else { return Vec::new() };
    let mut credits = vec![[0_i64; 5]; count];
    let last = count - 1;
    credits[0][1] = CREDIT_WHOLE;
    let linear = CREDIT_WHOLE / count as i64;
    let shared = if count > 2 { CREDIT_WHOLE / 5 / (count as i64 - 2) } else { 0 };
    let weights: Vec<i128> = times.iter().map(|&time| decay_weight(last_time - time, half_life_micros)).collect();
    let total: i128 = weights.iter().sum();
    for (place, credit) in credits.iter_mut().enumerate() {
        credit[2] = linear;
        credit[3] = match (count, place) {
            (2, 0) => CREDIT_WHOLE / 2,
            (_, 0) => CREDIT_WHOLE / 5 * 2,
            _ => shared,
        };
        credit[4] = (weights[place] * i128::from(CREDIT_WHOLE) / total) as i64;
    }
    // In every model the last touchpoint gets the remainder. For "last touch" that is everything.
    credits[last] = [0; 5];
    if last == 0 {
        return vec![[CREDIT_WHOLE; 5]];
    }
    let rest: [i64; 5] = std::array::from_fn(|model| CREDIT_WHOLE - credits.iter().map(|c| c[model]).sum::<i64>());
    credits[last] = rest;
    credits
}

/// floor(2^30 x 2^-(age / half-life)).
fn decay_weight(age_micros: i64, half_life_micros: i64) -> i128 {
    let halvings = age_micros as f64 / (half_life_micros.max(1)) as f64;
    ((-halvings).exp2() * f64::from(1 << 30)).floor() as i128
}

/// The revenues of touchpoints with these credits: floor(value x credit / 10^9). The last
/// touchpoint gets the remainder.
///
/// If all credits are 0, so are the revenues.
pub fn revenues(value_micros: i64, credits: &[[i64; 5]]) -> Vec<[i64; 5]> {
    let mut revenues: Vec<[i64; 5]> = credits
        .iter()
        .map(|credits| {
            credits.map(|credit| {
                let product = i128::from(value_micros) * i128::from(credit);
                product.div_euclid(i128::from(CREDIT_WHOLE)) as i64
            })
        })
        .collect();
    for model in 0..5 {
        let credited: i64 = credits.iter().map(|credits| credits[model]).sum();
        let given: i128 = revenues.iter().map(|revenues| i128::from(revenues[model])).sum();
        if let Some(last) = revenues.last_mut()
            && credited != 0
        {
            // The remainder lies between 0 and the value, so it fits 64 bits.
            let whole = i128::from(last[model]) + i128::from(value_micros) - given;
            last[model] = whole as i64;
        }
    }
    revenues
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn event(kind: Kind, time: i64, id: &'static str, campaign: Option<&'static str>) -> Event<'static> {
        Event { kind, time, id, key: id.as_bytes(), campaign, advertiser: None, impression_id: None, primary: true }
    }

    fn check(events: &[Event<'_>], expected: &[(&str, &[&str])]) {
        let found: Vec<(String, Vec<String>)> = attribute(events, &Attribution::default())
            .into_iter()
            .map(|a| {
                let ids = a.touchpoints.iter().map(|t| events[t.event].id.to_string()).collect();
                (events[a.interaction].id.to_string(), ids)
            })
            .collect();
        let expected: Vec<(String, Vec<String>)> =
            expected.iter().map(|(i, t)| (i.to_string(), t.iter().map(|t| t.to_string()).collect())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn click_joins_the_latest_impression_of_its_campaign() {
        let (a, b) = (Some("a"), Some("b"));
        check(
            &[
                event(Kind::Impression, 0, "i1", a),
                event(Kind::Impression, HOUR, "i2", a),
                event(Kind::Impression, 2 * HOUR, "i3", b),
                event(Kind::Click, 3 * HOUR, "c", a),
            ],
            &[("c", &["i2"])],
        );
        // The window includes both its ends, and events of the same instant are joined.
        check(&[event(Kind::Impression, 0, "i", a), event(Kind::Click, 24 * HOUR, "c", a)], &[("c", &["i"])]);
        check(&[event(Kind::Impression, 0, "i", a), event(Kind::Click, 24 * HOUR + 1, "c", a)], &[]);
        check(&[event(Kind::Impression, 5, "i", a), event(Kind::Click, 5, "c", a)], &[("c", &["i"])]);
        check(&[event(Kind::Impression, 6, "i", a), event(Kind::Click, 5, "c", a)], &[]);
        // A touchpoint of unknown campaign matches any. For the same instant the id decides.
        check(&[event(Kind::Impression, 0, "i", None), event(Kind::Click, 5, "c", a)], &[("c", &["i"])]);
        check(
            &[event(Kind::Impression, 0, "i2", a), event(Kind::Impression, 0, "i10", a), event(Kind::Click, 5, "c", a)],
            &[("c", &["i2"])],
        );
    }

    #[test]
    fn explicit_impression_wins_where_it_is_valid() {
        let mut click = event(Kind::Click, 2 * HOUR, "c", Some("a"));
        click.impression_id = Some("i1");
        let first = event(Kind::Impression, 0, "i1", Some("b"));
        let second = event(Kind::Impression, HOUR, "i2", Some("a"));
        check(&[first.clone(), second.clone(), click.clone()], &[("c", &["i1"])]);
        click.impression_id = Some("elsewhere");
        check(&[first, second, click], &[("c", &["i2"])]);
    }

    #[test]
    fn conversion_prefers_clicks_to_views() {
        let a = Some("a");
        check(
            &[
                event(Kind::Impression, 0, "i", a),
                event(Kind::Click, HOUR, "c1", a),
                event(Kind::Click, 2 * HOUR, "c2", Some("b")),
                event(Kind::Conversion, 3 * HOUR, "v", a),
            ],
            &[("c1", &["i"]), ("v", &["c1"])],
        );
        check(&[event(Kind::Impression, 0, "i", a), event(Kind::Conversion, HOUR, "v", a)], &[("v", &["i"])]);
        check(&[event(Kind::Impression, 0, "i", a), event(Kind::Conversion, 25 * HOUR, "v", a)], &[]);
    }

    #[test]
    fn scope_is_the_advertiser_where_known() {
        let mut click = event(Kind::Click, 0, "c", Some("a"));
        let mut conversion = event(Kind::Conversion, HOUR, "v", Some("b"));
        check(&[click.clone(), conversion.clone()], &[]);
        click.advertiser = Some("x");
        conversion.advertiser = Some("x");
        check(&[click, conversion], &[("v", &["c"])]);
    }

    #[test]
    fn every_touchpoint_of_the_user_is_in_the_scope_account() {
        let events = [
            event(Kind::Impression, 0, "i", Some("a")),
            event(Kind::Click, HOUR, "c1", Some("b")),
            event(Kind::Click, 2 * HOUR, "c2", None),
            event(Kind::Click, 3 * HOUR, "c3", Some("a")),
            event(Kind::Conversion, 4 * HOUR, "v1", None),
            event(Kind::Conversion, 5 * HOUR, "v2", Some("d")),
        ];
        let touchpoints = |scope: Scope, id: &str| -> Vec<&str> {
            let found = attribute(&events, &Attribution { scope, ..Attribution::default() });
            let of = found.iter().find(|attributed| events[attributed.interaction].id == id);
            of.map(|a| a.touchpoints.iter().map(|t| events[t.event].id).collect()).unwrap_or_default()
        };
        assert_eq!(touchpoints(Scope::Account, "v1"), ["c1", "c2", "c3"]);
        assert_eq!(touchpoints(Scope::Account, "v2"), ["c1", "c2", "c3"]);
        // Clicks are joined by campaign even so.
        assert_eq!(touchpoints(Scope::Account, "c1"), Vec::<&str>::new());
        assert_eq!(touchpoints(Scope::Account, "c3"), ["i"]);
        // In the other scopes a conversion of unknown scope is joined only by touchpoints of
        // unknown campaign.
        for scope in [Scope::Auto, Scope::Advertiser, Scope::Campaign] {
            assert_eq!(touchpoints(scope, "v1"), ["c2"], "{scope:?}");
        }
    }

    #[test]
    fn a_region_stays_in_its_country() {
        assert!(takes_region(None, None));
        assert!(takes_region(None, Some("DE")));
        assert!(takes_region(Some("DE"), Some("DE")));
        assert!(!takes_region(Some("PT"), Some("DE")));
        assert!(!takes_region(Some("PT"), None));
    }

    #[test]
    fn the_largest_values_are_whole() {
        let credits = credits(&[0, HOUR, 2 * HOUR], HOUR);
        for value in [10_i64.pow(16), -(10_i64.pow(16)), i64::MAX, i64::MIN] {
            let revenues = revenues(value, &credits);
            for model in 0..5 {
                let sum: i128 = revenues.iter().map(|r| i128::from(r[model])).sum();
                assert_eq!(sum, i128::from(value), "model {model}");
            }
        }
    }

    #[test]
    fn only_the_latest_touchpoints_count() {
        let ids: Vec<String> = (0..120).map(|i| format!("c{i:03}")).collect();
        let mut events: Vec<Event<'_>> = ids
            .iter()
            .enumerate()
            .map(|(i, id)| Event { id, key: id.as_bytes(), ..event(Kind::Click, i as i64, "", Some("a")) })
            .collect();
        events.push(event(Kind::Conversion, HOUR, "v", Some("a")));
        let found = attribute(&events, &Attribution::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].touchpoints.len(), 100);
        assert_eq!(events[found[0].touchpoints[0].event].id, "c020");
    }

    #[test]
    fn models() {
        let week = micros(Duration::from_secs(7 * 86_400));
        assert_eq!(credits(&[5], week), vec![[CREDIT_WHOLE; 5]]);
        let two = credits(&[0, week], week);
        assert_eq!(two[0], [0, 1_000_000_000, 500_000_000, 500_000_000, 333_333_333]);
        assert_eq!(two[1], [1_000_000_000, 0, 500_000_000, 500_000_000, 666_666_667]);
        let three = credits(&[0, 0, 0], week);
        assert_eq!(three[1], [0, 0, 333_333_333, 200_000_000, 333_333_333]);
        assert_eq!(three[2], [1_000_000_000, 0, 333_333_334, 400_000_000, 333_333_334]);
    }

    #[test]
    fn refunds_are_floored_downwards() {
        let credits = credits(&[0, 0, 0], HOUR);
        let revenues = revenues(-10, &credits);
        assert_eq!(revenues[0][2], -4);
        assert_eq!(revenues.iter().map(|r| r[2]).sum::<i64>(), -10);
    }

    proptest! {
        #[test]
        fn credits_and_revenues_are_whole(
            mut times in prop::collection::vec(0_i64..30 * 24 * HOUR, 1..100),
            value in -1_000_000_000_i64..1_000_000_000_000,
        ) {
            times.sort_unstable();
            let credits = credits(&times, 7 * 24 * HOUR);
            let revenues = revenues(value, &credits);
            for model in 0..5 {
                prop_assert_eq!(credits.iter().map(|c| c[model]).sum::<i64>(), CREDIT_WHOLE);
                prop_assert_eq!(revenues.iter().map(|r| r[model]).sum::<i64>(), value);
                prop_assert!(credits.iter().all(|c| c[model] >= 0));
            }
        }
    }
}
