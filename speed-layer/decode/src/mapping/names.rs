//! The common aliases of fields. They are tried after the configured names and the fields' own.
//!
//! Folding covers the spellings of one name (`userId`, `User ID`, `user-id`). A name is listed if
//! it can hardly mean anything else in a record of that kind, and if its unit is the same. So
//! `cost` is not an alias: it is not in micros.
//!
//! The names of a field are ordered: the more surely a name means this field of this kind of event,
//! the earlier it comes. Names of the event come before names that any record has
//! (`conversion_time` before `ts`). Names of an id come before single words, which are often titles
//! (`creative_id` before `creative`). Names of another event come last (`impression_time` of a
//! click). `docs/ingest.md` lists them all.

use adlake_domain::event::EventKind;

/// Fields whose numbers cannot be negative. The value of a conversion can be negative (a refund),
/// and so can its quantity.
pub(super) const NOT_NEGATIVE: [&str; 7] =
    ["cost_micros", "width", "height", "view_time_ms", "interaction_depth", "bid_price", "clearing_price"];

/// Nested and free-form fields whose names other systems use for something else. Lists of texts are
/// not among them: `cur` names the currency, and a wrong one must not go unnoticed.
pub(super) const BY_SHAPE: [&str; 6] = ["targeting", "imp", "site", "app", "device", "user"];

/// The highest count or number of milliseconds of one event.
const COUNT_MAX: i128 = 1_000_000_000_000;

/// The highest number of a field, in its unit. Money is bounded in the account's currency alone:
/// enrichment checks it after the conversion.
pub(super) fn highest(field: &str) -> i128 {
    match field {
        "view_time_ms" | "interaction_depth" | "quantity" => COUNT_MAX,
        _ => i128::MAX,
    }
}

/// Text fields that other systems send as objects or lists. They keep the JSON text.
pub(super) const KEEPS_JSON: [&str; 2] = ["content_category", "consent"];

/// The names of a field in the contract and in the schema, in this order.
pub(super) fn own(field: &str) -> Vec<&str> {
    // Only `event_time` has another name in the schema than in the contract.
    if field == "event_time" { vec!["timestamp", "event_time"] } else { vec![field] }
}

/// The names of an event's time, in this order: names of its own kind, names that any record has,
/// names of other kinds. `request_time` is an own name of bid requests.
macro_rules! names_of_time {
    (own: [$($own:literal),*], request: [$($request:literal),*], others: [$($other:literal),*]) => {
        &[
            "event_timestamp",
            $($own,)*
            "occurred_at",
            "ts",
            "time",
            "datetime",
            "date_time",
            "@timestamp",
            $($request,)*
            "created_at",
            "ext.ts",
            "ext.timestamp",
            $($other,)*
        ]
    };
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
        "event_time" => names_of_time!(
            own: ["impression_time", "impression_timestamp"],
            request: ["request_time", "request_timestamp"],
            others: [
                "auction_time",
                "bid_time",
                "bid_timestamp",
                "click_time",
                "click_timestamp",
                "conversion_time",
                "conversion_timestamp"
            ]
        ),
        "website" => &[
            "website_url",
            "site_domain",
            "publisher_domain",
            "site.domain",
            "site_url",
            "page_url",
            "site.page",
            "site",
            "domain",
            "url",
            "page",
            "app.bundle",
        ],
        "impression_id" => &["imp_id", "impression"],
        "ad_group_id" => &["ad_set_id", "line_item_id"],
        "placement_id" => &["ad_slot_id", "ad_unit_id", "slot_id", "tagid", "placement"],
        "auction_id" => &["bid_request_id", "request_id"],
        "cost_micros" => &["spend_micros", "price_micros"],
        "width" => &["ad_width", "w"],
        "height" => &["ad_height", "h"],
        "viewable" => &["is_viewable", "in_view"],
        "view_time_ms" => &["time_in_view_ms", "dwell_time_ms"],
        "interaction_depth" => &["scroll_depth"],
        _ => of_any_kind(field),
    }
}

fn interaction(field: &str) -> &'static [&'static str] {
    match field {
        "event_time" => names_of_time!(
            own: ["conversion_time", "conversion_timestamp", "click_time", "click_timestamp"],
            request: ["request_time", "request_timestamp"],
            others: ["impression_time", "impression_timestamp", "auction_time", "bid_time", "bid_timestamp"]
        ),
        "conversion_type" => {
            &["interaction_type", "event_name", "event", "event_type", "action_type", "action", "type"]
        }
        "event_id" => &["interaction_id", "conversion_id", "click_id"],
        "impression_id" => &["imp_id"],
        "order_id" => &["transaction_id", "order"],
        "value" => &["conversion_value", "order_value", "revenue", "amount"],
        "quantity" => &["qty"],
        _ => of_any_kind(field),
    }
}

fn bid_request(field: &str) -> &'static [&'static str] {
    match field {
        "event_time" => names_of_time!(
            own: ["request_time", "request_timestamp", "auction_time", "bid_time", "bid_timestamp"],
            request: [],
            others: [
                "impression_time",
                "impression_timestamp",
                "click_time",
                "click_timestamp",
                "conversion_time",
                "conversion_timestamp"
            ]
        ),
        "auction_id" => &["bid_request_id", "request_id", "id"],
        "user_id" => &["uid", "user.id", "user.buyeruid", "user_details[0].user_id"],
        "imp" => &["imps"],
        "targeting" => &["targeting_criteria"],
        "bid_price" => &["bid_amount", "bid", "price"],
        "clearing_price" => &["clearing_amount", "win_price"],
        "won" => &["is_won", "is_win", "win"],
        "device" | "site" | "app" | "user" => &[],
        _ => of_any_kind(field),
    }
}

fn of_any_kind(field: &str) -> &'static [&'static str] {
    match field {
        "ad_creative_id" => &["creative_id", "ad_id", "crid", "creative"],
        "user_id" => &[
            "uid",
            "user_details.user_id",
            "user_details[0].user_id",
            "user.user_id",
            "user.id",
            "visitor_id",
            "anonymous_id",
            "user",
        ],
        "campaign_id" => &["ad_campaign_id", "campaign.id", "campaign"],
        "advertiser_id" => &["advertiser"],
        "currency" => &["currency_code", "cur"],
        "device_type" => &["device_category", "device.devicetype", "device.type", "device"],
        "os" => &["operating_system", "os_name", "device.os"],
        "browser" => &["browser_name"],
        "user_agent" => &["http_user_agent", "ua", "device.ua"],
        "ip" => &["ip_address", "client_ip", "remote_addr", "device.ip"],
        "country" => &["country_code", "geo.country", "device.geo.country"],
        "region" => &["region_code", "geo.region", "device.geo.region", "state"],
        "city" => &["geo.city", "device.geo.city"],
        "content_category" => &["iab_category", "category"],
        "consent" => &["consent_string", "tcf_consent", "gdpr_consent"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use adlake_domain::schema::content_fields;

    use super::*;

    /// The table of a kind in the documentation: the fields that have more names than their own.
    fn table(kind: EventKind) -> String {
        let mut table = format!("| field of {kind} | is looked up under, in this order |\n|---|---|\n");
        for field in content_fields(kind) {
            let names: Vec<&str> = [own(field.name()), aliases(kind, field.name()).to_vec()].concat();
            if names.len() > 1 {
                table.push_str(&format!("| `{}` | `{}` |\n", names[0], names.join("`, `")));
            }
        }
        table
    }

    #[test]
    fn the_documentation_lists_the_names_in_order() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ingest.md");
        let text = std::fs::read_to_string(&path).unwrap() + "\n";
        for kind in EventKind::ALL {
            let table = table(kind);
            assert!(text.contains(&format!("\n\n{table}\n")), "docs/ingest.md lacks:\n\n{table}");
        }
    }

    #[test]
    fn a_name_belongs_to_one_field() {
        for kind in EventKind::ALL {
            let fields = content_fields(kind);
            let mut names: Vec<&str> = fields
                .iter()
                .flat_map(|field| [own(field.name()), aliases(kind, field.name()).to_vec()].concat())
                .collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{kind}");
        }
    }
}
