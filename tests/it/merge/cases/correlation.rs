//! Correlation: which impression or click leads to an interaction, and what the interaction
//! inherits from it.

use super::*;

#[test]
fn clicks_join_the_latest_impression_of_their_window() {
    case(rows![
        impression("i1", "u1", "c1", 0),
        impression("i2", "u1", "c2", HOUR),
        impression("i3", "u2", "unknown", 0),
        impression("i4", "u3", "c1", HOUR),
        impression("i5", "u3", "c1", HOUR),
        impression("i6", "u3", "c1", HOUR + 1),
        // The borders belong to the window.
        click("e1", "u1", "c1", DAY),
        click("e2", "u1", "c1", DAY + 1),
        // An unknown campaign of the impression matches any campaign of the click. An unknown
        // campaign of the click matches only unknown ones.
        click("e3", "u2", "c2", HOUR),
        click("e4", "u1", "unknown", HOUR),
        // Between equal times, the id decides.
        click("e5", "u3", "c1", HOUR),
        // An explicit impression of the same user within the window wins, whatever its campaign. An
        // impression of another user does not count, and the default rule applies.
        RawInteraction { impression_id: text("i1"), ..click("e6", "u1", "c2", 2 * HOUR) },
        RawInteraction { impression_id: text("i3"), ..click("e7", "u1", "c2", 2 * HOUR) },
        // A click of an unknown user joins nothing.
        click("e8", "unknown", "c1", HOUR),
    ])
    .check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id", "touchpoint_campaign_id", "seconds_between"]
            ["e1", "i1", "c1", "86400"]
            ["e3", "i3", "NULL", "3600"]
            ["e5", "i5", "c1", "0"]
            ["e6", "i1", "c1", "7200"]
            ["e7", "i2", "c2", "3600"]),
        expect!("campaign_kpis" ["campaign_id", "clicks", "joined_clicks", "seconds_to_click"]
            ["c1", "4", "2", "86400"]
            ["c2", "3", "3", "14400"]),
    ]);
}

#[test]
fn views_count_where_there_is_no_click() {
    case(rows![
        impression("i1", "u1", "c1", 0),
        impression("i2", "u1", "c2", HOUR),
        impression("i3", "u1", "c3", 2 * HOUR),
        purchase("p1", "u1", "c1", DAY, 1_000_000),
        // A named impression of the user within the window restricts the touchpoints to itself,
        // whatever its scope.
        RawInteraction { impression_id: text("i3"), ..purchase("p2", "u1", "c1", DAY, 1_000_000) },
        RawInteraction { impression_id: text("i1"), ..purchase("p3", "u1", "c1", DAY + 1, 1_000_000) },
        purchase("p4", "u1", "c1", DAY + HOUR + 1, 1_000_000),
        // A click comes before any view, however old it is.
        impression("j1", "u2", "c1", 6 * DAY),
        click("e1", "u2", "c1", 0),
        purchase("p5", "u2", "c1", 7 * DAY, 1_000_000),
        purchase("p6", "u2", "c1", 7 * DAY + 1, 1_000_000),
    ])
    .check(&[expect!("attributions" ["interaction_id", "touchpoint_id", "touchpoint_kind"]
        ["p1", "i1", "impression"]
        ["p1", "i2", "impression"]
        ["p2", "i3", "impression"]
        ["p3", "i2", "impression"]
        ["p5", "e1", "click"])]);
}

#[test]
fn times_between_are_exact() {
    case(rows![
        impression("i1", "u1", "c1", 0),
        click("e1", "u1", "c1", 1),
        click("e2", "u1", "c1", 9 * 1_000_000 + 999_999),
        purchase("p1", "u1", "c1", 10 * 1_000_000 + 500_000, 1_000_000),
    ])
    .check(&[
        expect!("attributions" ["interaction_id", "touchpoint_id", "last_touch", "seconds_between"]
            ["e1", "i1", "true", "0.000001"]
            ["e2", "i1", "true", "9.999999"]
            ["p1", "e1", "false", "10.499999"]
            ["p1", "e2", "true", "0.500001"]),
        expect!("campaign_kpis" ["seconds_to_click", "joined_clicks", "seconds_to_conversion", "joined_conversions"]
            ["10", "2", "0.500001", "1"]),
    ]);
}

#[test]
fn interactions_inherit_from_their_last_touch() {
    let seen = RawImpression {
        country: text("deu"),
        region: text("BE"),
        device_type: text("4"),
        ..impression("i1", "u1", "c1", 0)
    };
    case(rows![
        seen,
        RawInteraction { country: text("fr"), ..click("e1", "u1", "c1", HOUR) },
        RawInteraction { ad_creative_id: text("r7"), ..purchase("p1", "u1", "c1", 2 * HOUR, 1_000_000) },
        purchase("p2", "u2", "c1", 2 * HOUR, 1_000_000),
    ])
    .check(&[
        expect!("clicks" ["interaction_id", "website", "ad_creative_id", "country", "region", "device_type"]
            ["e1", "a.example", "r1", "FR", "NULL", "mobile"]),
        expect!("conversions" ["interaction_id", "website", "ad_creative_id", "country", "region", "device_type"]
            ["p1", "a.example", "r7", "FR", "NULL", "mobile"]
            ["p2", "NULL", "NULL", "NULL", "NULL", "NULL"]),
        // The credit has the creative and the website of the touchpoint, and the country of the
        // conversion.
        expect!("campaign_hourly" ["conversion_type", "ad_creative_id", "website", "country", "conversions",
                "attributed_conversions", "clicks", "impressions"]
            ["NULL", "r1", "a.example", "DE", "0", "0", "0", "1"]
            ["click", "r1", "a.example", "FR", "0", "0", "1", "0"]
            ["purchase", "r7", "a.example", "FR", "1", "0", "0", "0"]
            ["purchase", "r1", "a.example", "FR", "0", "1", "0", "0"]
            ["purchase", "NULL", "NULL", "NULL", "1", "0", "0", "0"]),
    ]);
}

#[test]
fn a_region_is_inherited_only_within_its_country() {
    let seen = |id: &str, user: &str, country: &str, region: &str| RawImpression {
        country: text(country),
        region: text(region),
        ..impression(id, user, "c1", 0)
    };
    let from = |country: &str, row: RawInteraction| RawInteraction { country: text(country), ..row };
    case(rows![
        seen("i1", "u1", "DE", "BE"),
        // A click from Portugal on an impression in Germany is not in Berlin. Neither is the
        // conversion that follows from it.
        from("PT", click("e1", "u1", "c1", HOUR)),
        purchase("p1", "u1", "c1", 2 * HOUR, 1_000_000),
        from("deu", purchase("p2", "u1", "c1", 2 * HOUR, 1_000_000)),
        // The same country, in another spelling.
        seen("i2", "u2", "DEU", "BE"),
        from("de", click("e2", "u2", "c1", HOUR)),
        from("DE", purchase("p3", "u2", "c1", 2 * HOUR, 1_000_000)),
        from("PT", purchase("p4", "u2", "c1", 2 * HOUR, 1_000_000)),
        purchase("p5", "u2", "c1", 2 * HOUR, 1_000_000),
        // A touch without a country gives its region only to an event that has no country either.
        seen("i3", "u3", "Narnia", "BE"),
        from("PT", click("e3", "u3", "c1", HOUR)),
        click("e4", "u3", "c1", HOUR),
    ])
    .check(&[
        expect!("clicks" ["interaction_id", "country", "region"]
            ["e1", "PT", "NULL"] ["e2", "DE", "BE"] ["e3", "PT", "NULL"] ["e4", "NULL", "BE"]),
        expect!("conversions" ["interaction_id", "country", "region"]
            ["p1", "PT", "NULL"] ["p2", "DE", "NULL"] ["p3", "DE", "BE"] ["p4", "PT", "NULL"] ["p5", "DE", "BE"]),
        // The credit is counted in the place of the conversion.
        expect!("geo_daily" ["campaign_id", "country", "region", "clicks", "conversions", "attributed_conversions"]
            ["c1", "DE", "BE", "1", "2", "2"]
            ["c1", "DE", "NULL", "0", "1", "1"]
            ["c1", "PT", "NULL", "2", "2", "2"]
            ["c1", "NULL", "BE", "1", "0", "0"]),
    ]);
}
