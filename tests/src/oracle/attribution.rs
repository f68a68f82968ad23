//! Correlation: finds the touchpoints of every click and conversion, and computes their credits.

use std::time::Duration;

use adlake_domain::settings::Scope;

use super::Input;
use super::events::{Common, Events, Impression, Interaction};

/// The credit of one whole conversion, in billionths.
const WHOLE: i128 = 1_000_000_000;

/// A touchpoint of an interaction.
#[derive(Debug, Clone)]
pub(super) struct Touch {
    pub on: On,
    /// The index of the impression behind the touchpoint: itself, or the one that the click is
    /// joined to.
    pub impression: Option<usize>,
    /// In billionths: last touch, first touch, linear, position-based, time decay.
    pub credits: [i128; 5],
    /// In micros, in the same order.
    pub revenues: [i128; 5],
}

/// The event that is the touchpoint: an index into the impressions or the interactions.
#[derive(Debug, Clone, Copy)]
pub(super) enum On {
    Impression(usize),
    Click(usize),
}

impl Touch {
    /// The fields of the touchpoint as an event.
    pub fn common<'a>(&self, events: &'a Events) -> &'a Common {
        match self.on {
            On::Impression(place) => &events.impressions[place].common,
            On::Click(place) => &events.interactions[place].common,
        }
    }
}

/// What an interaction is joined to.
#[derive(Debug, Clone, Default)]
pub(super) struct Joined {
    /// The touchpoints, ordered by time, so the last touch comes last. Those of a refund are those
    /// of its order.
    pub touches: Vec<Touch>,
    /// The place of a refund's order among the interactions.
    pub order: Option<usize>,
}

/// What every interaction is joined to.
pub(super) fn join(events: &Events, input: &Input) -> Vec<Joined> {
    let joined = |interaction: &Interaction| match interaction.reason {
        _ if interaction.refund => refund(interaction, events, input),
        // A click that came too soon has what it lacks from its impression.
        None | Some("fast_click") => Joined { touches: touches(interaction, events, input), order: None },
        Some(_) => Joined::default(),
    };
    events.interactions.iter().map(joined).collect()
}

/// The touchpoints of a click or conversion.
fn touches(interaction: &Interaction, events: &Events, input: &Input) -> Vec<Touch> {
    if interaction.click {
        let found = impression_of_click(interaction, events, input);
        return found.map(|place| vec![touch(On::Impression(place), Some(place))]).unwrap_or_default();
    }
    let mut touches = touchpoints_of_conversion(interaction, events, input);
    if interaction.primary && !touches.is_empty() {
        give_credit(interaction, &mut touches, events, input);
    }
    touches
}

/// A refund takes the touchpoints of its order, without credit, and shares its own value among them
/// as the order's credits tell.
fn refund(refund: &Interaction, events: &Events, input: &Input) -> Joined {
    let Some(order) = order_of(refund, events, input) else { return Joined::default() };
    if refund.reason.is_some() {
        return Joined { touches: Vec::new(), order: Some(order) };
    }
    let mut touches = touches(&events.interactions[order], events, input);
    let value = i128::from(refund.value_micros.unwrap_or(0));
    if events.interactions[order].primary {
        share(value, &mut touches);
    }
    for touch in &mut touches {
        touch.credits = [0; 5];
    }
    Joined { touches, order: Some(order) }
}

/// The latest conversion that a refund may belong to.
pub(super) fn order_of(refund: &Interaction, events: &Events, input: &Input) -> Option<usize> {
    let wanted = scope(&refund.common, input);
    let window = input.meaning.conversions.refund_window;
    let candidates = events.interactions.iter().enumerate().filter(|(_, order)| {
        let own = scope(&order.common, input);
        !order.click
            && !order.refund
            && order.order_id.is_some()
            && order.order_id == refund.order_id
            && reaches(&order.common, &refund.common, window)
            && (own == ScopeOf::None || wanted == ScopeOf::None || own == wanted)
    });
    let latest = candidates.max_by_key(|(_, order)| {
        let common = &order.common;
        let owner = common.scope_advertiser.clone().or_else(|| common.campaign.clone());
        (common.time, order.conversion_type.clone().unwrap_or_default(), owner, common.key)
    });
    latest.map(|(place, _)| place)
}

fn touch(on: On, impression: Option<usize>) -> Touch {
    Touch { on, impression, credits: [0; 5], revenues: [0; 5] }
}

/// Whether both have the same known user, and 0 <= delta <= window.
fn reaches(touchpoint: &Common, interaction: &Common, window: Duration) -> bool {
    let delta = i128::from(interaction.time) - i128::from(touchpoint.time);
    touchpoint.user.is_some()
        && touchpoint.user == interaction.user
        && delta >= 0
        && delta <= window.as_micros() as i128
}

fn latest<'a>(candidates: impl Iterator<Item = (usize, &'a Impression)>) -> Option<usize> {
    candidates.max_by_key(|(_, impression)| impression.common.order()).map(|(place, _)| place)
}

fn explicit_impression(interaction: &Interaction, events: &Events, window: Duration) -> Option<usize> {
    let named = interaction.impression_id.as_ref()?;
    latest(events.impressions.iter().enumerate().filter(|(_, impression)| {
        impression.reason.is_none()
            && impression.common.id == *named
            && reaches(&impression.common, &interaction.common, window)
    }))
}

pub(super) fn impression_of_click(click: &Interaction, events: &Events, input: &Input) -> Option<usize> {
    let window = input.meaning.attribution.click_to_impression_window;
    explicit_impression(click, events, window).or_else(|| {
        latest(events.impressions.iter().enumerate().filter(|(_, impression)| {
            let campaign = &impression.common.campaign;
            impression.reason.is_none()
                && reaches(&impression.common, &click.common, window)
                && (campaign.is_none() || *campaign == click.common.campaign)
        }))
    })
}

#[derive(PartialEq, Eq)]
enum ScopeOf<'a> {
    Advertiser(&'a str),
    Campaign(&'a str),
    None,
}

fn scope<'a>(event: &'a Common, input: &Input) -> ScopeOf<'a> {
    let advertiser = event.scope_advertiser.as_deref().map(ScopeOf::Advertiser);
    let campaign = event.campaign.as_deref().map(ScopeOf::Campaign);
    match input.meaning.attribution.scope {
        Scope::Auto => advertiser.or(campaign),
        Scope::Advertiser => advertiser,
        Scope::Campaign => campaign,
        Scope::Account => None,
    }
    .unwrap_or(ScopeOf::None)
}

fn touchpoints_of_conversion(conversion: &Interaction, events: &Events, input: &Input) -> Vec<Touch> {
    let rules = &input.meaning.attribution;
    let wanted = scope(&conversion.common, input);
    let matches = |touchpoint: &Common| match rules.scope {
        Scope::Account => true,
        _ => touchpoint.campaign.is_none() || (wanted != ScopeOf::None && scope(touchpoint, input) == wanted),
    };
    let mut touches: Vec<Touch> = events
        .interactions
        .iter()
        .enumerate()
        .filter(|(_, click)| click.click && click.reason.is_none())
        .filter(|(_, click)| reaches(&click.common, &conversion.common, rules.click_through_window))
        .filter(|(_, click)| matches(&click.common))
        .map(|(place, click)| touch(On::Click(place), impression_of_click(click, events, input)))
        .collect();
    if touches.is_empty() {
        let window = rules.view_through_window;
        touches = match explicit_impression(conversion, events, window) {
            Some(place) => vec![touch(On::Impression(place), Some(place))],
            None => events
                .impressions
                .iter()
                .enumerate()
                .filter(|(_, impression)| impression.reason.is_none())
                .filter(|(_, impression)| reaches(&impression.common, &conversion.common, window))
                .filter(|(_, impression)| matches(&impression.common))
                .map(|(place, _)| touch(On::Impression(place), Some(place)))
                .collect(),
        };
    }
    touches.sort_by_key(|touch| touch.common(events).order());
    let dropped = touches.len().saturating_sub(rules.touchpoints_max);
    touches.split_off(dropped)
}

fn give_credit(conversion: &Interaction, touches: &mut [Touch], events: &Events, input: &Input) {
    let count = touches.len();
    let last = count - 1;
    let last_time = touches[last].common(events).time;
    let half_life = input.meaning.attribution.half_life.as_micros() as f64;
    let weights: Vec<i128> = touches
        .iter()
        .map(|touch| {
            let age = (last_time - touch.common(events).time) as f64;
            ((1_u64 << 30) as f64 * (-age / half_life).exp2()).floor() as i128
        })
        .collect();
    let total_weight: i128 = weights.iter().sum();
    let value = i128::from(conversion.value_micros.unwrap_or(0));
    for (place, touch) in touches.iter_mut().enumerate() {
        let position = match (count, place) {
            (1, _) => WHOLE,
            (2, _) => WHOLE / 2,
            (_, 0) => WHOLE * 40 / 100,
            (_, place) if place == last => WHOLE * 40 / 100,
            _ => WHOLE * 20 / 100 / (count as i128 - 2),
        };
        touch.credits = [
            if place == last { WHOLE } else { 0 },
            if place == 0 { WHOLE } else { 0 },
            WHOLE / count as i128,
            position,
            WHOLE * weights[place] / total_weight,
        ];
    }
    for model in 0..5 {
        let given: i128 = touches.iter().map(|touch| touch.credits[model]).sum();
        touches[last].credits[model] += WHOLE - given;
    }
    share(value, touches);
}

/// Shares a value among touchpoints as their credits tell. The last one gets what is left.
fn share(value: i128, touches: &mut [Touch]) {
    for model in 0..5 {
        for touch in touches.iter_mut() {
            touch.revenues[model] = (value * touch.credits[model]).div_euclid(WHOLE);
        }
        let given: i128 = touches.iter().map(|touch| touch.revenues[model]).sum();
        if let Some(last) = touches.last_mut() {
            last.revenues[model] += value - given;
        }
    }
}
