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
}

impl Rules {
    /// The rules of a configuration.
    pub fn of(meaning: &Meaning) -> Rules {
        Rules { joins: meaning.attribution.clone(), refund_window: micros(meaning.conversions.refund_window) }
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
}

/// The touchpoints of one interaction, ordered by time. Only a refund may have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributed {
    /// Index of the interaction in the input.
    pub interaction: usize,
    /// Index of the order, if the interaction is a refund.
    pub order: Option<usize>,
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
/// Clicks and conversions without touchpoints are left out, and refunds without an order. The
/// result is ordered by the interactions' (time, id).
pub fn attribute(events: &[Event<'_>], rules: &Rules) -> Vec<Attributed> {
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_unstable_by(|&a, &b| events[a].order().cmp(&events[b].order()));
    let of_kind = |kind: Kind| order.iter().copied().filter(|&i| events[i].kind == kind).collect::<Vec<usize>>();
    let (impressions, clicks) = (of_kind(Kind::Impression), of_kind(Kind::Click));
    let finder = Finder { events, rules: &rules.joins, impressions, clicks };
    let joined: Vec<Option<usize>> = finder.clicks.iter().map(|&click| finder.impression_of_click(click)).collect();
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
        let order = match events[interaction].kind {
            Kind::Refund => match orders.order_of(interaction, rules) {
                Some(order) => Some(order),
                None => continue,
            },
            _ => None,
        };
        let touchpoints = touchpoints_of(order.unwrap_or(interaction));
        if order.is_some() || !touchpoints.is_empty() {
            result.push(Attributed { interaction, order, touchpoints });
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
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn event(kind: Kind, time: i64, id: &'static str, campaign: Option<&'static str>) -> Event<'static> {
        Event {
            kind,
            time,
            id,
            key: id.as_bytes(),
            campaign,
            advertiser: None,
            impression_id: None,
            order_id: None,
            conversion_type: "",
            primary: true,
        }
    }

    fn rules() -> Rules {
        Rules::of(&Meaning::default())
    }

    fn check(events: &[Event<'_>], expected: &[(&str, &[&str])]) {
        let found: Vec<(String, Vec<String>)> = attribute(events, &rules())
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
            let found =
                attribute(&events, &Rules { joins: Attribution { scope, ..Attribution::default() }, ..rules() });
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
    fn a_refund_has_the_touchpoints_of_its_latest_order() {
        let day = 24 * HOUR;
        let at = |kind, time, id, campaign, order| Event { order_id: order, ..event(kind, time, id, campaign) };
        let (a, order) = (Some("a"), Some("o"));
        let events = [
            event(Kind::Click, 0, "c1", a),
            at(Kind::Conversion, HOUR, "v1", a, order),
            event(Kind::Click, 2 * HOUR, "c2", a),
            at(Kind::Conversion, 3 * HOUR, "v2", a, order),
            at(Kind::Conversion, 4 * HOUR, "v3", Some("b"), order),
            at(Kind::Conversion, 4 * HOUR, "v4", a, Some("other")),
            at(Kind::Refund, 2 * HOUR, "r1", a, order),
            at(Kind::Refund, 5 * HOUR, "r2", a, order),
            at(Kind::Refund, 5 * HOUR, "r3", None, order),
            at(Kind::Refund, 3 * HOUR + 90 * day, "r4", a, order),
            at(Kind::Refund, 3 * HOUR + 90 * day + 1, "r5", a, order),
            at(Kind::Refund, 5 * HOUR, "r6", a, None),
            at(Kind::Refund, 0, "r7", a, order),
        ];
        let found = attribute(&events, &rules());
        let of = |id: &str| {
            let attributed = found.iter().find(|attributed| events[attributed.interaction].id == id)?;
            let touches: Vec<&str> = attributed.touchpoints.iter().map(|touch| events[touch.event].id).collect();
            Some((events[attributed.order?].id, touches))
        };
        assert_eq!(of("r1"), Some(("v1", vec!["c1"])));
        assert_eq!(of("r2"), Some(("v2", vec!["c1", "c2"])));
        // A refund of unknown scope may be of any. Its order has no touchpoints.
        assert_eq!(of("r3"), Some(("v3", vec![])));
        assert_eq!(of("r4"), Some(("v2", vec!["c1", "c2"])));
        assert_eq!((of("r5"), of("r6"), of("r7")), (None, None, None));
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
    fn only_the_latest_touchpoints_count() {
        let ids: Vec<String> = (0..120).map(|i| format!("c{i:03}")).collect();
        let mut events: Vec<Event<'_>> = ids
            .iter()
            .enumerate()
            .map(|(i, id)| Event { id, key: id.as_bytes(), ..event(Kind::Click, i as i64, "", Some("a")) })
            .collect();
        events.push(event(Kind::Conversion, HOUR, "v", Some("a")));
        let found = attribute(&events, &rules());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].touchpoints.len(), 100);
        assert_eq!(events[found[0].touchpoints[0].event].id, "c020");
    }
}
