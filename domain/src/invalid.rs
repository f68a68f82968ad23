//! Invalid traffic: events that no person caused, or that stand for nothing that was seen. They are
//! classified with a reason, and never deleted.
//!
//! The rules are applied in this order. The first that applies gives the reason:
//!
//! 1. [`Classifier`]: what one event tells of itself (`bot`, `zero_size`, `data_centre`).
//! 2. Rates: how many events of a kind a user or an address has on a UTC day (`rate_user`,
//!    `rate_address`). All events count, whatever other reasons apply to them.
//! 3. `fast_click`: less than [`Invalid::fast_click`] after the impression that the click joined.
//! 4. `order_invalid`: a refund whose order is invalid. This rule is always on.
//!
//! The plans in `adlake-lake` apply the rates. [`crate::attribution`] applies the last two.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A part of the user agent is that of a robot.
pub const BOT: &str = "bot";
/// The impression has no width or no height.
pub const ZERO_SIZE: &str = "zero_size";
/// The address is in a network of a data centre.
pub const DATA_CENTRE: &str = "data_centre";
/// The user has too many events of the kind on the day.
pub const RATE_USER: &str = "rate_user";
/// The address has too many impressions on the day.
pub const RATE_ADDRESS: &str = "rate_address";
/// The click came too soon after its impression.
pub const FAST_CLICK: &str = "fast_click";
/// The order of the refund is invalid.
pub const ORDER_INVALID: &str = "order_invalid";

/// Which traffic is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Invalid {
    /// Whether events are invalid whose user agents have one of the parts in `bots`.
    pub bot: bool,
    /// Parts of user agents of robots. ASCII case is ignored.
    pub bots: BTreeSet<String>,
    /// A file with more of them. Empty: none. It is read with the configuration.
    pub bots_file: String,
    /// A part counts as none where it occurs within one of these.
    pub bots_except: BTreeSet<String>,
    /// Whether impressions without width or height are invalid.
    pub zero_size: bool,
    /// Networks (CIDR) and addresses of data centres. Impressions from there are invalid.
    pub data_centre: BTreeSet<String>,
    /// A file with more of them. Empty: none. It is read with the configuration.
    pub data_centre_file: String,
    /// The most events of a user on a UTC day that are valid.
    pub rate_user: UserRates,
    /// The most impressions of an address on a UTC day that are valid. 0: any number.
    pub rate_address: u64,
    /// A click is invalid that comes less than this after its impression. 0: none is.
    #[serde(with = "humantime_serde")]
    pub fast_click: Duration,
}

/// The most events of a user on a UTC day that are valid, by kind. 0: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserRates {
    /// Impressions.
    pub impressions: u64,
    /// Clicks.
    pub clicks: u64,
    /// Conversions of any type.
    pub conversions: u64,
    /// Refunds.
    pub refunds: u64,
}

impl Default for Invalid {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_string()).collect();
        Invalid {
            bot: true,
            bots: texts(&["bot", "crawl", "spider", "headless"]),
            bots_file: String::new(),
            bots_except: texts(&["cubot"]),
            zero_size: true,
            data_centre: BTreeSet::new(),
            data_centre_file: String::new(),
            rate_user: UserRates::default(),
            rate_address: 0,
            fast_click: Duration::ZERO,
        }
    }
}

impl Invalid {
    /// Takes the lines of the files in place of the files' names. `read` reads a file.
    pub fn take_files(&mut self, read: impl Fn(&str) -> Result<String, String>) -> Result<(), String> {
        for (key, file, entries) in [
            ("invalid.bots_file", &mut self.bots_file, &mut self.bots),
            ("invalid.data_centre_file", &mut self.data_centre_file, &mut self.data_centre),
        ] {
            if !file.is_empty() {
                let text = read(file).map_err(|error| format!("{key}: {error}"))?;
                entries.extend(text.lines().filter_map(entry).map(str::to_string));
                file.clear();
            }
        }
        Ok(())
    }

    /// Refuses what cannot be meant. The message names the key.
    pub fn check(&self) -> Result<(), String> {
        Classifier::new(self).map(|_| ())
    }
}

/// The entry of a line of a file: what stands before the first `|`. Blank lines are none, nor are
/// lines that begin with `#` and lines whose second field is `0` (the IAB's lists mark entries so
/// that no longer count).
fn entry(line: &str) -> Option<&str> {
    let mut fields = line.split('|').map(str::trim);
    let entry = fields.next()?;
    (!entry.is_empty() && !entry.starts_with('#') && fields.next() != Some("0")).then_some(entry)
}

/// Applies the rules that look at one event alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classifier {
    bots: Vec<String>,
    except: Vec<String>,
    zero_size: bool,
    /// Of IPv4, and of IPv6: the first and the last address of each, ordered, without overlaps.
    networks: [Vec<(u128, u128)>; 2],
}

impl Classifier {
    /// The rules of a configuration. The message of an error names the key.
    pub fn new(invalid: &Invalid) -> Result<Classifier, String> {
        for (key, parts) in [("invalid.bots", &invalid.bots), ("invalid.bots_except", &invalid.bots_except)] {
            if parts.contains("") {
                return Err(format!("{key}: an empty text is in every user agent"));
            }
        }
        let lower = |parts: &BTreeSet<String>| parts.iter().map(|part| part.to_ascii_lowercase()).collect();
        let mut networks = [Vec::new(), Vec::new()];
        for text in &invalid.data_centre {
            let (is_v6, range) = network(text).ok_or_else(|| {
                format!("invalid.data_centre: {text:?} is neither an address nor a network like 192.0.2.0/24")
            })?;
            networks[usize::from(is_v6)].push(range);
        }
        Ok(Classifier {
            bots: if invalid.bot { lower(&invalid.bots) } else { Vec::new() },
            except: lower(&invalid.bots_except),
            zero_size: invalid.zero_size,
            networks: networks.map(merged),
        })
    }

    /// Whether a user agent is that of a robot.
    pub fn is_bot(&self, user_agent: &str) -> bool {
        if self.bots.is_empty() {
            return false;
        }
        let text = user_agent.to_ascii_lowercase();
        self.bots.iter().any(|part| {
            occurrences(&text, part).any(|begin| {
                let end = begin + part.len();
                let mut excused = self.except.iter().flat_map(|other| {
                    occurrences(&text, other).map(move |from| from <= begin && end <= from + other.len())
                });
                !excused.any(|is_within| is_within)
            })
        })
    }

    /// Whether impressions of this size are invalid.
    pub fn is_zero_size(&self, width: Option<i32>, height: Option<i32>) -> bool {
        self.zero_size && (width == Some(0) || height == Some(0))
    }

    /// Whether an address is in one of the networks.
    pub fn is_in_data_centre(&self, ip: &str) -> bool {
        if self.networks.iter().all(Vec::is_empty) {
            return false;
        }
        let Some(address) = address(ip) else { return false };
        let networks = &self.networks[usize::from(address.is_ipv6())];
        let address = number(address);
        let place = networks.partition_point(|(_, last)| *last < address);
        networks.get(place).is_some_and(|(first, _)| *first <= address)
    }
}

/// The places at which a text has a part, overlapping ones too.
fn occurrences<'a>(text: &'a str, part: &'a str) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + text.get(from..)?.find(part)?;
        // The next character may begin at a later byte.
        from = at + text[at..].chars().next().map_or(1, char::len_utf8);
        Some(at)
    })
}

/// The address that a text spells. IPv4 within IPv6 is IPv4. A port, a zone and leading zeros are
/// no part of an address.
pub fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether a network (or an address alone) is of IPv6, and its first and last address. Bits beyond
/// the length are ignored.
fn network(text: &str) -> Option<(bool, (u128, u128))> {
    let (begin, length) = match text.trim().split_once('/') {
        Some((begin, length)) => (begin, Some(length)),
        None => (text.trim(), None),
    };
    let spelled: IpAddr = begin.parse().ok()?;
    let bits = if spelled.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length.parse::<u32>().ok()?,
        Some(_) => return None,
        None => bits,
    };
    let free = bits.checked_sub(length)?;
    // A network within those that IPv4 is mapped to is one of IPv4.
    let begin = if free <= 32 { spelled.to_canonical() } else { spelled };
    let mask = u128::MAX.checked_shr(128 - free).unwrap_or(0);
    let first = number(begin) & !mask;
    Some((begin.is_ipv6(), (first, first | mask)))
}

/// Ordered, without overlaps.
fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn a_part_of_a_robot_counts_where_no_exception_is_around_it() {
        let classifier = Classifier::new(&Invalid::default()).unwrap();
        for (user_agent, expected) in [
            ("Mozilla/5.0 (compatible; Googlebot/2.1)", true),
            ("Mozilla/5.0 (Linux; CUBOT NOTE)", false),
            ("Googlebot cubot", true),
            ("cubot Googlebot", true),
            ("HeadlessChrome", true),
            ("cubotbot", true),
            ("Mozilla/5.0", false),
            ("Bö", false),
            ("", false),
        ] {
            assert_eq!(classifier.is_bot(user_agent), expected, "{user_agent}");
        }
        let off = Classifier::new(&Invalid { bot: false, ..Invalid::default() }).unwrap();
        assert!(!off.is_bot("Googlebot"));
        let refused = Classifier::new(&Invalid { bots: texts(&["bot", ""]), ..Invalid::default() });
        assert!(refused.unwrap_err().contains("invalid.bots: an empty text"));
    }

    #[test]
    fn networks_hold_addresses_as_they_spell() {
        let of = |networks: &[&str]| Classifier::new(&Invalid { data_centre: texts(networks), ..Invalid::default() });
        let classifier = of(&["192.0.2.77/24", "10.0.0.1", "2001:db8::/32", "::ffff:198.51.100.0/120"]).unwrap();
        for (ip, expected) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("::ffff:10.0.0.1", true),
            ("::10.0.0.1", false),
            ("198.51.100.7", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("010.0.0.1", false),
            ("10.0.0.1:80", false),
            ("2001:db8::1%eth0", false),
            ("", false),
        ] {
            assert_eq!(classifier.is_in_data_centre(ip), expected, "{ip}");
        }
        assert!(of(&["0.0.0.0/0"]).unwrap().is_in_data_centre("1.2.3.4"));
        assert!(!of(&["0.0.0.0/0"]).unwrap().is_in_data_centre("2001:db8::1"));
        assert!(of(&["::/0"]).unwrap().is_in_data_centre("2001:db8::1"));
        assert!(!of(&["::/0"]).unwrap().is_in_data_centre("1.2.3.4"));
        for refused in ["", "10.0.0.1/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "example.com"] {
            assert!(of(&[refused]).unwrap_err().contains("invalid.data_centre"), "{refused}");
        }
    }

    #[test]
    fn a_size_of_zero_is_zero_in_either_direction() {
        let classifier = Classifier::new(&Invalid::default()).unwrap();
        for (width, height, expected) in
            [(Some(0), Some(9), true), (Some(9), Some(0), true), (None, Some(0), true), (None, None, false)]
        {
            assert_eq!(classifier.is_zero_size(width, height), expected);
        }
    }

    #[test]
    fn files_add_their_lines() {
        let mut invalid = Invalid { bots_file: "iab.txt".into(), ..Invalid::default() };
        let text = "# a list\n\ncurl\nwget|1|\nold|0|\n";
        invalid.take_files(|file| if file == "iab.txt" { Ok(text.into()) } else { Err("no".into()) }).unwrap();
        assert_eq!(invalid.bots, texts(&["bot", "crawl", "curl", "headless", "spider", "wget"]));
        assert_eq!(invalid.bots_file, "");
        invalid.data_centre_file = "none".into();
        assert_eq!(
            invalid.take_files(|_| Err("no such file".into())).unwrap_err(),
            "invalid.data_centre_file: no such file"
        );
    }
}
