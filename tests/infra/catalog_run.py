#!/usr/bin/env python3
"""`adlake catalog sync` against a local API of Glue (moto), with the lake on a real S3 server; read back with boto3.

Between adlake and moto stands a server that checks each signature with botocore's own code, notes which operations are used (they must
be those that module access allows), and fails when it is told to.
"""

import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import environment

REGION, BUCKET = "eu-central-1", "lake"
KEYS = Credentials("catalog", "catalog-secret")


class Gate(environment.Between):
    """`operations` has what was asked. `failing` answers are given in place of moto's."""

    def __init__(self, upstream_port):
        # Before the first request can come.
        self.operations, self.failing, self.wrong = set(), [], []
        super().__init__(upstream_port, Handler)


class Handler(environment.BetweenHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.operations.add(self.headers["X-Amz-Target"].removeprefix("AWSGlue."))
        if self.signature(body) != re.search("Signature=([0-9a-f]+)", self.headers["Authorization"]).group(1):
            self.server.wrong.append(self.headers["Authorization"])
            return self.answer(403, b'{"__type": "InvalidSignatureException", "message": "it does not match"}')
        if self.server.failing:
            return self.answer(*self.server.failing.pop(0))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=60)
        connection.request("POST", "/", body, dict(self.headers))
        answer = connection.getresponse()
        self.answer(answer.status, answer.read())

    def signature(self, body):
        """As AWS computes it, over the headers that the request says are signed."""
        signed = re.search("SignedHeaders=([^,]+)", self.headers["Authorization"]).group(1).split(";")
        assert {"host", "x-amz-date", "x-amz-target"} <= set(signed), signed
        headers = {name: self.headers[name] for name in signed}
        request = AWSRequest(method="POST", url=f"http://{self.headers['Host']}/", data=body, headers=headers)
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        signer = SigV4Auth(KEYS, "glue", REGION)
        return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)

    def answer(self, status, content):
        self.send_response_only(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main():
    versitygw = environment.versitygw()
    with tempfile.TemporaryDirectory(prefix="adlake-catalog-") as folder:
        folder = pathlib.Path(folder)
        (folder / "buckets" / BUCKET).mkdir(parents=True)
        store_port, moto_port = environment.free_port(), environment.free_port()
        keys = {**os.environ, "ROOT_ACCESS_KEY": KEYS.access_key, "ROOT_SECRET_KEY": KEYS.secret_key}
        store = [versitygw, "--port", f"127.0.0.1:{store_port}", "--region", REGION, "--quiet", "posix", folder / "buckets"]
        moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(moto_port)]
        with environment.Process(store, folder / "s3.log", env=keys) as store, environment.Process(moto, folder / "moto.log") as moto:
            environment.wait_for_port(store_port, store)
            environment.wait_for_port(moto_port, moto)
            Steps(folder, store_port, moto_port).all()


class Steps:
    def __init__(self, folder, store_port, moto_port):
        self.folder, self.gate = folder, Gate(moto_port)
        self.glue = boto3.client(
            "glue", REGION, endpoint_url=f"http://127.0.0.1:{moto_port}", aws_access_key_id="test", aws_secret_access_key="test"
        )
        self.variables = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "AWS_ACCESS_KEY_ID": KEYS.access_key, "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
            "AWS_REGION": REGION, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store_port}",
            "AWS_ENDPOINT_URL_GLUE": self.gate.address, "ADLAKE_LAKE__URI": f"s3://{BUCKET}/lake", "ADLAKE_LAKE__RETRY_FOR": "5s",
            "ADLAKE_LAKE__OPTIONS__AWS_ALLOW_HTTP": "true",
        }

    def run(self, *arguments, code=0, **variables):
        done = subprocess.run(
            [environment.adlake(), *arguments], env={**self.variables, **variables}, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, f"{arguments}: {done.returncode} {done.stdout[-1500:]}{done.stderr[-1500:]}"
        return done

    def sync(self, *more, code=0):
        """The report by kind of change, and what was said."""
        done = self.run("catalog", "sync", "--glue", "lake", "--format", "json", *more, code=code)
        report = json.loads(done.stdout)
        assert report["database"] == "lake" and report["applied"] == ("--apply" in more), report
        by = {}
        for table in report["tables"]:
            by.setdefault(table["change"], {})[table["table"]] = table.get("why")
        return by, done.stderr

    def tables(self, database="lake"):
        pages = self.glue.get_paginator("get_tables").paginate(DatabaseName=database)
        return {table["Name"]: table for page in pages for table in page["TableList"]}

    def ingest(self, seed):
        self.run("generate", "--events", "500", "--seed", str(seed), "--to-files", f"traffic-{seed}", "--quiet")
        self.run("ingest", "files", f"traffic-{seed}/events", "--quiet")

    def all(self):
        self.refusals()
        new = self.dry_and_apply()
        self.idempotent(new)
        self.mended()
        self.of_others()
        self.kept_by_batch_runs()
        self.hive()
        self.passing_failures()
        assert not self.gate.wrong, self.gate.wrong
        allowed = (environment.ROOT / "infra/terraform/modules/access/main.tf").read_text()
        assert self.gate.operations == set(re.findall(r'"glue:(\w+)"', allowed)), self.gate.operations
        print(f"catalog_run: Glue has the tables of the lake and keeps those of others; asked: {sorted(self.gate.operations)}", flush=True)

    def refusals(self):
        told = self.run("catalog", "sync", "--glue", "lake", code=1).stderr
        assert "there is no lake" in told, told
        self.ingest(5)
        told = self.run("catalog", "sync", "--glue", "lake", code=2).stderr
        assert "Glue has no database lake in eu-central-1" in told and "create-database" in told, told
        for arguments in ([], ["--glue", "lake", "--prefix", "A-"], ["--glue", "lake", "--ddl", "-"]):
            self.run("catalog", "sync", *arguments, code=2)
        told = self.run("catalog", "sync", "--glue", "lake", code=1, AWS_ENDPOINT_URL_GLUE="http://127.0.0.1:1").stderr
        assert "Glue does not answer at http://127.0.0.1:1" in told, told
        told = self.run("--lake", "some-folder", "generate", "--events", "100", "--to-files", "some", "--quiet")
        self.run("--lake", "some-folder", "ingest", "files", "some/events", "--quiet")
        told = self.run("--lake", "some-folder", "catalog", "sync", "--glue", "lake", code=2).stderr
        assert "is not on S3" in told, told
        self.glue.create_database(DatabaseInput={"Name": "lake"})

    def dry_and_apply(self):
        planned, _ = self.sync()
        assert planned.keys() == {"create"} and "raw_impressions" in planned["create"], planned
        assert self.tables() == {}, "a dry run has made tables"
        done, _ = self.sync("--apply")
        assert done == planned and self.tables().keys() == planned["create"].keys(), done
        table = self.tables()["raw_impressions"]
        assert table["TableType"] == "EXTERNAL_TABLE" and "impressions" in table["Description"], table
        expected = {"table_type": "DELTA", "classification": "delta", "spark.sql.sources.provider": "delta", "adlake.lake": f"s3://{BUCKET}/lake/"}
        assert table["Parameters"].items() >= expected.items(), table
        assert table["PartitionKeys"][0]["Name"] == "event_date" and table["PartitionKeys"][0]["Type"] == "date", table
        storage = table["StorageDescriptor"]
        assert storage["Location"] == storage["SerdeInfo"]["Parameters"]["path"] == f"s3://{BUCKET}/lake/raw/impressions", table
        self.like_the_log(table)
        return planned["create"]

    def like_the_log(self, table):
        """Names, comments and partition columns are those of the Delta log."""
        log = self.folder / "buckets" / BUCKET / "lake/raw/impressions/_delta_log/00000000000000000000.json"
        metadata = next(json.loads(line)["metaData"] for line in log.read_text().splitlines() if "metaData" in line)
        fields = json.loads(metadata["schemaString"])["fields"]
        ours = table["StorageDescriptor"]["Columns"] + table["PartitionKeys"]
        assert [column["Name"] for column in ours] == [field["name"] for field in fields], ours
        assert [column["Name"] for column in table["PartitionKeys"]] == metadata["partitionColumns"], ours
        comments = {field["name"]: field["metadata"].get("comment") for field in fields}
        assert {column["Name"]: column.get("Comment") for column in ours} == comments and any(comments.values()), ours
        words = {"string": "string", "long": "bigint", "integer": "int", "timestamp": "timestamp", "date": "date", "boolean": "boolean"}
        kinds = {column["Name"]: column["Type"] for column in ours}
        for field in fields:
            if isinstance(field["type"], str):
                assert kinds[field["name"]] == words.get(field["type"], field["type"]), field
        assert kinds["source"].startswith("struct<") and "partition:int" in kinds["source"], kinds["source"]

    def idempotent(self, new):
        before = self.tables()
        self.ingest(6)
        done, _ = self.sync("--apply")
        assert done.keys() == {"none"} and done["none"].keys() == new.keys(), done
        assert self.tables() == before, "nothing had changed, and something was written"

    def mended(self):
        """What somebody has changed in our table is put right, and what is theirs stays."""
        table = self.tables()["raw_impressions"]
        changed = {name: table[name] for name in ("Name", "TableType", "PartitionKeys", "StorageDescriptor")}
        right = [dict(column) for column in table["StorageDescriptor"]["Columns"]]
        changed["StorageDescriptor"]["Columns"] = right[1:]
        self.glue.update_table(DatabaseName="lake", TableInput={**changed, "Parameters": {**table["Parameters"], "theirs": "kept"}})
        planned, _ = self.sync()
        assert planned["update"] == {"raw_impressions": "Description, StorageDescriptor.Columns"}, planned
        done, _ = self.sync("--apply")
        assert done["update"] == planned["update"], done
        table = self.tables()["raw_impressions"]
        assert table["StorageDescriptor"]["Columns"] == right and table["Parameters"]["theirs"] == "kept", table
        assert "update" not in self.sync("--apply")[0]

    def of_others(self):
        """A table that adlake has not made is left alone; one with the same location can be adopted."""
        self.run("batch", "run", "--quiet")
        theirs = {"Name": "batch_impressions", "Description": "theirs"}
        crawled = {"Name": "batch_campaign_hourly", "StorageDescriptor": {"Location": f"s3://{BUCKET}/lake/batch/campaign_hourly/"}}
        for table in (theirs, crawled):
            self.glue.create_table(DatabaseName="lake", TableInput=table)
        done, told = self.sync("--apply", code=1)
        assert done["not_ours"].keys() == {"batch_impressions", "batch_campaign_hourly"} and "--adopt" in told, (done, told)
        assert "batch_campaign_rollup" in done["create"], done
        assert self.tables()["batch_impressions"]["Description"] == "theirs", "another's table was changed"
        done, _ = self.sync("--apply", "--adopt", code=1)
        assert done["update"].keys() == {"batch_campaign_hourly"} and done["not_ours"].keys() == {"batch_impressions"}, done
        assert self.tables()["batch_campaign_hourly"]["Parameters"]["adlake.lake"] == f"s3://{BUCKET}/lake/"
        done, _ = self.sync("--apply", "--prefix", "ours_")
        assert "ours_batch_impressions" in done["create"], done

    def kept_by_batch_runs(self):
        """A batch run makes the tables of the configured database, and changes them when a schema has changed."""
        kept = {"ADLAKE_CATALOG__GLUE_DATABASE": "kept", "ADLAKE_CATALOG__PREFIX": "our_"}
        told = self.run("batch", "run", code=2, **kept).stderr
        assert "the batch run is done, but the catalogue was not told" in told and "no database kept" in told, told
        self.glue.create_database(DatabaseInput={"Name": "kept"})
        self.run("batch", "run", **kept)
        before = self.tables("kept")
        assert "our_batch_campaign_rollup" in before and "our_raw_impressions" in before, before.keys()
        columns = {column["Name"] for column in before["our_raw_impressions"]["StorageDescriptor"]["Columns"]}
        self.ingest(7)
        self.widen(self.folder / "buckets" / BUCKET / "lake/raw/impressions/_delta_log")
        self.run("batch", "run", **kept)
        after = self.tables("kept")
        now = {column["Name"] for column in after["our_raw_impressions"]["StorageDescriptor"]["Columns"]}
        assert now - columns == {"of_somebody"}, now - columns
        assert {name for name in after if after[name] != before[name]} == {"our_raw_impressions"}, "other tables were written, too"
        # The scheduler of adlake itself does it, too.
        self.glue.create_database(DatabaseInput={"Name": "scheduled"})
        timed = {"ADLAKE_BATCH__SCHEDULE__RUN": "* * * * * *", "ADLAKE_BATCH__SCHEDULE__JITTER": "0s", "ADLAKE_CATALOG__GLUE_DATABASE": "scheduled"}
        off = {f"ADLAKE_BATCH__SCHEDULE__{job}": "" for job in ("COMPACT", "VACUUM", "CHECKPOINT")}
        listen = {"ADLAKE_BATCH__SCHEDULE__LISTEN": f"127.0.0.1:{environment.free_port()}"}
        with environment.Process(
            [environment.adlake(), "batch", "schedule"], self.folder / "schedule.log", env={**self.variables, **timed, **off, **listen}, cwd=self.folder
        ) as scheduler:
            environment.wait_for(lambda: "batch_campaign_rollup" in self.tables("scheduled"), "the scheduler tells Glue", scheduler)

    @staticmethod
    def widen(log):
        """Another writer adds a nullable column to the table, by a commit of its own."""
        entries = sorted(log.glob("*.json"))
        lines = (json.loads(line) for entry in reversed(entries) for line in entry.read_text().splitlines())
        metadata = next(line["metaData"] for line in lines if "metaData" in line)
        schema = json.loads(metadata["schemaString"])
        schema["fields"].append({"name": "of_somebody", "type": "string", "nullable": True, "metadata": {}})
        metadata["schemaString"] = json.dumps(schema)
        entry = log / f"{int(entries[-1].stem) + 1:020}.json"
        entry.write_text(json.dumps({"metaData": metadata}) + "\n")

    def hive(self):
        self.run("catalog", "sync", "--ddl", "lake.sql")
        ddl = (self.folder / "lake.sql").read_text()
        assert ddl == self.run("catalog", "sync", "--ddl", "-").stdout
        assert ddl.count("CREATE EXTERNAL TABLE IF NOT EXISTS `") > 8 and "PARTITIONED" not in ddl, ddl
        assert "`event_time` timestamp COMMENT '" in ddl and f"LOCATION 's3://{BUCKET}/lake/raw/impressions';" in ddl, ddl
        told = self.run("catalog", "sync", "--ddl", "no-such-folder/lake.sql", code=1).stderr
        assert "no-such-folder/lake.sql" in told, told

    def passing_failures(self):
        """What passes is tried again, and what does not is told at once."""
        self.gate.failing = [(400, b'{"__type": "ThrottlingException", "message": "slow down"}'), (503, b"<html>")]
        done, _ = self.sync("--apply", "--prefix", "ours_")
        assert done["update"].keys() == {"ours_raw_impressions"} and not self.gate.failing, done
        self.gate.failing = [(400, b'{"__type": "AccessDeniedException", "Message": "not you"}')] * 2
        told = self.run("catalog", "sync", "--glue", "lake", code=1).stderr
        assert "Glue refuses GetDatabase: 400 AccessDeniedException: not you" in told and len(self.gate.failing) == 1, told
        self.gate.failing = []


if __name__ == "__main__":
    main()
