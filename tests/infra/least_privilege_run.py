#!/usr/bin/env python3
"""Runs each part of adlake against a real S3 server, behind a proxy that allows what the part's policy allows.

Reads the policies (a JSON object by part) from standard input. What must work, works, with nothing refused; what must not, is.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import boto3
from botocore.exceptions import ClientError

import environment
from least_privilege import Proxy

BUCKET = "adlake-test-lake"


def main():
    policies = json.load(sys.stdin)
    versitygw = environment.versitygw()
    with tempfile.TemporaryDirectory(prefix="adlake-least-") as folder:
        folder = pathlib.Path(folder)
        (folder / "buckets" / BUCKET).mkdir(parents=True)
        subprocess.run(
            [environment.adlake(), "generate", "--events", "3000", "--to-files", folder / "traffic"], check=True, capture_output=True
        )
        steps(folder, versitygw, policies)


class Part:
    """A part of the program with its own keys, its own S3 server over the one folder, and the proxy before it."""

    def __init__(self, folder, versitygw, part, policies):
        self.name, self.folder, self.port = part, folder, environment.free_port()
        self.keys = f"AKIA{part.upper()}", "secret-of-a-test"
        variables = {**os.environ, "ROOT_ACCESS_KEY": self.keys[0], "ROOT_SECRET_KEY": self.keys[1]}
        command = [versitygw, "--port", f"127.0.0.1:{self.port}", "--region", "eu-central-1", "--quiet", "posix", folder / "buckets"]
        self.server = environment.Process(command, folder / f"{part}.log", env=variables)
        self.policies = policies

    def __enter__(self):
        environment.wait_for_port(self.port, self.server.__enter__())
        self.proxy = Proxy(self.port, self.policies)
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "AWS_ACCESS_KEY_ID": self.keys[0], "AWS_SECRET_ACCESS_KEY": self.keys[1],
            "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": self.proxy.address, "ADLAKE_LAKE__URI": f"s3://{BUCKET}/lake",
            "ADLAKE_LAKE__RETRY_FOR": "2s", "ADLAKE_LAKE__OPTIONS__AWS_ALLOW_HTTP": "true",
        }
        self.s3 = boto3.client(
            "s3", endpoint_url=self.proxy.address, aws_access_key_id=self.keys[0], aws_secret_access_key=self.keys[1], region_name="eu-central-1"
        )
        return self

    def __exit__(self, *error):
        self.proxy.shutdown()
        self.server.__exit__(*error)

    def adlake(self, *arguments, code=0, **variables):
        done = subprocess.run(
            [environment.adlake(), *arguments], env={**self.environment, **variables}, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        if done.returncode != code:
            sys.exit(f"{self.name}: adlake {' '.join(arguments)}: {done.returncode}\n{done.stderr[-2000:]}\nrefused: {self.proxy.refused[:10]}")
        return done.stdout

    def nothing_refused(self):
        assert self.proxy.refused == [], f"{self.name} needs more than its policy allows: {self.proxy.refused[:10]}"

    def may_not(self, what, call):
        try:
            call()
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, (self.name, what, error)
        else:
            sys.exit(f"{self.name} could {what}")


def steps(folder, versitygw, policies):
    raw = "lake/raw/impressions/_delta_log/00000000000000000000.json"

    def part(name):
        return Part(folder, versitygw, name, policies)

    with part("operator") as operator:
        operator.adlake("ref", "load", "creatives", "traffic/creatives.csv")
        operator.adlake("ref", "load", "campaigns", "traffic/campaigns.csv")
        operator.nothing_refused()
        operator.may_not("delete", lambda: operator.s3.delete_object(Bucket=BUCKET, Key="lake/ref/creatives/x"))

    with part("speed") as speed:
        speed.adlake("ingest", "files", "traffic/events", code=0, ADLAKE_LAKE__LOG__RETENTION="0s")
        speed.adlake("doctor", "--part", "speed", "--no-kafka")
        speed.nothing_refused()
        speed.may_not("delete", lambda: speed.s3.delete_object(Bucket=BUCKET, Key=raw))
        speed.may_not("write batch tables", lambda: speed.s3.put_object(Bucket=BUCKET, Key="lake/batch/impressions/x", Body=b""))
        # The doctor finds out that this is not the role of another part.
        told = speed.adlake("doctor", "--part", "maintenance", "--no-kafka", code=1)
        assert "s3:DeleteObject" in told, told
        # However often it is called, one object stays.
        stayed = [found.name for found in (folder / "buckets" / BUCKET / "lake/raw/_doctor").iterdir()]
        assert stayed == ["probe"], stayed

    with part("batch") as batch:
        batch.adlake("batch", "run")
        batch.adlake("batch", "check")
        batch.adlake("doctor", "--part", "batch")
        batch.nothing_refused()
        batch.may_not("write raw data", lambda: batch.s3.put_object(Bucket=BUCKET, Key="lake/raw/impressions/x", Body=b""))
        batch.may_not("delete raw data", lambda: batch.s3.delete_object(Bucket=BUCKET, Key=raw))

    with part("maintenance") as maintenance:
        for job in ("compact", "checkpoint", "vacuum"):
            maintenance.adlake("batch", job)
        maintenance.adlake("doctor", "--part", "maintenance")
        maintenance.nothing_refused()
        maintenance.may_not("write beside the lake", lambda: maintenance.s3.put_object(Bucket=BUCKET, Key="other/x", Body=b""))

    with part("serving") as serving:
        answered = json.loads(serving.adlake("query", "SELECT count(*) AS n FROM impressions", "--format", "json"))
        assert answered[0]["n"] > 500, answered
        serving.adlake("doctor", "--part", "serving")
        port = environment.free_port()
        command = [environment.adlake(), "serve", "--listen", f"127.0.0.1:{port}"]
        with environment.Process(command, folder / "serve.log", env=serving.environment, cwd=folder) as server:
            def ready():
                try:
                    return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").status == 200
                except OSError:
                    return False

            environment.wait_for(ready, "the server is ready", server)
        serving.nothing_refused()
        serving.may_not("write raw data", lambda: serving.s3.put_object(Bucket=BUCKET, Key="lake/raw/impressions/x", Body=b""))
        serving.may_not("delete", lambda: serving.s3.delete_object(Bucket=BUCKET, Key=raw))
        # The program under the wrong role is refused, and says so.
        before = len(serving.proxy.refused)
        serving.adlake("batch", "run", "--full", code=1)
        assert len(serving.proxy.refused) > before and all(action == "s3:PutObject" for _, action, _ in serving.proxy.refused[before:])


if __name__ == "__main__":
    main()
