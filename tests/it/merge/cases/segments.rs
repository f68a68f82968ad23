//! Segments of users.

use super::*;

#[test]
fn users_are_in_the_segment_of_the_first_rule_that_fits() {
    let refund = |id: &str, user: &str, time: i64, micros: i64| RawInteraction {
        conversion_type: text("refund"),
        ..purchase(id, user, "c1", time, micros)
    };
    case(rows![
        purchase("p1", "u1", "c1", 0, 4_000_000),
        purchase("p2", "u1", "c1", HOUR, 2_000_000),
        purchase("p3", "u1", "c1", 2 * HOUR, 1_000_000),
        refund("r1", "u1", 3 * HOUR, 500_000),
        impression("i1", "u2", "c1", 35 * DAY + 3 * HOUR),
        click("e1", "u3", "c1", 34 * DAY),
        impression("i2", "u4", "c1", 0),
        RawImpression { user_agent: text("bot"), ..impression("i3", "u4", "c1", 30 * DAY) },
        impression("i4", "unknown", "c1", 40 * DAY),
        purchase("p4", "u5", "c1", 10 * DAY, 1_000_000),
        purchase("p5", "u5", "c1", 10 * DAY, 1_000_000),
        purchase("p6", "u5", "c1", 10 * DAY, 1_000_000),
    ])
    .check(&[expect!("user_segments" ["user_id", "segment", "recency_days", "frequency", "value", "engagement",
                "conversions", "refunds"]
        ["u1", "customer", "35", "0", "6.5", "3", "3", "1"]
        ["u2", "reached", "0", "1", "0", "0", "0", "0"]
        ["u3", "engaged", "1", "0", "0", "1", "0", "0"]
        ["u4", "lapsed", "35", "1", "0", "0", "0", "0"]
        ["u5", "loyal", "25", "0", "3", "3", "3", "0"])]);
}

#[test]
fn bounds_are_included_and_rules_are_in_order() {
    use adlake_domain::segments::{Rule, Segments};
    let mut case = case(rows![
        purchase("p1", "u1", "c1", 0, 5_000_000),
        purchase("p2", "u2", "c1", 0, 5_000_001),
        purchase("p3", "u3", "c1", 0, 4_999_999),
        impression("i1", "u3", "c1", 0),
    ]);
    let rule = |name: &str| Rule { name: name.to_string(), ..Rule::default() };
    case.display.segments = Segments {
        rule: vec![
            Rule { frequency_min: Some(1), ..rule("it's seen") },
            Rule { value_min: Some(5), value_max: Some(5), ..rule("five") },
        ],
    };
    case.check(&[expect!("user_segments" ["user_id", "segment"] ["u1", "five"] ["u2", "other"] ["u3", "it's seen"])]);
}

#[test]
fn first_and_last_events_go_with_copies_that_are_earlier() {
    // In either order, half of the rows are published before the copies come that move an event.
    let seen = |id: &str, user: &str, time: i64| impression(id, user, "c1", time);
    let copies = |id: &str, user: &str, to: &str, from: i64, at: i64| [seen(id, user, from), seen(id, to, at)];
    let [a_late, a_early] = copies("a3", "u1", "u1", 9 * HOUR, 4 * HOUR);
    let [b_late, b_early] = copies("b1", "u2", "u2", 2 * HOUR, HOUR);
    let [c_late, c_early] = copies("c1", "u3", "u4", 6 * HOUR, 3 * HOUR);
    let [d_late, d_early] = copies("d1", "u5", "u6", 7 * HOUR, 5 * HOUR);
    case(rows![
        seen("a1", "u1", 3 * HOUR),
        seen("a2", "u1", 8 * HOUR),
        a_late,
        b_late,
        seen("b2", "u2", 5 * HOUR),
        c_late,
        seen("c2", "u3", 8 * HOUR),
        d_late,
        a_early,
        b_early,
        c_early,
        d_early,
        seen("z1", "u9", HOUR),
        seen("z2", "u9", 2 * HOUR),
        seen("z3", "u9", 3 * HOUR),
        seen("z4", "u9", 4 * HOUR),
    ])
    .check(&[expect!("user_segments" ["user_id", "frequency", "first_seen", "last_seen"]
        ["u1", "3", "2026-10-23T03:00:00.000000Z", "2026-10-23T08:00:00.000000Z"]
        ["u2", "2", "2026-10-23T01:00:00.000000Z", "2026-10-23T05:00:00.000000Z"]
        ["u3", "1", "2026-10-23T08:00:00.000000Z", "2026-10-23T08:00:00.000000Z"]
        ["u4", "1", "2026-10-23T03:00:00.000000Z", "2026-10-23T03:00:00.000000Z"]
        ["u6", "1", "2026-10-23T05:00:00.000000Z", "2026-10-23T05:00:00.000000Z"]
        ["u9", "4", "2026-10-23T01:00:00.000000Z", "2026-10-23T04:00:00.000000Z"])]);
}
