//! What an operator configures in random histories: the meaning of the rows, and reference data.

use std::collections::BTreeMap;
use std::time::Duration;

use adlake_domain::invalid::UserRates;
use adlake_domain::settings::{Meaning, Scope};
use proptest::prelude::*;

/// A configuration by its places in the pools.
#[derive(Debug, Clone, Copy)]
pub struct Configured {
    zone: u8,
    scope: u8,
    primary: u8,
    touchpoints_max: u8,
    windows: u8,
    invalid: u8,
}

pub(super) fn configured() -> impl Strategy<Value = Configured> {
    let places = (0_u8..4, 0_u8..4, 0_u8..3, 0_u8..3, 0_u8..3, 0_u8..6);
    places.prop_map(|(zone, scope, primary, touchpoints_max, windows, invalid)| Configured {
        zone,
        scope,
        primary,
        touchpoints_max,
        windows,
        invalid,
    })
}

impl Configured {
    pub(super) fn meaning(self) -> Meaning {
        let mut meaning = Meaning::default();
        let zones = [chrono_tz::UTC, chrono_tz::Europe::Berlin, chrono_tz::America::New_York, chrono_tz::Asia::Kolkata];
        meaning.report.time_zone = zones[usize::from(self.zone) % zones.len()];
        let scopes = [Scope::Auto, Scope::Advertiser, Scope::Campaign, Scope::Account];
        meaning.attribution.scope = scopes[usize::from(self.scope) % scopes.len()];
        meaning.attribution.touchpoints_max = [100, 100, 2][usize::from(self.touchpoints_max) % 3];
        if self.windows == 1 {
            // View-through windows are longer than click-through windows.
            meaning.attribution.click_through_window = Duration::from_secs(6 * 3600);
            meaning.attribution.view_through_window = Duration::from_secs(48 * 3600);
        }
        if self.windows == 2 {
            meaning.conversions.refund_window = Duration::from_secs(30 * 3600);
        }
        let invalid = &mut meaning.invalid;
        let limits =
            |impressions, clicks, conversions, refunds| UserRates { impressions, clicks, conversions, refunds };
        match self.invalid {
            0 => (invalid.bot, invalid.zero_size) = (false, false),
            1 => {}
            2 => invalid.rate_user = limits(3, 0, 2, 1),
            3 => (invalid.rate_address, invalid.fast_click) = (2, Duration::from_millis(1500)),
            4 => {
                invalid.data_centre = ["198.51.100.0/24", "2001:db8::/64"].map(String::from).into();
                invalid.rate_user = limits(0, 2, 0, 0);
                invalid.fast_click = Duration::from_secs(6 * 3600);
            }
            _ => {
                (invalid.rate_user, invalid.rate_address) = (limits(4, 3, 3, 2), 3);
                invalid.data_centre = ["192.0.2.8".to_string()].into();
                invalid.fast_click = Duration::from_micros(1);
            }
        }
        let primary: &[&str] = [&[][..], &["purchase"], &["purchase", "SIGNUP"]][usize::from(self.primary) % 3];
        if self.primary == 2 {
            // A chargeback is a conversion that does not count.
            meaning.conversions.refund_types = ["Refund ".to_string()].into();
        }
        meaning.conversions.primary_types = primary.iter().map(|name| (*name).to_string()).collect();
        meaning
    }
}

/// Reference data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceData {
    /// Creative -> campaign.
    pub creatives: BTreeMap<String, String>,
    /// Campaign -> advertiser.
    pub advertisers: BTreeMap<String, String>,
}

impl ReferenceData {
    /// One of the three sets of reference data that histories switch between.
    pub fn variant(place: u8) -> ReferenceData {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        match place % 3 {
            0 => ReferenceData {
                creatives: map(&[("r1", "c1"), ("r2", "c2"), ("r3", "c3")]),
                advertisers: map(&[("c1", "v1"), ("c2", "v1"), ("c3", "v2")]),
            },
            1 => ReferenceData {
                creatives: map(&[("r1", "c2"), ("r3", "c3"), ("r8", "c4")]),
                advertisers: map(&[("c1", "v1"), ("c2", "v2"), ("c4", "v2"), ("c9", "c1")]),
            },
            _ => ReferenceData { creatives: map(&[("r1", "c1")]), advertisers: map(&[("c1", "unknown")]) },
        }
    }
}
