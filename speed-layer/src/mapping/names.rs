//! The names that fields are commonly sent under, tried after the configured ones.
//!
//! Folding covers the spellings of one name (`userId`, `User ID`, `user-id`). A name is here where it can hardly mean
//! anything else in a record of that kind, and where the unit is the same: a `cost` that is not in micros is none.

use adlake_domain::event::EventKind;

/// Fields whose numbers cannot be below zero. A conversion's value can (a refund), and so can its quantity.
pub(super) const NOT_NEGATIVE: [&str; 7] =
    ["cost_micros", "width", "height", "view_time_ms", "interaction_depth", "bid_price", "clearing_price"];

/// Text fields that others send as objects or lists: their JSON text is kept.
pub(super) const KEEPS_JSON: [&str; 2] = ["content_category", "consent"];

/// The names of a field in the contract and in the schema, in this order.
pub(super) fn own(field: &str) -> Vec<&str> {
    // Only one field is stored under another name than the contract gives it.
    if field == "event_time" { vec!["timestamp", "event_time"] } else { vec![field] }
}

/// The common aliases of a field in records of a kind.
pub(super) fn aliases(kind: EventKind, field: &str) -> &'static [&'static str] {
    match kind {
        EventKind::Impression => impression(field),
        EventKind::Interaction => interaction(field),
        EventKind::BidRequest => bid_request(field),
    }
}

fn impression(field: &str) -> &'static [&'static str] {
    match field {
        "website" => &[
            "website_url",
            "site_url",
            "page_url",
            "url",
            "page",
            "site",
            "site_domain",
            "publisher_domain",
            "domain",
            "site.domain",
            "site.page",
            "app.bundle",
        ],
        "impression_id" => &["imp_id", "impression"],
        "ad_group_id" => &["ad_set_id", "line_item_id"],
        "placement_id" => &["placement", "ad_slot_id", "slot_id", "ad_unit_id", "tagid"],
        "auction_id" => &["bid_request_id", "request_id"],
        "cost_micros" => &["price_micros", "spend_micros"],
        "width" => &["w", "ad_width"],
        "height" => &["h", "ad_height"],
        "viewable" => &["is_viewable", "in_view"],
        "view_time_ms" => &["dwell_time_ms", "time_in_view_ms"],
        "interaction_depth" => &["scroll_depth"],
        "event_time" => TIMES,
        _ => of_any_kind(field),
    }
}

fn interaction(field: &str) -> &'static [&'static str] {
    match field {
        "event_time" => TIMES,
        "conversion_type" => {
            &["interaction_type", "event_type", "event_name", "action_type", "action", "type", "event"]
        }
        "event_id" => &["interaction_id", "click_id", "conversion_id"],
        "impression_id" => &["imp_id"],
        "order_id" => &["transaction_id", "order"],
        "value" => &["conversion_value", "order_value", "revenue", "amount"],
        "quantity" => &["qty"],
        _ => of_any_kind(field),
    }
}

fn bid_request(field: &str) -> &'static [&'static str] {
    match field {
        "auction_id" => &["bid_request_id", "request_id", "id"],
        "user_id" => &["uid", "user.id", "user.buyeruid", "user_details[0].user_id"],
        "event_time" => TIMES,
        "imp" => &["imps"],
        "targeting" => &["targeting_criteria"],
        "bid_price" => &["bid_amount", "bid", "price"],
        "clearing_price" => &["win_price", "clearing_amount"],
        "won" => &["win", "is_win", "is_won"],
        "device" | "site" | "app" | "user" => &[],
        _ => of_any_kind(field),
    }
}

const TIMES: &[&str] = &[
    "event_timestamp",
    "ts",
    "time",
    "datetime",
    "date_time",
    "@timestamp",
    "impression_time",
    "impression_timestamp",
    "click_time",
    "click_timestamp",
    "conversion_time",
    "conversion_timestamp",
    "bid_time",
    "bid_timestamp",
    "request_time",
    "request_timestamp",
    "auction_time",
    "occurred_at",
    "created_at",
    "ext.ts",
    "ext.timestamp",
];

fn of_any_kind(field: &str) -> &'static [&'static str] {
    match field {
        "ad_creative_id" => &["creative_id", "ad_id", "creative", "crid"],
        "user_id" => &[
            "uid",
            "visitor_id",
            "anonymous_id",
            "user",
            "user_details.user_id",
            "user_details[0].user_id",
            "user.id",
            "user.user_id",
        ],
        "campaign_id" => &["ad_campaign_id", "campaign", "campaign.id"],
        "advertiser_id" => &["advertiser"],
        "currency" => &["currency_code", "cur"],
        "device_type" => &["device", "device_category", "device.type", "device.devicetype"],
        "os" => &["operating_system", "os_name", "device.os"],
        "browser" => &["browser_name"],
        "user_agent" => &["ua", "http_user_agent", "device.ua"],
        "ip" => &["ip_address", "client_ip", "remote_addr", "device.ip"],
        "country" => &["country_code", "geo.country", "device.geo.country"],
        "region" => &["region_code", "state", "geo.region", "device.geo.region"],
        "city" => &["geo.city", "device.geo.city"],
        "content_category" => &["iab_category", "category"],
        "consent" => &["consent_string", "gdpr_consent", "tcf_consent"],
        _ => &[],
    }
}
