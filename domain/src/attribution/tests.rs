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
        valid: true,
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
        let found = attribute(&events, &Rules { joins: Attribution { scope, ..Attribution::default() }, ..rules() });
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

#[test]
fn invalid_events_are_no_touchpoints() {
    let a = Some("a");
    let invalid = |kind, time, id| Event { valid: false, ..event(kind, time, id, a) };
    let events = [
        event(Kind::Impression, 0, "i1", a),
        invalid(Kind::Impression, 5, "i2"),
        event(Kind::Click, 9, "c1", a),
        event(Kind::Click, 10, "c2", a),
        invalid(Kind::Click, 11, "c3"),
        event(Kind::Conversion, HOUR, "v1", a),
        invalid(Kind::Conversion, HOUR, "v2"),
    ];
    let found = attribute(&events, &Rules { fast_click: 10, ..rules() });
    let shown: Vec<(&str, Option<&str>, Vec<&str>)> = found
        .iter()
        .map(|a| {
            let touches = a.touchpoints.iter().map(|touch| events[touch.event].id).collect();
            (events[a.interaction].id, a.invalid, touches)
        })
        .collect();
    assert_eq!(shown, [("c1", Some(FAST_CLICK), vec!["i1"]), ("c2", None, vec!["i1"]), ("v1", None, vec!["c2"])]);
}

#[test]
fn a_refund_of_an_invalid_order_is_invalid() {
    let with_order = |kind, time, id| Event { order_id: Some("o"), ..event(kind, time, id, Some("a")) };
    let events = [
        event(Kind::Click, 0, "c", Some("a")),
        with_order(Kind::Conversion, HOUR, "v1"),
        // The latest order counts, valid or not.
        Event { valid: false, ..with_order(Kind::Conversion, 3 * HOUR, "v2") },
        with_order(Kind::Refund, 2 * HOUR, "r1"),
        with_order(Kind::Refund, 4 * HOUR, "r2"),
        Event { valid: false, ..with_order(Kind::Refund, 5 * HOUR, "r3") },
    ];
    let found = attribute(&events, &rules());
    let of = |id: &str| found.iter().find(|attributed| events[attributed.interaction].id == id);
    let shown = |id| of(id).map(|a| (a.order.map(|order| events[order].id), a.invalid, a.touchpoints.len()));
    assert_eq!(shown("r1"), Some((Some("v1"), None, 1)));
    assert_eq!(shown("r2"), Some((Some("v2"), Some(ORDER_INVALID), 0)));
    assert_eq!(shown("r3"), Some((Some("v2"), None, 0)));
    assert_eq!(shown("v2"), None);
}
