#!/usr/bin/env python3
"""A real Prometheus and a real Alertmanager read a real adlake with the files of infra/.

1. The rules and the tests of rules are right (promtool), and so are the routes (amtool). 2. Every metric that rules and dashboards
name is one that adlake exports. 3. Prometheus answers every query of the dashboards. 4. Bad records that are really ingested fire
AdlakeDeadLettersMany, and the alert arrives at a webhook by way of Alertmanager.

Waiting times (`for`, intervals) are made short for the fourth; the first has tested them as they are.
"""

import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import yaml

import environment

INFRA = environment.ROOT / "infra"
HOW = "apt-get install prometheus prometheus-alertmanager"
# Metrics that Prometheus itself makes, and those of Kafka, which have no value while files are read. speed-layer/src/metrics.rs and
# a test of it (lag_is_of_the_partitions_that_are_ours) hold the latter.
KNOWN = {"up", "ALERTS", "adlake_ingest_lag_records", "adlake_ingest_stalls_total"}
# Values that only exist once their case has happened. Their names are checked against the registrations in the source.
IN_SOURCE = {
    "adlake_ingest_outages_total": "outages", "adlake_ingest_superseded_total": "superseded", "adlake_ingest_table_stopped": "table_stopped",
    "adlake_ingest_commit_conflicts_total": "commit_conflicts", "adlake_ingest_shape_mismatch_total": "shape_mismatch",
}


def run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")


def dashboards():
    """The dashboards, with what Grafana needs of them checked."""
    for file in sorted((INFRA / "grafana/dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        assert board["uid"] == file.stem and board["title"] and board["schemaVersion"] >= 36, file
        assert {"datasource", "job"} <= {variable["name"] for variable in board["templating"]["list"]}, file
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids), f"{file}: two panels with one id"
        taken = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert panel["type"] in ("timeseries", "stat") and panel["title"] and panel["targets"], (file, panel["id"])
            assert place["x"] + place["w"] <= 24, (file, panel["title"])
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            assert not cells & taken, f"{file}: {panel['title']} lies over another panel"
            taken |= cells
        yield file.name, board


def expressions():
    """All expressions of dashboards and rules, with where they are."""
    for name, board in dashboards():
        for panel in board["panels"]:
            yield from ((f"{name}: {panel['title']}", target["expr"].replace("$job", ".+")) for target in panel["targets"])
        yield from ((name, entry["expr"]) for entry in board["annotations"]["list"])
    for file in (INFRA / "prometheus/rules").glob("*.yml"):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield f"{file.name}: {rule.get('alert') or rule['record']}", rule["expr"]


def alerts():
    for group in yaml.safe_load((INFRA / "prometheus/rules/alerts.yml").read_text())["groups"]:
        yield from group["rules"]


def main():
    for name in ("promtool", "amtool", "prometheus", "prometheus-alertmanager"):
        environment.tool(name, HOW)
    with tempfile.TemporaryDirectory(prefix="adlake-prometheus-") as folder:
        folder = pathlib.Path(folder)
        static(folder)
        live(folder)


def static(folder):
    shutil.copytree(INFRA / "prometheus", folder / "checked")
    (folder / "checked/secrets").mkdir()
    (folder / "checked/secrets/metrics-key").write_text("key")
    run("promtool", "check", "config", "prometheus.yml", cwd=folder / "checked")
    run("promtool", "test", "rules", "tests.yml", cwd=folder / "checked")
    run("amtool", "check-config", INFRA / "alertmanager/alertmanager.yml")
    for labels, receivers in (
        ("alertname=AdlakeIngestDown severity=page", "webhook,pagerduty,slack"), ("alertname=AdlakeDeadLetters severity=ticket", "webhook,slack"),
        ("alertname=Other severity=none", "mail"),
    ):
        run(
            "amtool", "config", "routes", "test", f"--config.file={INFRA / 'alertmanager/alertmanager.yml'}",
            f"--verify.receivers={receivers}", *labels.split(),
        )
    tested = (INFRA / "prometheus/tests.yml").read_text()
    for alert in alerts():
        runbook = environment.ROOT / alert["annotations"]["runbook"]
        assert runbook.is_file(), f"{alert['alert']}: there is no {runbook}"
        assert alert["alert"] in runbook.read_text(), f"{runbook} does not name {alert['alert']}"
    untested = {alert["alert"] for alert in alerts() if alert["labels"]["severity"] == "page" and alert["alert"] not in tested}
    assert not untested, f"infra/prometheus/tests.yml does not test {untested}"
    print("prometheus_run: rules, routes, dashboards and runbooks fit one another", flush=True)


def get(address):
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def live(folder):
    lake, landing = folder / "lake", folder / "landing"
    landing.mkdir()
    (folder / "none").mkdir()
    ingest, serve, prometheus, alertmanager = (environment.free_port() for _ in range(4))
    variables = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "ADLAKE_LAKE__URI": str(lake), "ADLAKE_INGEST__METRICS_LISTEN": f"127.0.0.1:{ingest}",
        "ADLAKE_FILES__SETTLE": "100ms", "ADLAKE_FILES__FINAL_AFTER": "1s", "ADLAKE_FILES__POLL_INTERVAL": "200ms",
    }
    webhook = Webhook()
    configure(folder, {"adlake-ingest": ingest, "adlake-serve": serve}, alertmanager, webhook.server_address[1], {"[5m]": "[20s]"})
    adlake = environment.adlake()
    servers = [
        ([adlake, "ingest", "files", landing, "--watch"], "ingest"),
        ([adlake, "serve", "--listen", f"127.0.0.1:{serve}"], "serve"),
        (["prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'am'}",
          f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address="], "alertmanager"),
        (["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
          f"--web.listen-address=127.0.0.1:{prometheus}", "--web.enable-lifecycle"], "prometheus"),
    ]
    running = []
    try:
        for command, name in servers:
            server = environment.Process(command, folder / f"{name}.log", env=variables, cwd=folder)
            running.append(server.__enter__())
            if name == "ingest":
                # The server refuses a place where there is no lake yet.
                bad(landing, 1)
                environment.wait_for(lambda: (lake / "raw/impressions/_delta_log").is_dir(), "ingest makes the lake", server)
        address = f"http://127.0.0.1:{prometheus}/api/v1"
        environment.wait_for(lambda: both_up(address), "Prometheus reads ingest and serve", running[3])
        names(ingest, serve, running[0])
        queries(address)
        for number in range(2, 40):
            bad(landing, number)
            if webhook.wait("AdlakeDeadLettersMany", 2):
                break
        else:
            sys.exit(f"the alert did not arrive: {get(address + '/alerts')} {get(address + '/rules')[:3000]}")
        print("prometheus_run: bad records fired AdlakeDeadLettersMany, and Alertmanager delivered it", flush=True)
    finally:
        for server in reversed(running):
            server.__exit__()
        webhook.shutdown()


def bad(landing, number):
    """A file with two good records and eight bad ones."""
    good = '{"ad_creative_id":"c","user_id":"u%d","timestamp":"2026-01-01T00:00:00Z","website":"w","impression_id":"%d-%d"}'
    lines = [good % (row, number, row) for row in range(2)] + ['{"website": "w"}'] * 8
    (landing / f"impressions-{number}.json.part").write_text("\n".join(lines) + "\n")
    (landing / f"impressions-{number}.json.part").rename(landing / f"impressions-{number}.json")


def both_up(address):
    try:
        found = json.loads(get(f"{address}/query?query=up"))["data"]["result"]
    except OSError:
        return False
    return {entry["metric"]["job"] for entry in found if entry["value"][1] == "1"} >= {"adlake-ingest", "adlake-serve"}


def names(ingest, serve, process):
    """Every name in rules and dashboards is exported."""
    environment.wait_for(lambda: "adlake_ingest_rejected_total{" in get(f"http://127.0.0.1:{ingest}/metrics"), "dead letters are counted", process)
    text = get(f"http://127.0.0.1:{ingest}/metrics")
    # A request for the counters of requests to count, and the state that follows the first commit.
    get(f"http://127.0.0.1:{serve}/v1/freshness")
    environment.wait_for(lambda: "adlake_serve_change_rows" in get(f"http://127.0.0.1:{serve}/metrics"), "the server has a state")
    text += get(f"http://127.0.0.1:{serve}/metrics")
    exported = set(re.findall(r"^([a-z_]+)(?:\{| )", text, re.MULTILINE))
    source = (environment.ROOT / "speed-layer/src/metrics.rs").read_text()
    recorded = {
        rule["record"] for group in yaml.safe_load((INFRA / "prometheus/rules/recording.yml").read_text())["groups"] for rule in group["rules"]
    }
    for where, expression in expressions():
        bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|without) \([^)]*\)', " ", expression)
        for name in re.findall(r"\b(?:[a-z_]+:[a-z_:0-9]+|adlake_[a-z_]+|up|ALERTS)\b", bare):
            if name in exported | KNOWN | recorded:
                continue
            assert name in IN_SOURCE and f'"{IN_SOURCE[name]}"' in source, f"{where}: adlake exports no {name}"


def queries(address):
    count = 0
    for where, expression in expressions():
        try:
            answer = json.loads(get(f"{address}/query?{urllib.parse.urlencode({'query': expression})}"))
        except urllib.error.HTTPError as error:
            sys.exit(f"{where}: Prometheus refuses {expression}: {error.read().decode()}")
        assert answer["status"] == "success", (where, answer)
        count += 1
    print(f"prometheus_run: Prometheus answers all {count} queries", flush=True)


def configure(folder, targets, alertmanager, webhook, changes):
    """The files of infra/, with short times and the ports of this test, and other changes of the rules. `targets` is the port of each job."""
    (folder / "rules").mkdir()
    texts = {file.name: file.read_text() for file in (INFRA / "prometheus/rules").glob("*.yml")}
    for before, after in changes.items():
        assert any(before in text for text in texts.values()), f"the rules have no {before}"
        texts = {name: text.replace(before, after) for name, text in texts.items()}
    for name, text in texts.items():
        (folder / "rules" / name).write_text(re.sub(r"for: \S+", "for: 0s", text))
    config = yaml.safe_load((INFRA / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager}"]
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in targets]
    for job in config["scrape_configs"]:
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{targets[job['job_name']]}"]
        job.pop("authorization", None)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    routes = yaml.safe_load((INFRA / "alertmanager/alertmanager.yml").read_text())
    routes["global"] = {"resolve_timeout": "5m"}
    routes["route"] |= {"group_wait": "0s", "group_interval": "1s", "receiver": "webhook"}
    routes["route"]["routes"] = routes["route"]["routes"][:1]
    routes["receivers"] = [entry for entry in routes["receivers"] if entry["name"] == "webhook"]
    routes["receivers"][0]["webhook_configs"][0]["url"] = f"http://127.0.0.1:{webhook}/alerts"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(routes))


class Webhook(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver)
        self.alerts, self.changed = [], threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def told(self, name, status="firing"):
        """What was told of an alert, the first first."""
        return [alert for alert in self.alerts if alert["labels"]["alertname"] == name and alert["status"] == status]

    def wait(self, name, seconds):
        with self.changed:
            return self.changed.wait_for(lambda: self.told(name), seconds)


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.changed:
            self.server.alerts = self.server.alerts + told["alerts"]
            self.server.changed.notify_all()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    main()
