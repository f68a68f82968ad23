//! Writes impressions as JSON and interactions as CSV. It does so without a library, because most
//! of the generator's time would be spent here.

use crate::event::{Id, Impression, Interaction, id};
use crate::text;
use crate::world::{Times, World, user_id};

/// The columns of the CSV. Ingest expects the same columns of a topic by default.
pub const CSV_HEADER: &str = "\
    timestamp,user_id,campaign_id,conversion_type,event_id,ad_creative_id,impression_id,\
    order_id,value,currency,quantity,country,device_type,user_agent";

/// Appends an impression as one line of JSON, without its end.
pub fn impression(out: &mut Vec<u8>, world: &World, seed: u64, currencies: &[String], event: &Impression) {
    let creative = &world.creatives[event.creative as usize];
    let website = &world.websites[event.website as usize];
    let user = world.user(event.user);
    let optional_fields = website.optional_fields;
    out.push(b'{');
    if event.with_id {
        out.extend_from_slice(b"\"impression_id\":\"");
        text::hex(out, id(seed, Id::Impression, event.number));
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"ad_creative_id\":\"");
    out.extend_from_slice(creative.id.as_bytes());
    out.extend_from_slice(b"\",\"user_id\":\"");
    match event.known_user {
        true => user_id(out, event.user),
        false => out.extend_from_slice(b"unknown"),
    }
    out.extend_from_slice(b"\",\"timestamp\":");
    time(out, website.times, event.time);
    out.extend_from_slice(b",\"website\":\"");
    out.extend_from_slice(website.name.as_bytes());
    out.push(b'"');
    if optional_fields.campaign {
        field(out, "campaign_id", &world.campaigns[creative.campaign as usize].id);
    }
    if let Some(cost) = event.cost_micros {
        out.extend_from_slice(b",\"cost_micros\":");
        text::integer(out, cost);
        if website.currency != 0 {
            field(out, "currency", &currencies[usize::from(website.currency)]);
        }
    }
    out.extend_from_slice(b",\"width\":");
    text::integer(out, creative.width.into());
    out.extend_from_slice(b",\"height\":");
    text::integer(out, creative.height.into());
    match event.viewable {
        Some(true) => out.extend_from_slice(b",\"viewable\":true"),
        Some(false) => out.extend_from_slice(b",\"viewable\":false"),
        None => {}
    }
    if optional_fields.view_time && event.viewable.is_some() {
        out.extend_from_slice(b",\"view_time_ms\":");
        text::integer(out, event.view_time_ms.into());
    }
    if optional_fields.user_agent {
        field(out, "user_agent", user.agent.user_agent);
    } else {
        field(out, "device_type", user.agent.device);
    }
    field(out, "country", user.place.country);
    if optional_fields.city {
        field(out, "region", user.place.region);
        field(out, "city", user.place.city);
    }
    if optional_fields.auction && event.auction {
        out.extend_from_slice(b",\"auction_id\":\"");
        text::hex(out, id(seed, Id::Auction, event.number));
        out.push(b'"');
    }
    if optional_fields.unknown_field || !event.with_id {
        // If an impression has no id of its own, this field keeps it different from all others.
        out.extend_from_slice(b",\"page_view\":");
        text::integer(out, event.number as i64);
    }
    out.push(b'}');
}

/// Appends an interaction as one row of CSV, without the line's end.
pub fn interaction(out: &mut Vec<u8>, world: &World, seed: u64, currencies: &[String], event: &Interaction) {
    let user = world.user(event.user);
    text::date_time(out, event.time, b'T');
    out.extend_from_slice(b"Z,");
    user_id(out, event.user);
    out.push(b',');
    out.extend_from_slice(world.campaigns[event.campaign as usize].id.as_bytes());
    out.push(b',');
    out.extend_from_slice(event.action.name().as_bytes());
    out.push(b',');
    if event.with_id {
        text::hex(out, id(seed, Id::Event, event.number));
    }
    out.push(b',');
    out.extend_from_slice(world.creatives[event.creative as usize].id.as_bytes());
    out.push(b',');
    if let Some(impression) = event.impression {
        text::hex(out, id(seed, Id::Impression, impression));
    }
    out.push(b',');
    if event.action.has_order() {
        out.extend_from_slice(b"o-");
        text::hex(out, id(seed, Id::Order, event.order));
        out.push(b',');
        text::micros(out, event.value_micros);
        out.push(b',');
        if event.currency != 0 {
            out.extend_from_slice(currencies[usize::from(event.currency)].as_bytes());
        }
        out.push(b',');
        text::integer(out, event.quantity.into());
    } else {
        out.extend_from_slice(b",,,");
    }
    out.push(b',');
    out.extend_from_slice(user.place.country.as_bytes());
    out.push(b',');
    out.extend_from_slice(user.agent.device.as_bytes());
    out.push(b',');
    if user.bot {
        // Shops pass the user agent on if they suspect a robot. "like Gecko" follows a comma in it,
        // so it needs quotes.
        out.push(b'"');
        out.extend_from_slice(user.agent.user_agent.as_bytes());
        out.push(b'"');
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn time(out: &mut Vec<u8>, times: Times, time: i64) {
    match times {
        Times::Millis => text::integer(out, time.div_euclid(1_000)),
        Times::Rfc3339 => {
            out.push(b'"');
            text::date_time(out, time, b'T');
            out.extend_from_slice(b"Z\"");
        }
        Times::Plain => {
            out.push(b'"');
            text::date_time(out, time, b' ');
            out.push(b'"');
        }
    }
}
