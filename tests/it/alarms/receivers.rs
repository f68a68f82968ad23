//! Those who are told of alarms: a webhook, Alertmanager, Prometheus, and an API server of AWS.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adlake_tests::process::Process;
use adlake_tests::{setup, wait};
use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::start;

const DEADLINE: Duration = Duration::from_secs(60);

/// What was posted.
#[derive(Debug, Clone)]
pub struct Notice {
    headers: BTreeMap<String, String>,
    text: String,
    pub body: Value,
}

impl Notice {
    /// A header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Checks the signature with another program.
    pub fn check_signature(&self, secret: &str) -> Result<()> {
        let header = self.headers.get("x-adlake-signature").context("no signature")?;
        let (time, signature) =
            header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).context("no parts")?;
        let script = "import hashlib, hmac, sys; print(hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), \
                      hashlib.sha256).hexdigest())";
        let signed = format!("{time}.{}", self.text);
        let expected = run(Command::new("python3").args(["-c", script, secret, &signed]))?;
        ensure!(expected.trim() == signature, "{signature} is not {expected}");
        ensure!(self.headers.get("idempotency-key").map(String::as_str) == self.body["key"].as_str(), "{self:?}");
        Ok(())
    }
}

/// A receiver of webhooks.
pub struct Webhook {
    received: Arc<Mutex<Vec<Notice>>>,
}

impl Webhook {
    pub async fn start(port: u16) -> Result<Webhook> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let into = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let into = into.clone();
                tokio::spawn(async move {
                    let _ = receive(stream, &into).await;
                });
            }
        });
        Ok(Webhook { received })
    }

    pub fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// Waits for so many notices.
    pub async fn notices(&self, count: usize) -> Result<Vec<Notice>> {
        wait::value_async(DEADLINE, "notices", async || {
            let received = self.received.lock().unwrap().clone();
            Ok((received.len() >= count).then_some(received))
        })
        .await
    }
}

async fn receive(stream: TcpStream, into: &Mutex<Vec<Notice>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut headers = BTreeMap::new();
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let text = String::from_utf8(body)?;
        into.lock().unwrap().push(Notice { headers, body: serde_json::from_str(&text)?, text });
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {text}{errors}");
    Ok(text.into_owned())
}

async fn get(url: &str) -> Result<Value> {
    let text = Client::new().get(url).send().await?.error_for_status()?.text().await?;
    serde_json::from_str(&text).context(text)
}

async fn answers(url: &str, process: &Process) -> Result<()> {
    let ready = wait::until_async(DEADLINE, url, async || {
        Ok(Client::new().get(url).send().await.is_ok_and(|response| response.status().is_success()))
    });
    ready.await.with_context(|| process.logs())
}

/// Debian's Alertmanager.
pub struct Alertmanager {
    pub url: String,
    _process: Process,
}

impl Alertmanager {
    pub async fn start(folder: &Path) -> Result<Alertmanager> {
        let program = setup::program("prometheus-alertmanager", "prometheus-alertmanager")?;
        let amtool = setup::program("amtool", "prometheus-alertmanager")?;
        let config = folder.join("alertmanager.yml");
        let example = setup::scripts().join("../../docs/examples/alertmanager.yml");
        // The example of the guide is what runs here: it is checked, and receives.
        run(Command::new(amtool).arg("check-config").arg(&example))?;
        fs::write(&config, "route: {receiver: none, group_by: [alertname]}\nreceivers: [{name: none}]\n")?;
        let port = setup::free_port()?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.path={}", folder.join("alertmanager").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
        let process = start("alertmanager", command, folder)?;
        let url = format!("http://127.0.0.1:{port}");
        answers(&format!("{url}/-/ready"), &process).await?;
        Ok(Alertmanager { url, _process: process })
    }

    /// The labels of what is active, by the names of the rules.
    pub async fn active(&self) -> Result<BTreeMap<String, Value>> {
        let named = |labels: Value| (labels["alertname"].as_str().unwrap_or_default().to_owned(), labels);
        Ok(self.alerts().await?.into_iter().map(named).collect())
    }

    /// The labels of all active alerts.
    pub async fn alerts(&self) -> Result<Vec<Value>> {
        let alerts = get(&format!("{}/api/v2/alerts?active=true", self.url)).await?;
        Ok(alerts.as_array().context("no list")?.iter().map(|alert| alert["labels"].clone()).collect())
    }
}

/// Debian's Prometheus.
pub struct Prometheus {
    url: String,
    _process: Process,
}

impl Prometheus {
    pub async fn start(folder: &Path, target: u16, rules: &str) -> Result<Prometheus> {
        let (rules_file, config) = (folder.join("rules.yml"), folder.join("prometheus.yml"));
        fs::write(&rules_file, rules)?;
        let promtool = setup::program("promtool", "prometheus")?;
        let checked = run(Command::new(&promtool).args(["check", "rules"]).arg(&rules_file))?;
        ensure!(checked.contains("SUCCESS"), "{checked}");
        let test = folder.join("rules_test.yml");
        fs::write(&test, RULES_TEST.replace("RULES", &rules_file.display().to_string()))?;
        run(Command::new(&promtool).args(["test", "rules"]).arg(&test))?;
        let text = format!(
            "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\nrule_files: [{}]\nscrape_configs:\n\
             - {{job_name: adlake, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}\n",
            rules_file.display()
        );
        fs::write(&config, text)?;
        let port = setup::free_port()?;
        let mut command = Command::new(setup::program("prometheus", "prometheus")?);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = start("prometheus", command, folder)?;
        let url = format!("http://127.0.0.1:{port}");
        answers(&format!("{url}/-/ready"), &process).await?;
        Ok(Prometheus { url, _process: process })
    }

    /// Whether an alert fires.
    pub async fn fires(&self, name: &str) -> Result<bool> {
        let alerts = get(&format!("{}/api/v1/alerts", self.url)).await?;
        let alerts = alerts["data"]["alerts"].as_array().context("no list")?.clone();
        Ok(alerts.iter().any(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing"))
    }
}

/// Two groups of a rule fire.
const RULES_TEST: &str = r#"
rule_files: [RULES]
tests:
  - interval: 1m
    input_series:
      - series: 'adlake_serve_alarms_firing{rule="ctr_fell",severity="critical",instance="a"}'
        values: '0 0 2 2 0'
    alert_rule_test:
      - eval_time: 1m
        alertname: AdlakeCtrFell
      - eval_time: 3m
        alertname: AdlakeCtrFell
        exp_alerts:
          - exp_labels: {rule: ctr_fell, severity: critical}
            exp_annotations:
              summary: "2 groups: The click-through rate of a campaign has fallen"
              runbook: docs/runbooks/ctr_drop.md
"#;

/// CloudWatch's API: moto, with the protocol of newer SDKs in front of it.
pub struct Moto {
    port: u16,
    _process: Process,
}

impl Moto {
    pub async fn start(folder: &Path) -> Result<Moto> {
        let port = setup::free_port()?;
        let mut command = Command::new(setup::moto()?);
        command.arg(setup::scripts().join("moto/cloudwatch.py")).arg(port.to_string());
        let process = start("moto", command, folder)?;
        answers(&format!("http://127.0.0.1:{port}/"), &process).await?;
        Ok(Moto { port, _process: process })
    }

    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.at(self.port)
    }

    fn at(&self, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Runs Python with a client of CloudWatch, `c`. Returns what it prints.
    fn python(&self, script: &str) -> Result<Value> {
        let before = "import boto3, datetime, json; c = boto3.client('cloudwatch', 'eu-central-1')\n";
        let mut command = Command::new(setup::moto()?);
        command.envs(self.at(self.port + 1)).args(["-c", &format!("{before}{script}")]);
        let text = run(&mut command)?;
        serde_json::from_str(&text).context(text)
    }

    pub fn put_alarm(&self, name: &str) -> Result<()> {
        let script = format!(
            "c.put_metric_alarm(AlarmName='{name}', Namespace='other', MetricName='m', Statistic='Sum', Period=60, \
             EvaluationPeriods=1, Threshold=1, ComparisonOperator='GreaterThanThreshold'); print('null')"
        );
        self.python(&script).map(|_| ())
    }

    /// Puts a composite alarm over another one, with the tag of our alarms and more.
    pub fn put_composite(&self, name: &str, child: &str, tags: &[(&str, &str)]) -> Result<()> {
        let tag = |(key, value): &(&str, &str)| format!("{{'Key': '{key}', 'Value': '{value}'}}, ");
        let own = ("managed-by", "adlake-alarms");
        let tags: String = if tags.is_empty() { String::new() } else { tags.iter().chain([&own]).map(tag).collect() };
        let script = format!(
            "c.put_composite_alarm(AlarmName='{name}', AlarmRule='ALARM(\"{child}\")', Tags=[{tags}]); print('null')"
        );
        self.python(&script).map(|_| ())
    }

    /// The composite alarms by name: what they are over, and what they notify.
    pub fn composites(&self) -> Result<Value> {
        let script = "all = c.describe_alarms(AlarmTypes=['CompositeAlarm'])['CompositeAlarms']\n\
                      print(json.dumps({a['AlarmName']: {'rule': a['AlarmRule'], 'actions': a['AlarmActions']} \
                      for a in all}))";
        self.python(script)
    }

    /// The names of all alarms on metrics.
    pub fn alarms(&self) -> Result<Vec<String>> {
        let script = "print(json.dumps(sorted(a['AlarmName'] for a in c.describe_alarms()['MetricAlarms'])))";
        Ok(self
            .python(script)?
            .as_array()
            .context("no list")?
            .iter()
            .filter_map(|n| n.as_str())
            .map(String::from)
            .collect())
    }

    /// The greatest value of a metric of a rule.
    pub fn maximum(&self, metric: &str, rule: &str) -> Result<Option<f64>> {
        let dimensions = match rule {
            "" => "[]".to_owned(),
            rule => format!("[{{'Name': 'rule', 'Value': '{rule}'}}, {{'Name': 'severity', 'Value': 'critical'}}]"),
        };
        let script = format!(
            "now = datetime.datetime.now(datetime.timezone.utc); hour = datetime.timedelta(hours=1)\n\
             points = c.get_metric_statistics(Namespace='adlake', MetricName='{metric}', Dimensions={dimensions}, \
             StartTime=now - hour, EndTime=now + hour, Period=7200, Statistics=['Maximum'])['Datapoints']\n\
             print(json.dumps(max([p['Maximum'] for p in points], default=None)))"
        );
        Ok(self.python(&script)?.as_f64())
    }
}
