//! Invalid traffic: finds the reason of every event that counts as invalid. The first rule that
//! applies gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::Input;
use super::attribution::{impression_of_click, order_of};
use super::events::{Events, Interaction};

const DAY: i64 = 86_400_000_000;

/// Gives events their reasons.
pub(super) fn classify(events: &mut Events, input: &Input) {
    by_themselves(events, input);
    by_rates(events, input);
    // Clicks that are left join impressions that are left. Those that came too soon go.
    let limit = input.meaning.invalid.fast_click.as_micros() as i128;
    let is_fast = |click: &Interaction| {
        let impression = impression_of_click(click, events, input).map(|place| &events.impressions[place]);
        let delta = impression.map(|seen| i128::from(click.common.time) - i128::from(seen.common.time));
        click.click && click.reason.is_none() && delta.is_some_and(|delta| delta < limit)
    };
    let fast: Vec<bool> = events.interactions.iter().map(is_fast).collect();
    for (click, _) in events.interactions.iter_mut().zip(fast).filter(|(_, is_fast)| *is_fast) {
        click.reason = Some("fast_click");
    }
    let of_invalid = |refund: &Interaction| {
        let order = refund.refund.then(|| order_of(refund, events, input)).flatten();
        refund.reason.is_none() && order.is_some_and(|order| events.interactions[order].reason.is_some())
    };
    let invalid: Vec<bool> = events.interactions.iter().map(of_invalid).collect();
    for (refund, _) in events.interactions.iter_mut().zip(invalid).filter(|(_, is_invalid)| *is_invalid) {
        refund.reason = Some("order_invalid");
    }
}

fn by_themselves(events: &mut Events, input: &Input) {
    let rules = &input.meaning.invalid;
    let is_robot = |agent: &Option<String>| rules.bot && agent.as_ref().is_some_and(|agent| has_robot(agent, input));
    for impression in &mut events.impressions {
        let row = &impression.row;
        let is_inside = |ip: &String| rules.data_centre.iter().any(|network| holds(network, ip));
        impression.reason = if is_robot(&row.user_agent) {
            Some("bot")
        } else if rules.zero_size && [row.width, row.height].contains(&Some(0)) {
            Some("zero_size")
        } else if row.ip.as_ref().is_some_and(is_inside) {
            Some("data_centre")
        } else {
            None
        };
    }
    for interaction in &mut events.interactions {
        interaction.reason = is_robot(&interaction.row.user_agent).then_some("bot");
    }
}

/// Whether a part of a robot stands somewhere where no exception covers it.
fn has_robot(agent: &str, input: &Input) -> bool {
    let agent: Vec<u8> = agent.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let places = |parts: &BTreeSet<String>| {
        let mut places = Vec::new();
        for part in parts {
            let part = part.to_ascii_lowercase().into_bytes();
            for begin in 0..agent.len() {
                if agent[begin..].starts_with(&part) {
                    places.push((begin, begin + part.len()));
                }
            }
        }
        places
    };
    let except = places(&input.meaning.invalid.bots_except);
    places(&input.meaning.invalid.bots)
        .iter()
        .any(|(begin, end)| !except.iter().any(|(from, to)| from <= begin && end <= to))
}

/// The bits of an address: 32 or 128.
fn bits(text: &str) -> Option<Vec<bool>> {
    let octets = match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => match address.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Ipv4Addr::new(a, b, c, d).octets().to_vec(),
            octets => octets.to_vec(),
        },
    };
    Some(octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1)).collect())
}

/// Whether the first bits of an address are those of a network. The networks of the tests are not
/// written as IPv4 within IPv6.
fn holds(network: &str, ip: &str) -> bool {
    let (begin, length) = network.split_once('/').unwrap_or((network, "128"));
    let (Some(network), Some(ip), Ok(length)) = (bits(begin), bits(ip), length.parse::<usize>()) else {
        return false;
    };
    let length = length.min(network.len());
    network.len() == ip.len() && network[..length] == ip[..length]
}

/// Counts events by group, and says for each whether its group has more than the most.
fn too_many<K: Ord>(groups: Vec<Option<K>>, most: u64) -> Vec<bool> {
    let mut counts: BTreeMap<&K, u64> = BTreeMap::new();
    for group in groups.iter().flatten() {
        *counts.entry(group).or_default() += 1;
    }
    groups.iter().map(|group| most > 0 && group.as_ref().is_some_and(|group| counts[group] > most)).collect()
}

fn by_rates(events: &mut Events, input: &Input) {
    let rules = &input.meaning.invalid;
    let day = |time: i64| time.div_euclid(DAY);
    let users = events.impressions.iter().map(|i| i.common.user.clone().map(|user| (user, day(i.common.time))));
    let users = too_many(users.collect(), rules.rate_user.impressions);
    let addresses = events.impressions.iter().map(|impression| {
        let ip = impression.row.ip.as_ref()?;
        Some((bits(ip).ok_or(ip.clone()), day(impression.common.time)))
    });
    let addresses = too_many(addresses.collect(), rules.rate_address);
    for (place, impression) in events.impressions.iter_mut().enumerate() {
        let reason = match (users[place], addresses[place]) {
            (true, _) => Some("rate_user"),
            (false, true) => Some("rate_address"),
            (false, false) => None,
        };
        impression.reason = impression.reason.or(reason);
    }
    let rates = rules.rate_user;
    for (kind, most) in [("click", rates.clicks), ("conversion", rates.conversions), ("refund", rates.refunds)] {
        let group = |event: &Interaction| {
            let user = event.common.user.clone().filter(|_| kind_of(event) == kind)?;
            Some((user, day(event.common.time)))
        };
        let many = too_many(events.interactions.iter().map(group).collect(), most);
        for (event, _) in events.interactions.iter_mut().zip(many).filter(|(_, is_many)| *is_many) {
            event.reason = event.reason.or(Some("rate_user"));
        }
    }
}

/// What an interaction is.
pub(super) fn kind_of(interaction: &Interaction) -> &'static str {
    match (interaction.click, interaction.refund) {
        (true, _) => "click",
        (false, true) => "refund",
        (false, false) => "conversion",
    }
}
