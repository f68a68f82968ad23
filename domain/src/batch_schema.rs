//! The Arrow schemas of the batch tables: deduplicated events, attributions, cubes, sketches, the
//! manifest.
//!
//! Money and seconds are stored in micros (`..._micros`), credits in billionths (`..._billionths`),
//! so that all sums are sums of integers. A sum that may exceed 64 bits is a decimal of 38 digits
//! without a fraction ([`wide`]). Every reader of Delta knows this type.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use crate::credit::Model;
use crate::event::EventKind;
use crate::kpi;
use crate::schema::{content_fields, imp_type, source_fields, timestamp};

fn utf8(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn int64(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

/// The type of a sum that may exceed 64 bits.
pub fn wide() -> DataType {
    DataType::Decimal128(38, 0)
}

fn time(name: &str) -> Field {
    Field::new(name, timestamp(), true)
}

fn binary(name: &str) -> Field {
    Field::new(name, DataType::Binary, true)
}

fn source(name: &str) -> Field {
    Field::new(name, DataType::Struct(source_fields()), true)
}

fn event_date() -> Field {
    Field::new("event_date", DataType::Date32, true)
}

fn content(kind: EventKind, name: &str) -> Field {
    let data_type = content_fields(kind).into_iter().find(|field| field.name() == name).map(|f| f.data_type().clone());
    Field::new(name, data_type.unwrap_or(DataType::Utf8), true)
}

/// The schema of a table of deduplicated events: one row for each event, with resolved fields.
pub fn event_schema(kind: EventKind) -> SchemaRef {
    let mut fields = vec![binary("event_key"), time("event_time")];
    let own = |name: &str| content(kind, name);
    match kind {
        EventKind::Impression => {
            fields.extend(
                ["impression_id", "user_id", "ad_creative_id", "campaign_id", "advertiser_id", "ad_group_id"].map(utf8),
            );
            fields.extend(["placement_id", "auction_id", "website", "country", "region", "city"].map(utf8));
            fields.extend(["device_type", "os", "browser", "content_category"].map(utf8));
            fields.push(int64("cost_micros"));
            fields.push(utf8("currency"));
            fields.extend(["width", "height", "viewable", "view_time_ms", "interaction_depth"].map(own));
            fields.extend(["user_agent", "ip", "consent"].map(utf8));
        }
        EventKind::Interaction => {
            fields.extend(["interaction_id", "interaction_type", "conversion_type", "event_id", "order_id"].map(utf8));
            fields.extend(["impression_id", "user_id", "campaign_id", "advertiser_id", "ad_creative_id"].map(utf8));
            fields.extend(["country", "region", "device_type", "os", "browser"].map(utf8));
            fields.push(int64("value_micros"));
            fields.push(utf8("currency"));
            fields.push(int64("quantity"));
            fields.push(utf8("user_agent"));
            // Attribution joins on it. It comes from ref/campaigns at the manifest's version.
            fields.push(utf8("scope_advertiser_id"));
        }
        EventKind::BidRequest => {
            fields.extend(
                ["auction_id", "imp_id", "user_id", "campaign_id", "advertiser_id", "ad_creative_id"].map(utf8),
            );
            fields.extend(["website", "country", "region", "city", "device_type", "os", "browser"].map(utf8));
            fields.extend(["bid_price_micros", "clearing_price_micros"].map(int64));
            fields.push(own("won"));
            fields.push(Field::new("imp", imp_type(), true));
            fields.extend(["at", "tmax", "cur", "site", "app", "device", "user"].map(own));
            fields.extend(["wseat", "bcat", "badv", "targeting"].map(own));
        }
    }
    if kind != EventKind::BidRequest {
        fields.push(utf8("invalid_reason"));
    }
    fields.extend(["part_of_day", "day_type", "season", "attributes"].map(utf8));
    fields.push(binary("content_hash"));
    fields.push(source("source"));
    if kind == EventKind::BidRequest {
        // The origin of the bid or its outcome, if that is not the request's own row.
        fields.push(binary("bid_content_hash"));
        fields.push(source("bid_source"));
        fields.push(Field::new("bid_event_date", DataType::Date32, true));
    }
    fields.push(time("ingested_at"));
    fields.push(event_date());
    Arc::new(Schema::new(fields))
}

/// The schema of `batch/attributions`: a row for each interaction and touchpoint.
///
/// The credit is counted under `campaign_id`, `ad_creative_id`, `website`, `country`, `region`,
/// `device_type` and `conversion_type`. The `touch_*` columns belong to the touchpoint. What it
/// lacks comes from its impression.
///
/// An interaction takes what it lacks from the row that `inherits`: that of its last touchpoint. A
/// refund that has an order has a row of its own for this, which has no touchpoint: its `touch_*`
/// columns are those of the order as it stands in `conversions`. The rows of a refund and its
/// order's touchpoints come beside. Of invalid interactions only these have a row, so that what the
/// gross sums need of them is known: clicks that came too soon, and refunds that have an order.
pub fn attributions_schema() -> SchemaRef {
    let mut fields = vec![binary("interaction_key"), utf8("user_id")];
    fields.extend(["interaction_id", "interaction_type", "conversion_type"].map(utf8));
    fields.push(time("interaction_time"));
    fields.push(utf8("interaction_campaign_id"));
    fields.push(binary("touchpoint_key"));
    fields.extend(["touchpoint_id", "touchpoint_kind"].map(utf8));
    fields.push(time("touchpoint_time"));
    fields.push(utf8("touchpoint_campaign_id"));
    fields.extend(["last_touch", "inherits", "order_is_primary"].map(|name| Field::new(name, DataType::Boolean, true)));
    fields.push(int64("seconds_between_micros"));
    fields.extend(
        ["touch_ad_creative_id", "touch_website", "touch_country", "touch_region", "touch_device_type"].map(utf8),
    );
    fields.extend(["campaign_id", "ad_creative_id", "website", "country", "region", "device_type"].map(utf8));
    fields.extend(Model::ALL.map(|model| int64(&credit_column(model))));
    fields.extend(Model::ALL.map(|model| int64(&revenue_column(model))));
    // `fast_click` or `order_invalid`: the reasons that only attribution can tell.
    fields.push(utf8("invalid_reason"));
    fields.push(event_date());
    Arc::new(Schema::new(fields))
}

/// The stored column of a model's credits.
pub fn credit_column(model: Model) -> String {
    format!("credit_{}_billionths", model.name())
}

/// The stored column of a model's revenues.
pub fn revenue_column(model: Model) -> String {
    format!("revenue_{}_micros", model.name())
}

/// The schema of `batch/campaign_hourly`.
pub fn campaign_hourly_schema() -> SchemaRef {
    let mut fields = vec![time("hour")];
    fields.extend(kpi::DIMENSIONS.map(utf8));
    fields.extend(kpi::SUMS.map(|sum| {
        let data_type = if sum.wide { wide() } else { DataType::Int64 };
        Field::new(sum.column, data_type, true)
    }));
    fields.push(event_date());
    Arc::new(Schema::new(fields))
}

/// The schema of `batch/campaign_rollup`: the sums of the hourly cube without its dimensions other
/// than the campaign.
pub fn campaign_rollup_schema() -> SchemaRef {
    let is_kept = |name: &str| name == "campaign_id" || !kpi::DIMENSIONS.contains(&name);
    let hourly = campaign_hourly_schema();
    let kept = hourly.fields().iter().filter(|field| is_kept(field.name())).cloned();
    Arc::new(Schema::new(kept.collect::<Fields>()))
}

/// The schema of `batch/campaign_reach`: a sketch for each day and campaign.
pub fn campaign_reach_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![time("day"), utf8("campaign_id"), binary("reach_sketch"), event_date()]))
}

/// The schema of `batch/user_segments`: what each user did, and the segment.
pub fn user_segments_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        utf8("user_id"),
        utf8("segment"),
        int64("recency_days"),
        int64("frequency"),
        Field::new("value_micros", wide(), true),
        int64("engagement"),
        int64("clicks"),
        int64("conversions"),
        int64("refunds"),
        time("first_seen"),
        time("last_seen"),
    ]))
}

/// The schema of `batch/alarms`: a row for each transition, silence or acknowledgement.
pub fn alarms_schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        time("at"),
        int64("sequence"),
        utf8("rule"),
        utf8("alarm_group"),
        utf8("alarm_state"),
        utf8("alarm_id"),
        utf8("severity"),
        number("metric_value"),
        number("expected_low"),
        number("expected_high"),
        utf8("why"),
        utf8("cause"),
        Field::new("notice", DataType::Boolean, true),
        time("until"),
        utf8("by_whom"),
        event_date(),
    ]))
}

/// The schema of `batch/manifest`: a row per table and run, all rows of a run in one commit.
pub fn manifest_schema() -> SchemaRef {
    let version =
        Fields::from(vec![Field::new("table", DataType::Utf8, false), Field::new("version", DataType::Int64, false)]);
    let versions = DataType::List(Arc::new(Field::new("element", DataType::Struct(version), true)));
    Arc::new(Schema::new(vec![
        utf8("run_id"),
        int64("run"),
        time("published_at"),
        Field::new("versions", versions, true),
        utf8("meaning"),
        utf8("meaning_hash"),
        int64("revision"),
    ]))
}

/// The schema of `batch/quality`: a row for each expectation of each check.
pub fn quality_schema() -> SchemaRef {
    let mut fields = vec![utf8("check_id"), time("checked_at"), int64("run")];
    fields.extend(["decision", "decided_by", "expectation", "kind", "table", "column"].map(utf8));
    fields.extend(["severity", "status"].map(utf8));
    fields.push(Field::new("observed", DataType::Float64, true));
    fields.push(utf8("expected"));
    fields.extend(["checked_rows", "violating_rows"].map(int64));
    fields.extend(["note", "distribution", "owner", "description"].map(utf8));
    Arc::new(Schema::new(fields))
}

/// The schema of `ref/creatives`.
pub fn creatives_schema() -> SchemaRef {
    Arc::new(Schema::new(["ad_creative_id", "campaign_id", "name", "format"].map(utf8).to_vec()))
}

/// The schema of `ref/campaigns`.
pub fn campaigns_schema() -> SchemaRef {
    let mut fields = ["campaign_id", "advertiser_id", "name", "advertiser_name"].map(utf8).to_vec();
    fields.extend(["budget_micros", "target_cpa_micros"].map(int64));
    fields.push(Field::new("target_roas", DataType::Float64, true));
    fields.extend(["start_date", "end_date"].map(|name| Field::new(name, DataType::Date32, true)));
    Arc::new(Schema::new(fields))
}

/// The schema of `ref/fx_rates`: units of the account currency for one unit of `currency`, on a UTC
/// day.
pub fn fx_rates_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("day", DataType::Date32, true),
        utf8("currency"),
        Field::new("rate", DataType::Decimal128(38, 12), true),
    ]))
}
