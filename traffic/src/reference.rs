//! The reference data of the generated world: `creatives.csv`, `campaigns.csv`, `fx_rates.csv`, for
//! `adlake ref load`.

use std::fs;
use std::path::Path;

use crate::clock::DAY;
use crate::error::TrafficError;
use crate::plan::{Pace, Plan};
use crate::text;
use crate::world::{FLIGHT_DAYS, World};

/// How many days before the first event and after the last opportunity have rates too.
const DAYS_AROUND: i64 = 3;

/// Writes the three files.
pub fn write(folder: &Path, plan: &Plan, world: &World) -> Result<(), TrafficError> {
    fs::create_dir_all(folder).map_err(TrafficError::file("create the folder", &folder))?;
    for (name, contents) in [
        ("creatives.csv", creatives(world)),
        ("campaigns.csv", campaigns(plan, world)),
        ("fx_rates.csv", rates(plan, world)),
    ] {
        let path = folder.join(name);
        fs::write(&path, contents).map_err(TrafficError::file("write", &path))?;
    }
    Ok(())
}

fn creatives(world: &World) -> String {
    let mut csv = String::from("ad_creative_id,campaign_id,name,format\n");
    for creative in &world.creatives {
        let campaign = &world.campaigns[creative.campaign as usize];
        let (width, height) = (creative.width, creative.height);
        csv += &format!("{},{},{} {width}x{height},banner\n", creative.id, campaign.id, campaign.name);
    }
    csv
}

fn campaigns(plan: &Plan, world: &World) -> String {
    let mut csv = String::from(
        "campaign_id,advertiser_id,name,advertiser_name,budget_micros,target_cpa_micros,target_roas,start_date,\
         end_date\n",
    );
    let first = plan.start.div_euclid(DAY);
    let [start, end] = [first, first + FLIGHT_DAYS - 1].map(|day| {
        let mut date = Vec::new();
        text::date(&mut date, day);
        String::from_utf8_lossy(&date).into_owned()
    });
    for campaign in &world.campaigns {
        let target_cpa = (campaign.value_micros * 0.4) as i64;
        csv += &format!(
            "{},{},{},{},{},{target_cpa},2.5,{start},{end}\n",
            campaign.id, campaign.advertiser_id, campaign.name, campaign.advertiser_name, campaign.budget_micros
        );
    }
    csv
}

fn rates(plan: &Plan, world: &World) -> String {
    let span = match plan.pace {
        Pace::Span(span) => span,
        Pace::PerSecond(rate) => ((plan.events as f64 / rate).min(30.0 * 86_400.0) * 1e6) as i64,
    };
    let days = plan.start.div_euclid(DAY) - DAYS_AROUND..=(plan.start + span).div_euclid(DAY) + DAYS_AROUND;
    let mut csv = b"day,currency,rate\n".to_vec();
    for day in days {
        for (place, currency) in plan.currencies.iter().enumerate() {
            text::date(&mut csv, day);
            csv.push(b',');
            csv.extend_from_slice(currency.as_bytes());
            csv.push(b',');
            // Rates have six digits after the point: millionths.
            text::micros(&mut csv, (world.rate(place as u8, day) / 1_000_000) as i64);
            csv.push(b'\n');
        }
    }
    String::from_utf8_lossy(&csv).into_owned()
}
