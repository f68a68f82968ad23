#!/usr/bin/env python3
"""A lag that really grows is told of, and told to be over: Kafka, ingest, an S3 server, Prometheus, Alertmanager, a webhook.

The S3 server answers no more: it is stopped in the middle of the work. Ingest holds what its bounds allow and then reads nothing, while
records are sent. The metric of the lag grows all the same, AdlakeIngestLag fires by the rules of infra/prometheus, and Alertmanager brings
it, with its runbook, by the routes of infra/alertmanager. Then the S3 server goes on, ingest catches up, and Alertmanager says that it is
resolved. Every record is in the lake.

The rules are copies with short times and a lower limit; tests.yml tests them as they are.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import environment
import kafka_server
import prometheus_run

ALERT = "AdlakeIngestLag"
LIMIT = 150_000
FIRST, LATER = 2_000, 400_000


def main():
    for name in ("prometheus", "prometheus-alertmanager"):
        environment.tool(name, prometheus_run.HOW)
    versitygw = environment.versitygw()
    with tempfile.TemporaryDirectory(prefix="adlake-lag-") as folder, contextlib.ExitStack() as running:
        run(pathlib.Path(folder), versitygw, running)


def run(folder, versitygw, running):
    def server(name, *command, **more):
        return running.enter_context(environment.Process(command, folder / f"{name}.log", cwd=folder, **more))

    store_port, metrics, prometheus, alertmanager = (environment.free_port() for _ in range(4))
    (folder / "buckets/lake").mkdir(parents=True)
    keys = {"ROOT_ACCESS_KEY": "lag", "ROOT_SECRET_KEY": "lag-secret"}
    store = server(
        "s3", versitygw, "--port", f"127.0.0.1:{store_port}", "--region", "us-east-1", "--quiet", "posix", folder / "buckets",
        env={**os.environ, **keys},
    )
    process, kafka_port = kafka_server.broker(folder / "kafka")
    kafka = running.enter_context(process)
    environment.wait_for_port(kafka_port, kafka)
    environment.wait_for_port(store_port, store)
    variables = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "AWS_ACCESS_KEY_ID": "lag", "AWS_SECRET_ACCESS_KEY": "lag-secret",
        "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store_port}", "ADLAKE_LAKE__URI": "s3://lake/lake",
        "ADLAKE_LAKE__OPTIONS__AWS_ALLOW_HTTP": "true", "ADLAKE_KAFKA__BROKERS": f"127.0.0.1:{kafka_port}",
        "ADLAKE_SOURCES__INTERACTIONS__TOPIC": "", "ADLAKE_SOURCES__BID_REQUESTS__TOPIC": "",
        "ADLAKE_INGEST__METRICS_LISTEN": f"127.0.0.1:{metrics}",
        # What is held while nothing can be committed: little.
        "ADLAKE_INGEST__FLUSH_ROWS": "20000", "ADLAKE_INGEST__QUEUE_BYTES_MAX": "4194304", "ADLAKE_KAFKA__FETCH_BYTES_MAX": "4194304",
        "ADLAKE_INGEST__RETRY_PAUSE_MAX": "1s", "ADLAKE_INGEST__RECORD_BYTES_MAX": "1048576",
    }
    send(folder, variables, kafka_port, FIRST, 1)
    ingest = server("ingest", environment.adlake(), "ingest", "kafka", env=variables)
    webhook = prometheus_run.Webhook()
    running.callback(webhook.shutdown)
    (folder / "watch").mkdir()
    prometheus_run.configure(
        folder / "watch", {"adlake-ingest": metrics}, alertmanager, webhook.server_address[1], {"> 1e6": f"> {LIMIT}", "[15m]": "[20s]"},
    )
    server(
        "alertmanager", "prometheus-alertmanager", f"--config.file={folder / 'watch/alertmanager.yml'}", f"--storage.path={folder / 'am'}",
        f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address=",
    )
    server(
        "prometheus", "prometheus", f"--config.file={folder / 'watch/prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{prometheus}",
    )

    def measured(name):
        text = prometheus_run.get(f"http://127.0.0.1:{metrics}/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}{{"))

    def taken():
        with contextlib.suppress(OSError):
            return measured("adlake_ingest_rows_total") > 0.9 * FIRST and measured("adlake_ingest_lag_records") == 0

    environment.wait_for(taken, "ingest takes the first records", ingest)
    assert not webhook.told(ALERT), "the alert came without a lag"

    with stopped(store.process):
        send(folder, variables, kafka_port, LATER, 2)
        began = time.monotonic()
        firing = environment.wait_for(lambda: webhook.told(ALERT, "firing"), f"{ALERT} arrives", ingest, 30)[0]
        lag = environment.wait_for(lambda: measured("adlake_ingest_lag_records") > 0.8 * LATER and measured("adlake_ingest_lag_records"),
                                   "the metric has the whole lag, although nothing is read", ingest, 20)
    assert firing["labels"].items() >= {"severity": "page", "job": "adlake-ingest", "topic": "ad-impressions"}.items(), firing
    assert "ad-impressions" in firing["annotations"]["summary"], firing
    runbook = environment.ROOT / firing["annotations"]["runbook"]
    assert runbook.name == "ingest-lag.md" and ALERT in runbook.read_text(), runbook
    print(f"lag_run: {lag:.0f} records behind: {ALERT} came {time.monotonic() - began:.1f} s after the last record", flush=True)

    resolved = environment.wait_for(lambda: webhook.told(ALERT, "resolved"), f"{ALERT} is resolved", ingest, 90)[0]
    assert resolved["fingerprint"] == firing["fingerprint"], (firing, resolved)
    environment.wait_for(lambda: measured("adlake_ingest_lag_records") == 0, "no lag is left", ingest)
    ingest.__exit__()
    done = subprocess.run([environment.adlake(), "status", "--format", "json"], env=variables, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {table["table"]: table["rows"] for table in json.loads(done.stdout)["tables"]}
    held = rows["raw/impressions"] + rows["raw/dead_letters"]
    assert held == FIRST + LATER, f"{FIRST + LATER} records were sent, and the lake has {rows}"
    print(f"lag_run: ingest caught up, {ALERT} is resolved, and the lake has each of {held} records once", flush=True)


@contextlib.contextmanager
def stopped(process):
    """A process that does nothing, and whose connections stay open."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def send(folder, variables, port, events, seed):
    command = [
        environment.adlake(), "generate", "--events", str(events), "--kinds", "impressions", "--seed", str(seed), "--partitions", "2",
        "--to-kafka", f"127.0.0.1:{port}", "--truth", str(folder / f"truth-{seed}"),
    ]
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"generate: {done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
