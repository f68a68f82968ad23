//! Incidents: what goes wrong, or merely happens, at a known time and of a known size.
//!
//! An incident is planted into otherwise ordinary traffic, so that a benchmark can tell whether it
//! is found, and a demonstration has something to show. Without incidents, a plan gives the same
//! records as before incidents existed.

use std::fmt;
use std::str::FromStr;

use adlake_domain::event::EventKind;
use serde::Serialize;

use crate::clock::{DAY, HOUR};
use crate::error::TrafficError;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Clicks per impression fall by `size` (0.2: a fifth fewer).
    CtrDrop,
    /// Clicks per impression fall linearly, by `size` at the end, and stay there.
    CtrFade,
    /// Conversions per click fall by `size`.
    CvrDrop,
    /// A campaign has no impressions before the incident begins.
    Launch,
    /// What happens is never sent.
    Silence,
    /// What happens is sent only when the incident ends.
    LateFeed,
    /// `size` of the opportunities are those of a few bots, which say so and click often.
    BotBurst,
    /// `size` of the events are sent twice, byte for byte.
    Duplicates,
    /// `size` of a campaign's impressions go to one website, with one creative, and nobody clicks
    /// there.
    BadPlacement,
    /// The costs of impressions are `size` times what they should be.
    CostFactor,
}

/// The faults with their names on the command line, and whether `size` is a share.
const FAULTS: [(&str, Fault, Size); 10] = [
    ("ctr_drop", Fault::CtrDrop, Size::Share),
    ("ctr_fade", Fault::CtrFade, Size::Share),
    ("cvr_drop", Fault::CvrDrop, Size::Share),
    ("launch", Fault::Launch, Size::None),
    ("silence", Fault::Silence, Size::None),
    ("late_feed", Fault::LateFeed, Size::None),
    ("bot_burst", Fault::BotBurst, Size::Share),
    ("duplicates", Fault::Duplicates, Size::Share),
    ("bad_placement", Fault::BadPlacement, Size::Share),
    ("cost_factor", Fault::CostFactor, Size::Factor),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    None,
    Share,
    Factor,
}

/// A fault, where it happens, and when.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incident {
    pub fault: Fault,
    /// The number of the only campaign that it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<u32>,
    /// The number of the only website that it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<u32>,
    /// The only kind of events that it concerns, where the fault is about sending.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "kind_name")]
    pub kind: Option<EventKind>,
    /// Event time, µs: at or after `from`, and before `to`.
    pub from: i64,
    pub to: i64,
    pub size: f64,
}

fn kind_name<S: serde::Serializer>(kind: &Option<EventKind>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(kind.map_or("", |kind| kind.table()))
}

impl Incident {
    fn holds(&self, fault: Fault, campaign: Option<u32>, website: Option<u32>, time: i64) -> bool {
        self.fault == fault && self.concerns(campaign, website) && (self.from..self.to).contains(&time)
    }

    fn concerns(&self, campaign: Option<u32>, website: Option<u32>) -> bool {
        let is = |wanted: Option<u32>, given: Option<u32>| wanted.is_none() || wanted == given;
        is(self.campaign, campaign) && is(self.website, website)
    }
}

/// The incidents of a plan, as the simulation asks for them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Story(pub Vec<Incident>);

/// What becomes of an event that is about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    AsUsual,
    Never,
    /// At this instant, µs, and not before.
    At(i64),
}

impl Story {
    /// Whether nothing is planted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The factor on clicks per impression.
    pub fn ctr_factor(&self, campaign: u32, website: u32, time: i64) -> f64 {
        self.0.iter().filter(|incident| incident.concerns(Some(campaign), Some(website))).fold(
            1.0,
            |factor, incident| {
                factor
                    * match incident.fault {
                        Fault::CtrDrop if (incident.from..incident.to).contains(&time) => 1.0 - incident.size,
                        Fault::CtrFade if time >= incident.from => {
                            let length = (incident.to - incident.from).max(1) as f64;
                            1.0 - incident.size * ((time - incident.from) as f64 / length).min(1.0)
                        }
                        Fault::BadPlacement if (incident.from..incident.to).contains(&time) => 0.0,
                        _ => 1.0,
                    }
            },
        )
    }

    /// The factor on conversions per click.
    pub fn cvr_factor(&self, campaign: u32, website: u32, time: i64) -> f64 {
        self.product(Fault::CvrDrop, campaign, website, time, |size| 1.0 - size)
    }

    /// The factor on the cost of an impression.
    pub fn cost_factor(&self, campaign: u32, website: u32, time: i64) -> f64 {
        self.product(Fault::CostFactor, campaign, website, time, |size| size)
    }

    fn product(&self, fault: Fault, campaign: u32, website: u32, time: i64, factor: fn(f64) -> f64) -> f64 {
        let holds = |incident: &&Incident| incident.holds(fault, Some(campaign), Some(website), time);
        self.0.iter().filter(holds).map(|incident| factor(incident.size)).product()
    }

    /// The website that gets a share of the impressions of a campaign now, and the share.
    pub fn placement(&self, campaign: u32, time: i64) -> Option<(u32, f64)> {
        let holds = |incident: &&Incident| incident.holds(Fault::BadPlacement, Some(campaign), incident.website, time);
        let found = self.0.iter().find(holds)?;
        found.website.map(|website| (website, found.size))
    }

    /// Whether a campaign has begun.
    pub fn has_begun(&self, campaign: u32, time: i64) -> bool {
        !self.0.iter().any(|i| i.fault == Fault::Launch && i.concerns(Some(campaign), None) && time < i.from)
    }

    /// The share of a website's opportunities that belong to bots now.
    pub fn bot_share(&self, website: u32, time: i64) -> f64 {
        let holds = |incident: &&Incident| incident.holds(Fault::BotBurst, None, Some(website), time);
        self.0.iter().filter(holds).map(|incident| incident.size).fold(0.0, f64::max)
    }

    /// The share of events that are sent twice now.
    pub fn duplicates(&self, kind: EventKind, campaign: Option<u32>, website: u32, time: i64) -> f64 {
        let holds = |i: &&Incident| {
            i.holds(Fault::Duplicates, campaign, Some(website), time) && i.kind.is_none_or(|wanted| wanted == kind)
        };
        self.0.iter().filter(holds).map(|incident| incident.size).fold(0.0, f64::max)
    }

    /// What becomes of an event.
    pub fn sending(&self, kind: EventKind, campaign: Option<u32>, website: u32, time: i64) -> Sending {
        let mut sending = Sending::AsUsual;
        for incident in self.0.iter().filter(|incident| incident.kind.is_none_or(|wanted| wanted == kind)) {
            if incident.holds(Fault::Silence, campaign, Some(website), time) {
                return Sending::Never;
            }
            if incident.holds(Fault::LateFeed, campaign, Some(website), time) {
                sending = Sending::At(incident.to);
            }
        }
        sending
    }
}

/// When an incident begins, as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Begin {
    /// This long after the first event, µs.
    After(i64),
    /// An instant, µs.
    At(i64),
}

/// An incident as it is written: `ctr_drop,campaign=3,website=2,size=0.2,from=+10d,for=6h`.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentText {
    incident: Incident,
    begin: Begin,
    length: i64,
}

impl IncidentText {
    /// The incident in a stream whose first event is at `start`.
    pub fn planted(&self, start: i64) -> Incident {
        let from = match self.begin {
            Begin::After(delay) => start + delay,
            Begin::At(time) => time,
        };
        Incident { from, to: from.saturating_add(self.length), ..self.incident.clone() }
    }
}

impl FromStr for IncidentText {
    type Err = TrafficError;

    fn from_str(text: &str) -> Result<IncidentText, TrafficError> {
        let bad = |why: fmt::Arguments| TrafficError::Incident { text: text.to_owned(), why: why.to_string() };
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let Some(&(_, fault, size)) = FAULTS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = FAULTS.iter().map(|(name, ..)| *name).collect();
            return Err(bad(format_args!("{name:?} is none of {}", known.join(", "))));
        };
        let mut incident = Incident { fault, campaign: None, website: None, kind: None, from: 0, to: 0, size: 1.0 };
        let (mut begin, mut length, mut has_size) = (Begin::After(0), None, false);
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                return Err(bad(format_args!("{part:?} is not key=value")));
            };
            let number = || value.parse::<u32>().map_err(|_| bad(format_args!("{key} is {value:?}, not a number")));
            match key {
                "campaign" => incident.campaign = Some(number()?),
                "website" => incident.website = Some(number()?),
                "kind" => {
                    let found = EventKind::ALL.into_iter().find(|kind| kind.table() == value);
                    let names = EventKind::ALL.map(EventKind::table).join(", ");
                    incident.kind =
                        Some(found.ok_or_else(|| bad(format_args!("kind is {value:?}, which is none of {names}")))?);
                }
                "size" => {
                    let read = value.parse::<f64>().ok();
                    let fits = |number: &f64| match size {
                        Size::None => false,
                        Size::Share => (0.0..=1.0).contains(number),
                        Size::Factor => (0.0..=1e6).contains(number),
                    };
                    let wanted = match size {
                        Size::None => "this fault has no size",
                        Size::Share => "give a share from 0 to 1",
                        Size::Factor => "give a factor from 0 to 1000000",
                    };
                    incident.size =
                        read.filter(fits).ok_or_else(|| bad(format_args!("size is {value:?}: {wanted}")))?;
                    has_size = true;
                }
                "from" => begin = begin_of(value).ok_or_else(|| bad(format_args!("{}", not_a_begin(value))))?,
                "for" => {
                    let read = length_of(value).filter(|length| *length > 0);
                    let why = format_args!("for is {value:?}, not a length such as 90m, 6h or 14d").to_string();
                    length = Some(read.ok_or_else(|| bad(format_args!("{why}")))?);
                }
                _ => return Err(bad(format_args!("{key:?} is none of campaign, website, kind, size, from, for"))),
            }
        }
        if size != Size::None && !has_size {
            return Err(bad(format_args!("size is missing")));
        }
        if fault == Fault::Launch && incident.campaign.is_none() {
            return Err(bad(format_args!("campaign is missing: a launch is that of one campaign")));
        }
        if fault == Fault::BadPlacement && (incident.campaign.is_none() || incident.website.is_none()) {
            return Err(bad(format_args!("campaign or website is missing: it is the placement of one campaign")));
        }
        let length = match (length, fault) {
            (Some(length), _) => length,
            (None, Fault::Launch) => HOUR,
            (None, _) => return Err(bad(format_args!("for is missing: how long it lasts, such as 6h"))),
        };
        Ok(IncidentText { incident, begin, length })
    }
}

fn not_a_begin(value: &str) -> String {
    format!("from is {value:?}: give a time (2025-01-31T12:00:00Z), or a time after the first event (+10d)")
}

fn begin_of(text: &str) -> Option<Begin> {
    match text.strip_prefix('+') {
        Some(delay) => Some(Begin::After(length_of(delay)?)),
        None => {
            let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
            Some(Begin::At(time.timestamp_micros()))
        }
    }
}

/// Reads `90s`, `30m`, `6h`, `14d`. The result is in µs.
fn length_of(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => HOUR / 3_600,
        "m" => HOUR / 60,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    let length = number.parse::<f64>().ok().filter(|number| (0.0..=36_600.0 * 24.0).contains(number))?;
    Some((length * unit as f64) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Incident, String> {
        text.parse::<IncidentText>().map(|text| text.planted(DAY)).map_err(|error| error.to_string())
    }

    #[test]
    fn incidents_are_read() {
        let drop = read("ctr_drop,campaign=3,website=2,size=0.2,from=+10d,for=6h").unwrap();
        let wanted = Incident {
            fault: Fault::CtrDrop,
            campaign: Some(3),
            website: Some(2),
            kind: None,
            from: 11 * DAY,
            to: 11 * DAY + 6 * HOUR,
            size: 0.2,
        };
        assert_eq!(drop, wanted);
        let silence = read("silence, kind=interactions, from=1970-01-05T12:00:00Z, for=90m").unwrap();
        assert_eq!((silence.kind, silence.from), (Some(EventKind::Interaction), 4 * DAY + 12 * HOUR));
        assert_eq!(silence.to - silence.from, 3 * HOUR / 2);
        assert!(read("launch,campaign=1,from=+2d").is_ok());
    }

    #[test]
    fn what_is_no_incident_is_refused_with_what_is_wrong() {
        for (text, named) in [
            ("fire,for=1h", "ctr_drop"),
            ("ctr_drop,for=1h", "size"),
            ("ctr_drop,size=2,for=1h", "from 0 to 1"),
            ("silence,size=0.5,for=1h", "no size"),
            ("ctr_drop,size=0.1", "for"),
            ("ctr_drop,size=0.1,for=soon", "90m"),
            ("ctr_drop,size=0.1,for=0h", "90m"),
            ("ctr_drop,size=0.1,for=1h,from=tomorrow", "from"),
            ("silence,for=1h,kind=clicks", "interactions"),
            ("silence,for=1h,campaign=x", "campaign"),
            ("silence,for=1h,city=x", "city"),
            ("launch,from=+1d", "campaign"),
            ("bad_placement,campaign=1,size=0.5,for=1h", "website"),
            ("silence,now", "key=value"),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(named), "{text}: {message}");
        }
    }

    #[test]
    fn a_fade_ends_at_its_size_and_stays() {
        let story = Story(vec![read("ctr_fade,campaign=1,size=0.5,from=+0d,for=10d").unwrap()]);
        let factors = [0, 1, 6, 11, 30].map(|day| story.ctr_factor(1, 0, day * DAY));
        assert_eq!(factors, [1.0, 1.0, 0.75, 0.5, 0.5]);
        assert!((story.ctr_factor(2, 0, 20 * DAY) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_bad_placement_has_a_share_and_no_clicks() {
        let story = Story(vec![read("bad_placement,campaign=1,website=4,size=0.8,from=+0d,for=1d").unwrap()]);
        assert_eq!(story.placement(1, DAY), Some((4, 0.8)));
        assert_eq!((story.placement(2, DAY), story.placement(1, 2 * DAY)), (None, None));
        let factors = [(1, 4), (1, 5), (2, 4)].map(|(campaign, website)| story.ctr_factor(campaign, website, DAY));
        assert_eq!(factors, [0.0, 1.0, 1.0]);
    }

    #[test]
    fn silence_outweighs_a_late_feed() {
        let planted = ["late_feed,website=4,from=+0d,for=2d", "silence,website=4,kind=interactions,from=+0d,for=1d"];
        let story = Story(planted.map(|text| read(text).unwrap()).to_vec());
        let sending = |kind, website, time| story.sending(kind, Some(0), website, time);
        assert_eq!(sending(EventKind::Interaction, 4, DAY), Sending::Never);
        assert_eq!(sending(EventKind::Impression, 4, DAY), Sending::At(3 * DAY));
        assert_eq!(sending(EventKind::Interaction, 4, 2 * DAY), Sending::At(3 * DAY));
        assert_eq!(sending(EventKind::Interaction, 5, DAY), Sending::AsUsual);
        assert_eq!(sending(EventKind::Impression, 4, 3 * DAY), Sending::AsUsual);
    }
}
