//! Dedupe: from raw rows to one row per event, with resolved fields.
//!
//! Each identity has one winner, whatever order its copies arrived in: the smallest row by
//! (`event_time`, content, `ingested_at`, topic, partition, offset). Nearly all rows have an
//! identity that no other row shares. These are neither sorted nor compared: identities with
//! several rows are found first, by their keys alone. Their winners are decided on few columns
//! ([`super::winners`]). Then all rows are read once, and those that do not win are left out
//! ([`crate::operators::take`]).

use adlake_domain::event::EventKind;
use adlake_domain::schema::content_fields;

use crate::operators::copies::OWN_BID;

/// SQL: the rows of raw table `raw` with their identity, that is all columns and `event_key`.
///
/// A bid request becomes one row for each event that the record stands for, with `event_imp_id`,
/// `event_imp` and `target`. For these `raw` is the result of [`crate::operators::explode`] over
/// [`with_events`].
pub(super) fn keyed(kind: EventKind, raw: &str) -> String {
    match kind {
        EventKind::Impression => {
            format!("SELECT *, impression_key(impression_id, content_hash) AS event_key FROM {raw}")
        }
        EventKind::Interaction => format!(
            "SELECT *, interaction_key(conversion_type, order_id, event_id, campaign_id, content_hash) AS \
             event_key FROM {raw}"
        ),
        EventKind::BidRequest => {
            let columns = raw_columns(kind).join(", ");
            format!(
                "SELECT {columns}, event['event_key'] AS event_key, event['imp_id'] AS event_imp_id, \
                 array_element(imp, event['place']) AS event_imp, \
                 event['target'] AND (known(campaign_id) IS NOT NULL OR known(ad_creative_id) IS NOT NULL OR \
                 bid_price IS NOT NULL \
                 OR clearing_price IS NOT NULL OR won IS NOT NULL) AS target \
                 FROM {raw}"
            )
        }
    }
}

/// SQL: the bid requests of raw table `raw`, with the list of events that each stands for as the
/// last column.
pub(super) fn with_events(raw: &str) -> String {
    let columns = raw_columns(EventKind::BidRequest).join(", ");
    format!("SELECT {columns}, bid_events(imp, imp_id, auction_id, content_hash) AS events FROM {raw}")
}

/// SQL: the `keyed` rows with their columns; and of bid requests what each row tells of our bid.
pub(super) fn with_bids(kind: EventKind, keyed: &str) -> String {
    let bid = if kind == EventKind::BidRequest { format!(", {BID} AS {OWN_BID}") } else { String::new() };
    format!("SELECT {}{bid} FROM {keyed}", keyed_columns(kind).join(", "))
}

/// SQL: the events of those rows of [`with_bids`] that win.
pub(super) fn of_winners(kind: EventKind, rows: &str) -> String {
    format!("SELECT {} FROM {rows}", resolved(kind))
}

/// The column of copies of bid requests that tells how much a row tells of our bid.
pub(super) const RANK: &str = "bid_rank";

/// SQL: what decides the winners among `copies`, which are rows of [`with_bids`]. Rows of a key
/// come together, the first row first. `with_contents`: contents take part in the order.
pub(super) fn of_copies(kind: EventKind, copies: &str, with_contents: bool) -> String {
    let bid = match kind {
        EventKind::Impression | EventKind::Interaction => String::new(),
        EventKind::BidRequest => {
            format!(", bid, CASE WHEN target THEN 2 ELSE 0 END + CASE WHEN won THEN 1 ELSE 0 END AS {RANK}")
        }
    };
    format!(
        "SELECT event_key, event_time, content_hash, ingested_at, source, event_date{bid} FROM {copies} \
         ORDER BY event_key, {}",
        order(kind, with_contents)
    )
}

/// SQL: what a row of bid requests tells of our bid and its outcome.
const BID: &str = "named_struct('carried', target, 'campaign_id', campaign_id, 'ad_creative_id', ad_creative_id, \
                   'bid_price', bid_price, 'clearing_price', clearing_price, 'won', won, 'enriched', enriched, \
                   'content_hash', content_hash, 'source', source, 'event_date', event_date)";

/// The order whose first row wins, as an ORDER BY. Without contents it is the same for rows of
/// which none have the same time and other contents.
fn order(kind: EventKind, with_contents: bool) -> String {
    let fields: Vec<String> = content_fields(kind).iter().map(|field| quoted(field.name())).collect();
    let contents =
        if with_contents { format!("content_order({}, attributes) ASC, ", fields.join(", ")) } else { String::new() };
    format!(
        "event_time ASC NULLS FIRST, {contents}ingested_at ASC, source['topic'] ASC, \
         source['partition'] ASC NULLS FIRST, source['offset'] ASC"
    )
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn raw_columns(kind: EventKind) -> Vec<String> {
    let schema = adlake_domain::schema::raw_schema(kind);
    schema.fields().iter().map(|field| quoted(field.name())).collect()
}

fn keyed_columns(kind: EventKind) -> Vec<String> {
    let mut columns = raw_columns(kind);
    columns.push("event_key".to_string());
    if kind == EventKind::BidRequest {
        columns.extend(["event_imp_id", "event_imp", "target"].map(String::from));
    }
    columns
}

/// The columns of the batch table from a winning row. A field is taken as sent, else as enriched,
/// and is then normalized.
fn resolved(kind: EventKind) -> String {
    let known = |name: &str| format!("known({name}) AS {name}");
    let enriched = |name: &str| format!("coalesce(known({name}), known(enriched['{name}'])) AS {name}");
    let country = "country_alpha2(coalesce(known(country), known(enriched['country']))) AS country".to_string();
    let device = "device_word(coalesce(known(device_type), known(enriched['device_type']))) AS device_type".to_string();
    let only_enriched = |name: &str| format!("enriched['{name}'] AS {name}");
    let mut columns: Vec<String> = vec!["event_key".into(), "event_time".into()];
    match kind {
        EventKind::Impression => {
            columns.push("coalesce(known(impression_id), encode(content_hash, 'hex')) AS impression_id".into());
            columns.extend(["user_id", "ad_creative_id"].map(known));
            columns.extend(["campaign_id", "advertiser_id"].map(enriched));
            columns.extend(["ad_group_id", "placement_id", "auction_id", "website"].map(known));
            columns.push(country);
            columns.push(enriched("region"));
            columns.push("city".into());
            columns.push(device);
            columns.extend(["os", "browser"].map(|name| format!("coalesce({name}, enriched['{name}']) AS {name}")));
            columns.push("content_category".into());
            columns.push(only_enriched("cost_micros"));
            columns.push(known("currency"));
            columns.extend(["width", "height", "viewable", "view_time_ms", "interaction_depth"].map(String::from));
            columns.extend(["user_agent", "ip", "consent"].map(String::from));
            columns.push("invalid_impression(user_agent, width, height, ip) AS invalid_reason".into());
        }
        EventKind::Interaction => {
            // Parts of a refund share the order, so their event ids come first.
            columns.push(
                "CASE WHEN interaction_type(conversion_type) = 'refund' \
                 THEN coalesce(known(event_id), known(order_id), encode(content_hash, 'hex')) \
                 ELSE coalesce(known(order_id), known(event_id), encode(content_hash, 'hex')) END AS interaction_id"
                    .into(),
            );
            columns.push("interaction_type(conversion_type) AS interaction_type".into());
            columns.push("conversion_type".into());
            columns.extend(["event_id", "order_id", "impression_id", "user_id"].map(known));
            columns.push(enriched("campaign_id"));
            columns.push("known(enriched['advertiser_id']) AS advertiser_id".into());
            columns.push(known("ad_creative_id"));
            columns.push(country);
            columns.push("known(enriched['region']) AS region".into());
            columns.push(device);
            columns.extend(["os", "browser"].map(only_enriched));
            // A refund takes back its magnitude, whatever sign it was sent with.
            columns.push(
                "CASE WHEN interaction_type(conversion_type) = 'refund' AND enriched['value_micros'] > 0 \
                 THEN -enriched['value_micros'] ELSE enriched['value_micros'] END AS value_micros"
                    .into(),
            );
            columns.push(known("currency"));
            columns.extend(["quantity", "user_agent"].map(String::from));
            columns.push(
                "advertiser_of(coalesce(known(campaign_id), known(enriched['campaign_id']))) AS scope_advertiser_id"
                    .into(),
            );
            columns.push("invalid_interaction(user_agent) AS invalid_reason".into());
        }
        EventKind::BidRequest => {
            columns.push(known("auction_id"));
            columns.push("event_imp_id AS imp_id".into());
            columns.push(known("user_id"));
            let carried = |value: &str| format!("CASE WHEN bid['carried'] THEN {value} END");
            let bid = |name: &str| {
                carried(&format!("coalesce(known(bid['{name}']), known(get_field(bid['enriched'], '{name}')))"))
            };
            columns.push(format!("{} AS campaign_id", bid("campaign_id")));
            columns.push(format!("{} AS advertiser_id", carried("known(get_field(bid['enriched'], 'advertiser_id'))")));
            columns.push(format!("{} AS ad_creative_id", carried("known(bid['ad_creative_id'])")));
            columns.push("coalesce(known(site['domain']), known(app['bundle'])) AS website".into());
            columns.push(
                "country_alpha2(coalesce(known(device['geo']['country']), known(enriched['country']))) AS country"
                    .into(),
            );
            columns.push("coalesce(known(device['geo']['region']), known(enriched['region'])) AS region".into());
            columns.push("device['geo']['city'] AS city".into());
            columns.push(
                "device_word(coalesce(known(CAST(device['devicetype'] AS VARCHAR)), \
                 known(enriched['device_type']))) AS device_type"
                    .into(),
            );
            columns.push("coalesce(device['os'], enriched['os']) AS os".into());
            columns.push(only_enriched("browser"));
            for name in ["bid_price_micros", "clearing_price_micros"] {
                columns.push(format!("{} AS {name}", carried(&format!("get_field(bid['enriched'], '{name}')"))));
            }
            columns.push(format!("{} AS won", carried("bid['won']")));
            columns.push("event_imp AS imp".into());
            columns.extend(["at", "tmax", "cur", "site", "app", "device", "user"].map(quoted));
            columns.extend(["wseat", "bcat", "badv", "targeting"].map(String::from));
        }
    }
    columns.extend(["part_of_day", "day_type", "season"].map(only_enriched));
    columns.extend(["attributes", "content_hash", "source"].map(String::from));
    if kind == EventKind::BidRequest {
        columns.push("CASE WHEN bid['carried'] THEN bid['content_hash'] END AS bid_content_hash".into());
        columns.push("CASE WHEN bid['carried'] THEN bid['source'] END AS bid_source".into());
        columns.push("CASE WHEN bid['carried'] THEN bid['event_date'] END AS bid_event_date".into());
    }
    columns.extend(["ingested_at", "event_date"].map(String::from));
    columns.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_content_field_takes_part_in_the_order() {
        for kind in EventKind::ALL {
            let order = order(kind, true);
            for field in content_fields(kind) {
                assert!(order.contains(&quoted(field.name())), "{kind}: {}", field.name());
            }
        }
    }
}
