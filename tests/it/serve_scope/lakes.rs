//! Two lakes with the same events of ours. One has events of another advertiser beside them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use adlake_tests::adlake::Adlake;
use adlake_tests::wait;
use anyhow::{Context, Result};
use chrono::{DateTime, Days, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::serve::{DEADLINE, Server, config};

/// The campaigns of our advertiser.
pub const OURS: [&str; 2] = ["c-our-1", "c-our-2"];
/// Those of the other one. All names of theirs contain `zebra`, and nothing else does.
pub const THEIRS: [&str; 2] = ["c-zebra-1", "c-zebra-2"];

/// All campaigns have an alarm.
const RULES: &str = r#"
[[rule]]
name = "paced"
description = "A campaign has spent something"
metric = "pacing"
by = ["campaign_id"]
detect = { above = 0.0000001 }
for = "1s"
severity = "info"
"#;

/// Days of which there are events. Theirs begin before ours, and end after them.
const DAYS: i64 = 20;
const OUR_DAYS: std::ops::Range<i64> = 2..16;

/// The servers, the one over both advertisers' events first.
pub struct Lakes {
    pub servers: [Server; 2],
    /// The key of our advertiser, and one of our first campaign.
    pub advertiser: String,
    pub campaign: String,
    analyst: String,
    /// The id of an alarm of theirs.
    pub alarm: String,
    first: DateTime<Utc>,
    more: PathBuf,
}

/// Events of a part of the days.
struct Events {
    impressions: String,
    interactions: String,
    bids: String,
}

/// What is different from advertiser to advertiser.
struct Owner {
    name: &'static str,
    campaigns: [&'static str; 2],
    countries: [&'static str; 2],
    device: &'static str,
    conversion: &'static str,
}

const OUR: Owner =
    Owner { name: "our", campaigns: OURS, countries: ["DE", "FR"], device: "mobile", conversion: "purchase" };
const THEIR: Owner =
    Owner { name: "zebra", campaigns: THEIRS, countries: ["JP", "DE"], device: "ctv", conversion: "zebra_signup" };

/// Fills both lakes and starts their servers.
pub async fn both(folder: &Path) -> Result<Lakes> {
    let today = Utc::now().date_naive().and_hms_opt(0, 0, 0).context("no midnight")?.and_utc();
    let first = today.checked_sub_days(Days::new(DAYS as u64 + 1)).context("no such day")?;
    let more = format!(
        "keys_file = \"{}\"\n[alarms]\nrules = \"{}\"\ndefaults = false\ninterval = \"200ms\"\n",
        folder.join("keys.toml").display(),
        folder.join("rules.toml").display(),
    );
    fs::write(folder.join("rules.toml"), RULES)?;
    let mut keys = Vec::new();
    let mut servers = Vec::new();
    for (name, owners) in [("whole", &[OUR, THEIR][..]), ("alone", &[OUR][..])] {
        let home = folder.join(name);
        fs::create_dir(&home)?;
        let adlake = Adlake::in_dir(&home).config(&config(&home, &more));
        write_reference(&home, owners, first)?;
        for kind in ["creatives", "campaigns"] {
            adlake.ok(["ref", "load", kind, &format!("{kind}.csv"), "--quiet"]);
        }
        // A published run, and what has come since.
        for (part, is_tail) in [("a", false), ("b", true)] {
            write_events(&home.join(part), owners, first, is_tail)?;
            adlake.ok(["ingest", "files", part, "--quiet"]);
            if !is_tail {
                adlake.ok(["batch", "run", "--quiet"]);
            }
        }
        if keys.is_empty() {
            for (id, more) in [
                ("ana", &["--role", "analyst"][..]),
                ("ads", &["--role", "advertiser", "--advertiser", "our"][..]),
                ("one", &["--role", "advertiser", "--campaign", OURS[0]][..]),
            ] {
                let text = adlake.ok([&["keys", "create", id, "--format", "json"], more].concat());
                let key: Value = serde_json::from_str(&text)?;
                keys.push(key["key"].as_str().context("no key")?.to_owned());
            }
        }
        servers.push(Server::start(adlake).await?);
    }
    let [analyst, advertiser, campaign] = <[String; 3]>::try_from(keys).ok().context("three keys")?;
    let servers = <[Server; 2]>::try_from(servers).ok().context("two servers")?;
    let alarm = alarm_of(&servers[0], &analyst, THEIRS[0]).await?;
    let more = folder.join("whole").join("more");
    Ok(Lakes { servers, advertiser, campaign, analyst, alarm, first, more })
}

/// The id of the alarm of a campaign that fires.
async fn alarm_of(server: &Server, key: &str, campaign: &str) -> Result<String> {
    let found = wait::value_async(DEADLINE, "an alarm of theirs", async || {
        let (_, answer) = Server::json(server.get("/v1/alarms", Some(key)).await?).await?;
        let alarms = answer["alarms"].as_array().context("no alarms")?;
        let own = alarms.iter().find(|alarm| alarm["group"]["campaign_id"] == campaign && alarm["state"] == "FIRING");
        Ok(own.and_then(|alarm| alarm["id"].as_str()).map(String::from))
    });
    found.await.with_context(|| server.process.logs())
}

impl Lakes {
    /// A day, the first of theirs being 0.
    pub fn day(&self, place: i64) -> String {
        (self.first + TimeDelta::days(place)).date_naive().to_string()
    }

    /// A value of a dimension that only they have.
    pub fn value_of_theirs(&self, dimension: &str) -> &'static str {
        match dimension {
            "campaign_id" => THEIRS[0],
            "advertiser_id" => "zebra",
            "website" => "zebra.example",
            "ad_creative_id" => "cr-zebra-1",
            "device_type" => "ctv",
            "country" => "JP",
            "region" => "zebra-region",
            _ => "zebra_signup",
        }
    }

    /// The ETag and the cursor of an answer to the analyst.
    pub async fn of_analyst(&self, question: &Value) -> Result<(String, String)> {
        let response = self.servers[0].post(question, Some(&self.analyst), &[]).await?;
        let etag = response.headers()["etag"].to_str()?.to_owned();
        let (_, answer) = Server::json(response).await?;
        Ok((etag, answer["meta"]["next_cursor"].as_str().context("no cursor")?.to_owned()))
    }

    /// More events of theirs arrive.
    pub fn add_theirs(&self) -> Result<()> {
        let mut text = String::new();
        for number in 0..50 {
            let event = json!({"impression_id": format!("more-zebra-{number}"), "ad_creative_id": "cr-zebra-1",
                               "user_id": "u1", "timestamp": (self.first + TimeDelta::hours(number)).to_rfc3339(),
                               "website": "zebra.example", "campaign_id": THEIRS[0], "cost_micros": 1000,
                               "country": "JP", "width": 300, "height": 250});
            writeln!(text, "{event}")?;
        }
        fs::create_dir(&self.more)?;
        fs::write(self.more.join("impressions.ndjson"), text)?;
        self.servers[0].adlake.ok(["ingest", "files", "more", "--quiet"]);
        Ok(())
    }
}

fn write_reference(home: &Path, owners: &[Owner], first: DateTime<Utc>) -> Result<()> {
    let end = (first + TimeDelta::days(2 * DAYS)).date_naive();
    let first = first.date_naive();
    let mut campaigns = String::from(
        "campaign_id,advertiser_id,name,advertiser_name,budget_micros,target_cpa_micros,target_roas,start_date,\
         end_date\n",
    );
    let mut creatives = String::from("ad_creative_id,campaign_id,name,format\n");
    for Owner { name, campaigns: own, .. } in owners {
        for (place, campaign) in own.iter().enumerate() {
            writeln!(
                campaigns,
                "{campaign},{name},{name} shared {place},{name} Ltd,9000000,1000000,2.5,{first},{end}"
            )?;
            writeln!(creatives, "cr-{name}-{place},{campaign},{name} creative,banner")?;
        }
    }
    fs::write(home.join("campaigns.csv"), campaigns)?;
    fs::write(home.join("creatives.csv"), creatives)?;
    Ok(())
}

/// Users see the ads of all. A part of the touchpoints is of no known campaign.
fn write_events(folder: &Path, owners: &[Owner], first: DateTime<Utc>, is_tail: bool) -> Result<()> {
    let mut events = Events {
        impressions: String::new(),
        interactions: String::from(
            "timestamp,user_id,campaign_id,conversion_type,event_id,ad_creative_id,order_id,value,currency,country\n",
        ),
        bids: String::new(),
    };
    for (place, owner) in owners.iter().enumerate() {
        let days = if place == 0 { OUR_DAYS } else { 0..DAYS };
        for day in days {
            for number in 0..24 {
                // The tail has late events of all days.
                if (number % 4 == 3) == is_tail {
                    add(&mut events, owner, first + TimeDelta::days(day) + TimeDelta::hours(number), number, day)?;
                }
            }
        }
    }
    fs::create_dir(folder)?;
    fs::write(folder.join("impressions.ndjson"), events.impressions)?;
    fs::write(folder.join("interactions.csv"), events.interactions)?;
    fs::write(folder.join("bid_requests.ndjson"), events.bids)?;
    Ok(())
}

fn add(events: &mut Events, owner: &Owner, at: DateTime<Utc>, number: i64, day: i64) -> Result<()> {
    let Owner { name, countries, device, conversion, .. } = owner;
    let place = (number % 2) as usize;
    let campaign = owner.campaigns[place];
    let id = format!("{name}-{day}-{number}");
    let user = format!("u{}", (day * 5 + number) % 17);
    let country = countries[(number % 3 == 0) as usize];
    let time = |minutes: i64| (at + TimeDelta::minutes(minutes)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    // Some have no size: they are invalid traffic.
    let width = if number % 5 == 2 { 0 } else { 300 };
    let mut shown = json!({"impression_id": format!("i-{id}"), "ad_creative_id": format!("cr-{name}-{place}"),
                           "user_id": user, "timestamp": time(5), "website": format!("{name}.example"),
                           "campaign_id": campaign, "cost_micros": 700 + 13 * number, "country": country,
                           "region": format!("{name}-region"), "device_type": device, "width": width, "height": 250,
                           "viewable": number % 5 != 0});
    if *name == "our" && number % 7 == 0 {
        // Of no known campaign.
        shown["campaign_id"] = Value::Null;
        shown["ad_creative_id"] = json!("cr-unknown");
    }
    writeln!(events.impressions, "{shown}")?;
    if number % 2 == 0 {
        writeln!(events.interactions, "{},{user},{campaign},click,k-{id},,,,,{country}", time(9))?;
    }
    if number % 3 == 0 {
        let order = format!("o-{id}");
        writeln!(
            events.interactions,
            "{},{user},{campaign},{conversion},v-{id},,{order},12.5,USD,{country}",
            time(20)
        )?;
    }
    let bid = json!({"auction_id": format!("a-{id}"), "user_id": user, "timestamp": time(4), "imp": [{"id": "1"}],
                     "site": {"domain": format!("{name}.example")}, "device": {"geo": {"country": country}},
                     "imp_id": "1", "campaign_id": campaign, "bid_price": 1.5, "clearing_price": 1.1,
                     "won": number % 4 != 0});
    writeln!(events.bids, "{bid}")?;
    Ok(())
}
