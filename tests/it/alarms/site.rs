//! A lake with a campaign whose click-through rate is known, and its server.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::process::Process;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A lake, its configuration and its rules.
pub struct Site {
    folder: TempDir,
    pub adlake: Adlake,
    files: AtomicUsize,
}

/// A server over it.
pub struct Server {
    pub process: Process,
    pub port: u16,
    client: Client,
}

impl Site {
    pub fn new(rules: &str, settings: &str) -> Result<Site> {
        Site::with_environment(rules, settings, Vec::new())
    }

    pub fn with_environment(rules: &str, settings: &str, environment: Vec<(&str, String)>) -> Result<Site> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "[lake]\nuri = \"{}\"\n[serve]\nrefresh_interval = \"50ms\"\n[alarms]\nrules = \"{}\"\ndefaults = false\n\
             interval = \"200ms\"\nlease_time = \"2s\"\n{settings}",
            path("lake"),
            path("rules.toml")
        );
        let adlake = Adlake::in_dir(folder.path()).config(&config).envs(environment);
        let site = Site { adlake, folder, files: AtomicUsize::new(0) };
        site.write_rules(rules)?;
        Ok(site)
    }

    pub fn write_rules(&self, rules: &str) -> Result<()> {
        Ok(fs::write(self.folder.path().join("rules.toml"), rules)?)
    }

    /// Writes other settings in place of some.
    pub fn edit_settings(&self, from: &str, to: &str) -> Result<()> {
        let path = self.folder.path().join("adlake.toml");
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{from:?} is not in {text}");
        Ok(fs::write(&path, text.replace(from, to))?)
    }

    /// Four weeks in which one impression of five is clicked, in the hours around this one. And
    /// this hour and the one before, as ever.
    pub fn history(&self) -> Result<()> {
        let hour = this_hour();
        let mut hours = vec![hour, hour - TimeDelta::hours(1)];
        for week in 1..=4 {
            hours.extend((-3..=1).map(|more| hour - TimeDelta::weeks(week) + TimeDelta::hours(more)));
        }
        self.ingest(&hours, 400, 80, "good.example")
    }

    /// Impressions without clicks, on one site.
    pub fn drop(&self) -> Result<()> {
        let hour = this_hour();
        self.ingest(&[hour, hour - TimeDelta::hours(1)], 1_600, 0, "bad.example")
    }

    /// Gives the campaign a budget, and days before and after this one.
    pub fn plan(&self, budget_micros: i64, before: i64, after: i64) -> Result<()> {
        let day = |days: i64| (Utc::now() + TimeDelta::days(days)).format("%Y-%m-%d").to_string();
        let path = self.folder.path().join("campaigns.csv");
        let header = "campaign_id,advertiser_id,name,advertiser_name,budget_micros,start_date,end_date";
        fs::write(&path, format!("{header}\nc1,a1,One,Some,{budget_micros},{},{}\n", day(-before), day(after)))?;
        self.adlake.ok(["ref", "load", "campaigns", &path.to_string_lossy(), "--quiet"]);
        Ok(())
    }

    /// Two hours ago, so many impressions of a robot, and so many of people.
    pub fn robots_before(&self, robots: usize, people: usize) -> Result<()> {
        let at = text(this_hour() - TimeDelta::hours(2));
        let file = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("robots{file}.ndjson"));
        let mut lines = String::new();
        for number in 0..robots + people {
            let agent = if number < robots { "Mozilla/5.0 (compatible; Googlebot/2.1)" } else { "Mozilla/5.0 (X11)" };
            writeln!(
                lines,
                "{{\"impression_id\":\"r{file}-{number}\",\"ad_creative_id\":\"a1\",\"user_id\":\"u{number}\",\
                 \"timestamp\":\"{at}\",\"website\":\"some.example\",\"campaign_id\":\"c1\",\"cost_micros\":1000,\
                 \"user_agent\":\"{agent}\"}}"
            )?;
        }
        fs::write(&path, lines)?;
        self.adlake.ok(["ingest", "files", &path.to_string_lossy(), "--quiet"]);
        Ok(())
    }

    /// The same, two hours ago.
    pub fn drop_before(&self) -> Result<()> {
        self.ingest(&[this_hour() - TimeDelta::hours(2)], 1_600, 0, "bad.example")
    }

    /// As many clicks as are lacking.
    pub fn recover(&self) -> Result<()> {
        let hour = this_hour();
        // Also where a new hour has begun since.
        self.ingest(&[hour, hour - TimeDelta::hours(1), hour - TimeDelta::hours(2)], 0, 330, "bad.example")
    }

    pub fn hours_ago(&self, hours: i64) -> String {
        text(this_hour() - TimeDelta::hours(hours))
    }

    fn ingest(&self, hours: &[DateTime<Utc>], impressions: usize, clicks: usize, website: &str) -> Result<()> {
        let file = self.files.fetch_add(1, Ordering::Relaxed);
        let folder: PathBuf = self.folder.path().join(format!("events{file}"));
        fs::create_dir_all(&folder)?;
        let (mut shown, mut clicked) =
            (String::new(), String::from("timestamp,user_id,campaign_id,conversion_type,event_id,website\n"));
        for (place, hour) in hours.iter().enumerate() {
            let at = text(*hour);
            for number in 0..impressions {
                let id = format!("{file}-{place}-{number}");
                writeln!(
                    shown,
                    "{{\"impression_id\":\"i{id}\",\"ad_creative_id\":\"a1\",\"user_id\":\"u{id}\",\
                     \"timestamp\":\"{at}\",\
                     \"website\":\"{website}\",\"campaign_id\":\"c1\",\"cost_micros\":1000}}"
                )?;
            }
            for number in 0..clicks {
                let id = format!("{file}-{place}-{number}");
                writeln!(clicked, "{at},u{id},c1,click,e{id},{website}")?;
            }
        }
        if impressions > 0 {
            fs::write(folder.join("impressions.ndjson"), shown)?;
        }
        fs::write(folder.join("clicks.csv"), clicked)?;
        self.adlake.ok(["ingest", "files", &folder.to_string_lossy(), "--quiet"]);
        Ok(())
    }

    pub async fn serve(&self) -> Result<Server> {
        let port = setup::free_port()?;
        let process = self.adlake.spawn(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        let server = Server::over(process, port);
        server.is_ready(DEADLINE).await?;
        Ok(server)
    }

    /// What `adlake alarms list` shows.
    pub fn alarms(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.adlake.ok(["alarms", "list", "--format", "json"]))?)
    }
}

impl Server {
    /// That of a process.
    pub fn over(process: Process, port: u16) -> Server {
        Server { process, port, client: Client::new() }
    }

    /// Waits until it answers questions.
    pub async fn is_ready(&self, deadline: Duration) -> Result<()> {
        let ready = wait::until_async(deadline, "a ready server", async || {
            let response = self.client.get(self.url("/readyz")).send().await;
            Ok(response.is_ok_and(|response| response.status().is_success()))
        });
        ready.await.with_context(|| self.process.logs())
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub async fn alarms(&self) -> Result<Value> {
        let text = self.client.get(self.url("/v1/alarms")).send().await?.text().await?;
        serde_json::from_str(&text).context(text)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, String)> {
        let request = self.client.post(self.url(path)).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await?;
        Ok((response.status(), response.text().await?))
    }

    /// Waits until the rules have been evaluated a few times.
    pub async fn evaluated(&self) -> Result<()> {
        let mut times = std::collections::BTreeSet::new();
        wait::until_async(DEADLINE, "evaluations", async || {
            if let Some(at) = self.alarms().await?["evaluated_at"].as_str() {
                times.insert(at.to_owned());
            }
            Ok(times.len() > 3)
        })
        .await
        .with_context(|| self.process.logs())
    }

    /// Waits until there is an alarm in a state.
    pub async fn state_of(&self, state: &str) -> Result<Value> {
        self.state_of_within(state, "", DEADLINE).await
    }

    /// Waits until there is an alarm of a rule in a state. An empty name: of any rule.
    pub async fn state_of_within(&self, state: &str, rule: &str, deadline: Duration) -> Result<Value> {
        let found = wait::value_async(deadline, state, async || {
            let alarms = self.alarms().await?["alarms"].clone();
            let is_it = |alarm: &&Value| alarm["state"] == state && (rule.is_empty() || alarm["rule"] == rule);
            Ok(alarms.as_array().context("no list")?.iter().find(is_it).cloned())
        });
        found.await.with_context(|| self.process.logs())
    }
}

fn this_hour() -> DateTime<Utc> {
    let now = Utc::now();
    now.with_minute(0).and_then(|at| at.with_second(0)).and_then(|at| at.with_nanosecond(0)).unwrap_or(now)
}

fn text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
