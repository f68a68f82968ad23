//! What the benchmarks ask a server.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// The metrics of a campaign's tiles.
pub const KPIS: [&str; 11] =
    ["impressions", "clicks", "conversions", "spend", "revenue", "ctr", "cvr", "cpc", "cpm", "cpa", "roas"];

/// The questions of a dashboard.
pub fn question(number: usize) -> Value {
    let week = json!({"range": ["2025-01-01", "2025-01-08"]});
    let by = |dimension: &str| {
        let mut question = json!({"metrics": KPIS, "dimensions": [dimension], "time": week, "totals": true});
        question["order"] = json!(["-spend"]);
        question["limit"] = json!(50);
        question
    };
    let over = |metrics: &[&str], range: [&str; 2], grain: &str| {
        let time = json!({"range": range, "grain": grain, "fill": true});
        json!({"metrics": metrics, "time": time})
    };
    let funnel = ["bids", "wins", "impressions", "viewable_impressions", "clicks", "conversions"];
    let models = ["last_touch", "first_touch", "linear", "position_based", "time_decay"];
    match number {
        0 => {
            let days = json!({"range": ["2025-01-04", "2025-01-08"]});
            json!({"metrics": KPIS, "time": days, "compare": "previous_period"})
        }
        1 => over(&["impressions", "spend"], ["2025-01-01", "2025-01-08"], "day"),
        2 => over(&["clicks", "conversions"], ["2025-01-07", "2025-01-08"], "hour"),
        3 => by("campaign_id"),
        4 => by("website"),
        5 => by("ad_creative_id"),
        6 => by("device_type"),
        7 => by("country"),
        8 => json!({"metrics": funnel, "time": week}),
        9 => json!({"metrics": models.map(|model| format!("attributed_revenue_{model}")), "time": week}),
        10 => json!({"metrics": ["conversions", "revenue"], "dimensions": ["conversion_type"], "time": week}),
        _ => json!({"metrics": ["reach", "frequency", "impressions"], "time": week}),
    }
}

/// The answer to a question.
pub async fn ask(client: &reqwest::Client, base: &str, question: &Value) -> Result<Value> {
    let request = client.post(format!("{base}/v1/query")).header("content-type", "application/json");
    read(request.body(question.to_string()).send().await?).await
}

/// The answer of a response.
pub async fn read(response: reqwest::Response) -> Result<Value> {
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "{status}: {text}");
    Ok(serde_json::from_str(&text)?)
}
