//! What a sink is told carries the trace of the telling, which leads to the evaluation.

use adlake_tests::setup;
use anyhow::{Context, Result};
use serde_json::json;

use super::RULES;
use super::receivers::Webhook;
use super::site::Site;
use crate::traces::collector::Collector;

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_carries_its_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let port = setup::free_port()?;
    let webhook = Webhook::start(port).await?;
    let settings = format!(
        "[alarms.webhook]\nurls = [\"http://127.0.0.1:{port}/hook\"]\nsecret = \"s3cret\"\n\
         [telemetry]\notlp_endpoint = \"{}\"\nexport_interval = \"50ms\"\n",
        collector.address
    );
    let site = Site::new(RULES, &settings)?;
    site.history()?;
    let mut server = site.serve().await?;
    server.evaluated().await?;
    site.drop()?;
    let told = webhook.notices(1).await.with_context(|| server.process.logs())?;
    let traceparent = told[0].header("traceparent").context("no traceparent")?;
    let is_it = |span: &crate::traces::collector::Span| span.name == "tell webhook" && traceparent.contains(&span.id);
    let sent = collector.span("the notice", is_it).await?;
    assert_eq!(traceparent, format!("00-{}-{}-01", sent.trace, sent.id));
    let attributes = ["adlake.notices", "http.request.method", "http.response.status_code"];
    let attributes = attributes.map(|name| sent.attributes[name].clone());
    assert_eq!((sent.kind, attributes), (3, [json!(1), json!("POST"), json!(204)]));

    let [(trace, id)] = sent.links.as_slice() else { panic!("{sent:?}") };
    let evaluation = collector.span("the evaluation", |span| span.id == *id && span.trace == *trace).await?;
    assert_eq!((evaluation.name.as_str(), &evaluation.attributes["adlake.notices"]), ("evaluate alarms", &json!(1)));
    let [(_, made)] = evaluation.links.as_slice() else { panic!("{evaluation:?}") };
    let state = collector.span("the state", |span| span.id == *made).await?;
    assert_eq!(state.attributes["adlake.snapshot"], evaluation.attributes["adlake.snapshot"]);

    server.process.sigterm()?;
    assert!(server.process.wait_exit(super::DEADLINE)?.success(), "{}", server.process.logs());
    Ok(())
}
