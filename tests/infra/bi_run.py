#!/usr/bin/env python3
"""Runs the lines of docs/bi.md that are marked `<!-- run: READER QUESTION -->`, and compares their answers with those of adlake.

The lake is made by `adlake generate`, `ingest` and `batch run`, with a report zone that is not UTC, unknown users and campaigns, and so
many users that some sketches are full. Counts and money must be equal, ratios equal within 1e-12.
"""

import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zoneinfo

import environment

ZONE = "Europe/Berlin"
ADDRESS = "s3://BUCKET/lake"
BLOCK = re.compile(r"<!-- run: (\w+) (\w+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Which environment of the setup has which reader.
READERS = {"duckdb": "venv", "polars": "venv", "deltalake": "infra/bi", "chdb": "infra/bi", "spark": "spark/venv"}
# Questions that each reader answers, at least.
WANTED = {
    "adlake": {"daily", "kpis"}, "duckdb": {"daily", "kpis", "reach"}, "polars": {"daily", "kpis"},
    "deltalake": {"daily", "reach", "published"}, "chdb": {"daily", "kpis"}, "spark": {"daily", "kpis"},
}
SPARK = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension", "spark.ui.enabled": "false",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.databricks.delta.snapshotPartitions": "2", "spark.sql.shuffle.partitions": "2",
}


def main():
    blocks = {}
    for reader, question, lines in BLOCK.findall((environment.ROOT / "docs/bi.md").read_text()):
        assert question not in blocks.setdefault(reader, {}), f"docs/bi.md: {reader} {question} stands there twice"
        blocks[reader][question] = lines
    assert {reader: set(found) for reader, found in blocks.items()} == WANTED, {reader: set(found) for reader, found in blocks.items()}
    with tempfile.TemporaryDirectory(prefix="adlake-bi-") as folder:
        folder = pathlib.Path(folder)
        lake = folder / "lake"
        make(folder, lake)
        answers = {question: ask(lake, lines) for question, lines in blocks.pop("adlake").items()}
        expected = {"daily": daily(answers["daily"]), "kpis": kpis(answers["kpis"])}
        expected["reach"] = {row["campaign_id"]: {"users": row["reach"]} for row in answers["kpis"]}
        substantial(lake, expected)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            runs = {reader: pool.submit(read, folder, lake, reader, found) for reader, found in blocks.items()}
        for reader, run in runs.items():
            for question, rows in run.result().items():
                compare(f"docs/bi.md: {reader} {question}", question, rows, expected)
        unpublished(folder, lake, blocks["deltalake"]["published"], expected)


def adlake(lake, *arguments):
    variables = {**os.environ, "ADLAKE_LAKE__URI": str(lake), "ADLAKE_REPORT__TIME_ZONE": ZONE}
    done = subprocess.run([environment.adlake(), *map(str, arguments)], env=variables, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"adlake {arguments}: {done.stderr[-2000:]}")
    return done.stdout


def make(folder, lake):
    traffic = folder / "traffic"
    adlake(
        lake, "generate", "--events", 100000, "--days", 3, "--start", "2025-03-29", "--users", 100000, "--campaigns", 6,
        "--currencies", "EUR", "--ctr", 0.1, "--to-files", traffic,
    )
    for kind in ("creatives", "campaigns", "fx_rates"):
        adlake(lake, "ref", "load", kind, traffic / f"{kind}.csv")
    # Users and campaigns that nobody knows: they count, but are no reach, and belong to no campaign.
    template = '{"ad_creative_id":"%s","user_id":"%s","timestamp":"2025-03-30T0%d:30:00Z","website":"w","impression_id":"x-%d","cost_micros":1500}'
    rows = [template % (creative, user, number % 5, number) for number, (creative, user) in enumerate([("nobody", "u1"), ("nobody", "unknown")] * 5)]
    (traffic / "events/impressions-unknown.json").write_text("\n".join(rows) + "\n")
    adlake(lake, "ingest", "files", traffic / "events")
    adlake(lake, "batch", "run")


def ask(lake, sql):
    return json.loads(adlake(lake, "query", sql, "--format", "json"), parse_float=str)


def daily(rows):
    def day(text):
        at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        return str(at.astimezone(zoneinfo.ZoneInfo(ZONE)).date())

    def micros(text):
        whole, _, part = str(text).partition(".")
        return int(whole + part.ljust(6, "0"))

    return {
        (day(row["day"]), row["campaign_id"]): {
            **{name: row[name] for name in ("impressions", "clicks", "conversions")},
            "spend_micros": micros(row["spend"]), "revenue_micros": micros(row["revenue"]),
        }
        for row in rows
    }


def kpis(rows):
    ratios = ("ctr", "cpc", "cpm", "cpa", "roas")
    number = {name: lambda value: None if value is None else float(value) for name in ratios}
    return {
        row["campaign_id"]: {**{name: number[name](row[name]) for name in ratios}, "linear_billionths": int(row["linear"].replace(".", ""))}
        for row in rows
    }


def substantial(lake, expected):
    """The lake tells right lines from wrong ones."""
    assert len(expected["kpis"]) == 6 and len({day for day, _ in expected["daily"]}) >= 3, expected
    assert any(campaign is None and row["impressions"] for (_, campaign), row in expected["daily"].items()), "no unknown campaign"
    users = [row["users"] for row in expected["reach"].values()]
    assert min(users) < 4096 < max(users), f"sketches that are full, and some that are not: {users}"
    (averaged,) = ask(lake, "SELECT avg(ctr) AS wrong, sum(reach) AS too_many FROM campaign_daily WHERE campaign_id = 'c-0000'")
    assert abs(float(averaged["wrong"]) - expected["kpis"]["c-0000"]["ctr"]) > 1e-6, "an average of ratios would not be seen"
    assert averaged["too_many"] > expected["reach"]["c-0000"]["users"] * 1.01, "a sum of reaches would not be seen"


def read(folder, lake, reader, blocks):
    python = environment.CACHE / READERS[reader] / "bin/python"
    if not python.is_file():
        environment.lacking(f"{reader}: tests/setup/setup.sh venv infra spark")
    file = folder / f"{reader}.json"
    file.write_text(json.dumps({question: lines.replace(ADDRESS, str(lake)) for question, lines in blocks.items()}))
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if reader == "spark":
        jars = ",".join(map(str, sorted((environment.CACHE / "spark/jars").glob("*.jar"))))
        options = " ".join(f"--conf {name}={value}" for name, value in SPARK.items())
        variables |= {
            "PYSPARK_SUBMIT_ARGS": f"--master local[2] --driver-memory 1g --jars {jars} {options} pyspark-shell",
            "PYSPARK_PYTHON": str(python), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(folder),
        }
    command = [python, environment.HERE / "bi_reader.py", reader, file]
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"docs/bi.md: {reader}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


def compare(where, question, rows, expected):
    if question == "published":
        found = {name: sum(row[name] for row in rows) for name in ("impressions", "clicks", "conversions")}
        wanted = {name: sum(row[name] for row in expected["daily"].values()) for name in found}
        assert found == wanted, f"{where}: {found}, and adlake says {wanted}"
        return
    key = (lambda row: (row["day"], row["campaign_id"])) if question == "daily" else (lambda row: row["campaign_id"])
    found = {key(row): {name: value for name, value in row.items() if name not in ("day", "campaign_id")} for row in rows}
    wanted = expected[question]
    if question == "reach" and "duckdb" in where:
        # Counted, not estimated: equal below the size of a sketch, near above.
        exact = {campaign for campaign, row in wanted.items() if row["users"] < 4096}
        for campaign in wanted.keys() - exact:
            assert abs(found[campaign]["users"] / wanted[campaign]["users"] - 1) < 0.05, (where, campaign, found[campaign], wanted[campaign])
        found, wanted = ({campaign: rows[campaign] for campaign in exact} for rows in (found, wanted))
        assert exact, where
    assert len(rows) == len(expected[question]), f"{where}: {len(rows)} rows, adlake has {len(expected[question])}"
    assert found.keys() == wanted.keys(), f"{where}: {found.keys() ^ wanted.keys()}"
    for name, row in wanted.items():
        assert found[name].keys() == row.keys(), f"{where}: {list(found[name])}"
        for column, value in row.items():
            got = found[name][column]
            same = got is not None and abs(got - value) <= 1e-12 * abs(value) if isinstance(value, float) else got == value
            assert same, f"{where}: {name}: {column} is {got!r}, and adlake says {value!r}"
    print(f"bi_run: {where}: {len(rows)} rows as adlake has them", flush=True)


def unpublished(folder, lake, lines, expected):
    """Who takes the versions of the manifest does not see what a batch run has written and not published."""
    later = folder / "later"
    shutil.copytree(lake, later)
    change = f"import deltalake; deltalake.DeltaTable({str(later / 'batch/campaign_rollup')!r}).delete()"
    subprocess.run([environment.CACHE / "venv/bin/python", "-c", change], check=True, capture_output=True)
    newest = "import deltalake\nrollup = deltalake.DeltaTable('s3://BUCKET/lake/batch/campaign_rollup').to_pandas()\n"
    assert read(folder, later, "deltalake", {"published": newest})["published"] == [], "the newest version is to be empty here"
    rows = read(folder, later, "deltalake", {"published": lines})["published"]
    compare("docs/bi.md: deltalake published", "published", rows, expected)
    print("bi_run: the versions of the manifest hold while a batch run writes", flush=True)


if __name__ == "__main__":
    main()
