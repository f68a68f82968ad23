#!/usr/bin/env python3
"""The whole system against the local AWS API, with a real Kafka and a real S3 server: run by terraform_run.py after its apply.

Each part is started as AWS would start it: the command and the environment are those of the ECS task definition that Terraform has
applied, and a job's definition is the one that its schedule in EventBridge Scheduler names. Only what is a place is another: see Site.

Events go into Kafka while ingest runs and the batch job is started, twice. Then the compaction is started. The server's answers must be
those of the generator, before and after. An alarm fires: CloudWatch has its metric, and the alarm that `adlake alarms sync` makes of
the rule. Glue has the tables, written by the batch job itself.
"""

import contextlib
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3

import environment
import kafka_server

BUCKET, REGION = "adlake-test-lake", "eu-central-1"
TOPICS = ("ad-impressions", "clicks-conversions", "bid-requests")
EVENTS, RATE = 24_000, 3_000
METRIC_ALARMS = ["adlake-dead_letters", "adlake-heartbeat"]
RULES = """[[rule]]
name = "dead_letters"
description = "Records are rejected"
metric = "dead_letter_rate"
window = "1h"
detect = { above = 0.001 }
severity = "warning"
owner = "operation"
runbook = "docs/runbooks/dead_letters.md"
"""


def main():
    versitygw = environment.versitygw()
    python = environment.CACHE / "moto/bin/python"
    if not python.is_file():
        environment.lacking("the API of CloudWatch: tests/setup/setup.sh moto")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adlake-system-") as folder, contextlib.ExitStack() as running:
        site = Site(pathlib.Path(folder), versitygw, python, running)
        run(site, running)
    print(f"system_run: passed in {time.monotonic() - began:.0f} s", flush=True)


def run(site, running):
    generated = {"--events": EVENTS, "--rate": RATE, "--seed": 11, "--partitions": 2, "--truth": site.folder / "truth"}
    options = [str(part) for pair in generated.items() for part in pair]
    # The reference data is there first: it says which campaign a creative belongs to. The same seed makes the same.
    site.call("operator", ["generate", "--events", str(EVENTS), "--seed", "11", "--reference-only", "--to-files", str(site.folder / "reference")])
    for kind in ("creatives", "campaigns"):
        site.call("operator", ["ref", "load", kind, str(site.folder / f"reference/{kind}.csv")])
    sender = running.enter_context(
        environment.Process([environment.adlake(), "generate", *options, "--to-kafka", site.brokers], site.folder / "generate.log", env=site.plain)
    )
    # It makes the topics, and ingest refuses to start without them.
    made = lambda: all(len(list((site.folder / "kafka/data").glob(f"{topic}-?"))) == 2 for topic in TOPICS)
    environment.wait_for(made, "the topics are there")
    speed = site.start("speed", running)
    environment.wait_for(lambda: measured(site, "rows_total") > EVENTS / 4, "a part of the events is in the lake", speed)
    site.run_job("batch-run")
    environment.wait_for(lambda: sender.process.poll() is not None, "all events are sent", speed)
    assert sender.process.returncode == 0, sender.log.read_text()
    truth = json.loads((site.folder / "truth/truth.json").read_text())
    taken = lambda: measured(site, "rows_total") + measured(site, "rejected_total") == truth["records"]
    environment.wait_for(taken, "each record is a row or a dead letter", speed)
    assert measured(site, "lag_records") == 0
    # What CloudWatch's agent is told to take from there, as it is spelt.
    agent = site.definition("speed", "metrics")
    selected = re.findall(r'\^(adlake_ingest_\([a-z_|]+\))\$', agent["CW_CONFIG_CONTENT"])
    text = site.scrape()
    for name in ("rows_total", "rejected_total", "freshness_seconds", "lag_records"):
        assert any(re.fullmatch(pattern, f"adlake_ingest_{name}") for pattern in selected) and f"adlake_ingest_{name}{{" in text, name

    serving = site.start("serving", running)
    environment.wait_for(site.is_ready, "the server is ready", serving)
    right(site, truth, serving, "after a batch run in the middle of the stream")
    files = site.files("raw/impressions")
    site.run_job("batch-run")
    report = site.run_job("batch-compact")
    assert site.files("raw/impressions") > files and report["tables"], (files, report)
    right(site, truth, serving, "after another batch run and the compaction")
    glue(site)
    cloudwatch(site, serving)
    for process in (serving, speed):
        process.__exit__()
        assert process.process.returncode == 0, f"{process.log.name}: {process.process.returncode}: {process.log.read_text()[-2000:]}"


class Site:
    """The servers, and the parts as AWS would start them."""

    def __init__(self, folder, versitygw, python, running):
        self.folder, aws = folder, os.environ["AWS_ENDPOINT_URL"]
        self.store_port, cloudwatch, self.metrics_port, self.serve_port = (environment.free_port() for _ in range(4))
        (folder / "buckets" / BUCKET).mkdir(parents=True)
        keys = {**os.environ, "ROOT_ACCESS_KEY": "system", "ROOT_SECRET_KEY": "system-secret"}
        command = [versitygw, "--port", f"127.0.0.1:{self.store_port}", "--region", REGION, "--quiet", "posix", folder / "buckets"]
        store = running.enter_context(environment.Process(command, folder / "s3.log", env=keys))
        # CloudWatch is another moto, behind a front for the protocol that newer SDKs speak and moto does not.
        front = [python, environment.ROOT / "tests/setup/moto/cloudwatch.py", str(cloudwatch)]
        front = running.enter_context(environment.Process(front, folder / "cloudwatch.log"))
        process, kafka_port = kafka_server.broker(folder / "kafka")
        kafka = running.enter_context(process)
        for port, server in ((self.store_port, store), (cloudwatch, front), (kafka_port, kafka)):
            environment.wait_for_port(port, server)
        self.brokers = f"127.0.0.1:{kafka_port}"
        self.plain = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        # What differs from the task on AWS: where things are, and who asks.
        self.places = {
            **self.plain, "AWS_ACCESS_KEY_ID": "system", "AWS_SECRET_ACCESS_KEY": "system-secret",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.store_port}", "AWS_ENDPOINT_URL_GLUE": aws,
            "AWS_ENDPOINT_URL_CLOUDWATCH": f"http://127.0.0.1:{cloudwatch}", "ADLAKE_LAKE__OPTIONS__AWS_ALLOW_HTTP": "true",
        }
        self.glue = boto3.client("glue")
        self.cloudwatch = boto3.client("cloudwatch", endpoint_url=f"http://127.0.0.1:{cloudwatch + 1}")
        # Alarms are evaluated more often than on AWS, because nobody waits a minute here.
        (folder / "rules.toml").write_text(RULES)
        self.quick = {
            "ADLAKE_ALARMS__RULES": str(folder / "rules.toml"), "ADLAKE_ALARMS__DEFAULTS": "false", "ADLAKE_ALARMS__INTERVAL": "500ms",
            "ADLAKE_ALARMS__RESEND_INTERVAL": "500ms",
        }
        made = subprocess.run(
            [environment.adlake(), "keys", "create", "system", "--role", "admin"], capture_output=True, text=True, check=True,
            env={**self.plain, "ADLAKE_SERVE__KEYS_FILE": str(folder / "keys")},
        )
        self.key = made.stdout.split()[0]

    @staticmethod
    def arn(part):
        """The task definition: of a job, the one that its schedule starts."""
        if not part.startswith("batch-"):
            return f"adlake-{part}"
        schedule = boto3.client("scheduler").get_schedule(Name=f"adlake-{part}", GroupName="adlake")
        assert schedule["State"] == "ENABLED" and "Input" not in schedule["Target"], schedule
        return schedule["Target"]["EcsParameters"]["TaskDefinitionArn"]

    def container(self, part, name="adlake"):
        definition = boto3.client("ecs").describe_task_definition(taskDefinition=self.arn(part))["taskDefinition"]
        return next(container for container in definition["containerDefinitions"] if container["name"] == name)

    def definition(self, part, name):
        return {entry["name"]: entry["value"] for entry in self.container(part, name)["environment"]}

    def task(self, part):
        """The command and the variables of a part, as ECS and the entry point of the image make them."""
        container, work = self.container(part), self.folder / part
        work.mkdir(exist_ok=True)

        def moved(text):
            return text.replace("/var/lib/adlake", str(work))

        given = {entry["name"]: moved(entry["value"]) for entry in container["environment"]}
        secrets = {entry["name"] for entry in container.get("secrets", [])}
        if "ADLAKE_IMAGE_CONFIG" in given:
            (work / "adlake.toml").write_text(given.pop("ADLAKE_IMAGE_CONFIG"))
            given["ADLAKE_CONFIG"] = str(work / "adlake.toml")
        if part == "speed":
            assert given.pop("ADLAKE_KAFKA__AUTH") == "msk_iam" and ":9098" in given["ADLAKE_KAFKA__BROKERS"], given
            # This broker asks nobody who they are.
            given["ADLAKE_KAFKA__BROKERS"] = self.brokers
            given["ADLAKE_INGEST__METRICS_LISTEN"] = f"127.0.0.1:{self.metrics_port}"
        if part == "serving":
            assert secrets == {"ADLAKE_IMAGE_KEYS", "ADLAKE_SERVE__CURSOR_SECRET"}, secrets
            pathlib.Path(given["ADLAKE_SERVE__KEYS_FILE"]).write_text((self.folder / "keys").read_text())
            given |= {"ADLAKE_SERVE__CURSOR_SECRET": "a-secret-of-a-test", **self.quick}
        command = [moved(part).replace("0.0.0.0:8080", f"127.0.0.1:{self.serve_port}") for part in container["command"]]
        return [environment.adlake(), *command], {**given, **self.places}

    def start(self, part, running):
        command, variables = self.task(part)
        return running.enter_context(environment.Process(command, self.folder / f"{part}.log", env=variables, cwd=self.folder / part))

    def run_job(self, job):
        """Runs a scheduled job to its end. Its report."""
        command, variables = self.task(job)
        done = subprocess.run(command, env=variables, cwd=self.folder / job, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{job}: {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
        return json.loads(done.stdout)

    def call(self, who, arguments, **variables):
        """A command of a person who has the lake's address."""
        lake = {"ADLAKE_LAKE__URI": f"s3://{BUCKET}/lake", "AWS_REGION": REGION}
        done = subprocess.run(
            [environment.adlake(), *arguments], env={**self.places, **lake, **variables}, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{who}: {arguments}: {done.returncode}: {done.stderr[-1500:]}"
        return done.stdout

    def scrape(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.serve_port}/readyz", timeout=10).status == 200
        except OSError:
            return False

    def ask(self, question):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.serve_port}/v1/query", json.dumps(question).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer, parse_float=str)

    def files(self, table):
        return sum(1 for _ in (self.folder / "buckets" / BUCKET / "lake" / table).rglob("*.parquet"))


def measured(site, name):
    """The sum of a metric of ingest over its labels. 0 while there is none."""
    try:
        text = site.scrape()
    except OSError:
        return 0
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"adlake_ingest_{name}{{"))


def right(site, truth, serving, moment):
    """The server's answers are what the generator has sent, to the last micro, once the server has followed."""
    columns = ["impressions", "clicks", "conversions", "spend", "revenue"]
    expected = {
        campaign["campaign_id"]: [str(campaign[name]) for name in columns[:3]]
        + [f"{campaign[f'{name}_micros'] / 1e6:.6f}" for name in columns[3:]]
        for campaign in truth["campaigns"]
    }
    assert sum(int(row[0]) for row in expected.values()) > 1000 and any(float(row[4]) > 0 for row in expected.values()), expected

    def answers():
        answer = site.ask({"metrics": columns, "dimensions": ["campaign_id"], "limit": 1000})
        names = [column["name"] for column in answer["columns"]]
        assert names == ["campaign_id", *columns], names
        found = {row[0]: [str(value) for value in row[1:]] for row in answer["rows"] if row[0] is not None}
        differing = {name: (found.get(name), row) for name, row in expected.items() if found.get(name) != row}
        answers.differing = differing
        return not differing

    try:
        environment.wait_for(answers, f"the answers are right {moment}", serving, 30)
    except SystemExit:
        sys.exit(f"{moment}: found, and expected: {dict(list(answers.differing.items())[:3])}")


def glue(site):
    """The batch job has told Glue of the tables, and the database is that of Terraform."""
    database = site.definition("batch-run", "adlake")["ADLAKE_CATALOG__GLUE_DATABASE"]
    pages = site.glue.get_paginator("get_tables").paginate(DatabaseName=database)
    tables = {table["Name"]: table for page in pages for table in page["TableList"]}
    wanted = {"raw_impressions", "raw_interactions", "raw_bid_requests", "raw_dead_letters", "batch_campaign_rollup", "ref_creatives"}
    assert wanted <= tables.keys(), tables.keys()
    for name, table in tables.items():
        location = f"s3://{BUCKET}/lake/{name.replace('_', '/', 1)}"
        assert table["StorageDescriptor"]["Location"] == location and table["Parameters"]["table_type"] == "DELTA", table
        assert (site.folder / "buckets" / location.removeprefix("s3://") / "_delta_log").is_dir(), location


def cloudwatch(site, serving):
    """The alarm that fires is a metric of CloudWatch, and `adlake alarms sync` makes the alarm on it."""
    _, variables = site.task("serving")
    client = site.cloudwatch
    assert variables["ADLAKE_ALARMS__CLOUDWATCH__ENABLED"] == "true", variables
    namespace = variables["ADLAKE_ALARMS__CLOUDWATCH__NAMESPACE"]

    def maximum(metric, dimensions):
        now, hour = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=1)
        points = client.get_metric_statistics(
            Namespace=namespace, MetricName=metric, Dimensions=dimensions, StartTime=now - hour, EndTime=now + hour, Period=7200,
            Statistics=["Maximum"],
        )["Datapoints"]
        return max((point["Maximum"] for point in points), default=0)

    rule = [{"Name": "rule", "Value": "dead_letters"}, {"Name": "severity", "Value": "warning"}]
    environment.wait_for(lambda: maximum("Firing", rule) >= 1, "CloudWatch has the metric of the alarm that fires", serving)
    assert maximum("Heartbeat", []) == 1, "CloudWatch has no heartbeat"
    own = {name: value for name, value in variables.items() if name.startswith("ADLAKE_ALARMS__")}
    planned = json.loads(site.call("operator", ["alarms", "sync", "--format", "json"], **own))
    done = json.loads(site.call("operator", ["alarms", "sync", "--apply", "--format", "json"], **own))
    assert sorted(planned["created"]) == sorted(done["created"]) == ["adlake-any-critical", *METRIC_ALARMS], (planned, done)
    alarms = {alarm["AlarmName"]: alarm for alarm in client.describe_alarms(AlarmNames=done["created"])["MetricAlarms"]}
    watched = {name: (alarm["Namespace"], alarm["MetricName"]) for name, alarm in alarms.items()}
    assert watched == {"adlake-dead_letters": (namespace, "Firing"), "adlake-heartbeat": (namespace, "Heartbeat")}, watched
    # They notify the topic that Terraform has made.
    topics = boto3.client("sns").list_topics()["Topics"]
    assert all(alarm["AlarmActions"] and set(alarm["AlarmActions"]) <= {topic["TopicArn"] for topic in topics} for alarm in alarms.values()), alarms


if __name__ == "__main__":
    main()
