#!/usr/bin/env python3
"""Asks DuckDB or ClickHouse (chdb) what a dashboard asks, in SQL over the batch tables of a lake, and prints answers and times.

    beside.py duckdb|chdb LAKE ASKED

ASKED is a file with a JSON object: `campaigns`, each of which is asked about, and `repeats`, how often all campaigns are asked about.
Prints a JSON list with an object for each question, in the order of `tests/src/bin/bench/questions.rs`: `all`, `one` (the
seconds of each answer) and `rows` (the answer about all campaigns).

Each has two threads, and reads Delta tables of its own files: the rollup by hour and campaign where it suffices, else the cube. Its
tables are attached once, DuckDB's with a pinned snapshot, and each question is asked once before it is timed. An answer is fetched as
rows (DuckDB) or as text (ClickHouse), within the process: no protocol lies between.
"""

import json
import os
import re
import sys
import tempfile
import time

KPIS = """sum(impressions), sum(clicks), sum(conversions), sum(cost_micros) AS spend, sum(revenue_micros) AS revenue,
    {ratio:clicks:impressions} AS ctr, {ratio:conversions:clicks} AS cvr, {ratio:cost_micros:clicks} / 1e6 AS cpc,
    {ratio:cost_micros:impressions} / 1e3 AS cpm, {ratio:cost_micros:conversions} / 1e6 AS cpa, {ratio:revenue_micros:cost_micros} AS roas"""
MODELS = ("last_touch", "first_touch", "linear", "position_based", "time_decay")
WEEK = "hour >= '2025-01-01' AND hour < '2025-01-08'"


def over(columns, table, range_="", group="", more=""):
    return f"SELECT {columns} FROM {table} WHERE {range_ or WEEK} AND {{scope}} {group and 'GROUP BY ' + group} {more}"


def by(dimension, table="campaign_hourly"):
    return over(f"{dimension}, {KPIS}", table, group=dimension, more="ORDER BY spend DESC LIMIT 50")


def previous():
    """Four days and the four before them, in one pass."""
    half = "CASE WHEN hour >= '2025-01-04' THEN 1 ELSE 0 END"
    return over(f"{half} AS half, {KPIS}", "campaign_rollup", "hour >= '2024-12-31' AND hour < '2025-01-08'", "half", "ORDER BY half DESC")


def revenue(model):
    return f"sum(attributed_revenue_{model}_micros) AS attributed_revenue_{model}"


QUESTIONS = [
    previous(),
    over("{seconds:date_trunc('day', hour)} AS time_at, sum(impressions), sum(cost_micros)", "campaign_rollup", group="time_at", more="ORDER BY time_at"),
    over("{seconds:hour} AS time_at, sum(clicks), sum(conversions)", "campaign_rollup", "hour >= '2025-01-07' AND hour < '2025-01-08'", "time_at", "ORDER BY time_at"),
    by("campaign_id", "campaign_rollup"), by("website"), by("ad_creative_id"), by("device_type"), by("country"),
    over(", ".join(f"sum({name})" for name in ("bids", "wins", "impressions", "viewable_impressions", "clicks", "conversions")), "campaign_rollup"),
    over(", ".join(map(revenue, MODELS)), "campaign_rollup"),
    over("conversion_type, sum(conversions), sum(revenue_micros)", "campaign_hourly", group="conversion_type", more="ORDER BY 2 DESC"),
    # Neither can read a sketch of adlake's. Both are given their own estimate, over all impressions.
    over("{distinct} AS reach, count(*) AS impressions", "impressions", "event_time >= '2025-01-01' AND event_time < '2025-01-08'"
         " AND invalid_reason IS NULL"),
]


def duckdb(lake):
    import importlib.resources

    import duckdb
    import duckdb_extension_delta

    (extension,) = importlib.resources.files(duckdb_extension_delta).glob("extensions/*/delta.duckdb_extension")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "threads": 2, "memory_limit": "4GB"})
    connection.execute(f"LOAD '{extension}'")
    connection.execute("SET TimeZone = 'UTC'")
    for table in ("campaign_rollup", "campaign_hourly", "impressions"):
        connection.execute(f"ATTACH '{lake}/batch/{table}' AS {table} (TYPE delta, PIN_SNAPSHOT)")

    def ask(sql):
        return [[plain(value) for value in row] for row in connection.execute(sql).fetchall()]

    return ask, {
        "distinct": "approx_count_distinct(user_id)", "ratio": "CAST(sum({}) AS DOUBLE) / nullif(sum({}), 0)",
        "seconds": "CAST(epoch({}) AS BIGINT)",
    }


def chdb(lake):
    # Files outside of the working folder are refused.
    os.chdir(lake)
    from chdb import session

    # It is removed when the process ends.
    folder = tempfile.TemporaryDirectory(prefix="adlake-chdb-")
    tables = session.Session(folder.name)
    tables.query("CREATE DATABASE lake ENGINE = Atomic")
    tables.query("USE lake")
    for table in ("campaign_rollup", "campaign_hourly", "impressions"):
        tables.query(f"CREATE TABLE lake.{table} ENGINE = DeltaLakeLocal('{lake}/batch/{table}')")

    def ask(sql, _folder=folder):
        text = tables.query(f"{sql} SETTINGS max_threads = 2, session_timezone = 'UTC'", "JSONCompact").bytes().decode()
        return json.loads(text)["data"]

    return ask, {
        "distinct": "uniq(user_id)", "ratio": "toFloat64(sum({})) / nullIf(toFloat64(sum({})), 0)",
        "seconds": "toUnixTimestamp({})",
    }


def plain(value):
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


def main():
    reader, lake, asked = sys.argv[1:]
    with open(asked) as file:
        asked = json.load(file)
    ask, words = {"duckdb": duckdb, "chdb": chdb}[reader](lake)

    def filled(question, campaign):
        question = question.replace("{scope}", "1 = 1" if campaign is None else f"campaign_id = '{campaign}'")
        return re.sub(r"\{(\w+)(?::([^:}]+))?(?::([^:}]+))?\}", lambda found: words[found[1]].format(found[2], found[3]), question)

    def timed(sql):
        started = time.perf_counter()
        ask(sql)
        return time.perf_counter() - started

    answers = []
    for question in QUESTIONS:
        rows = ask(filled(question, None))
        everything = [timed(filled(question, None)) for _ in range(asked["repeats"])]
        one = [timed(filled(question, campaign)) for campaign in asked["campaigns"]]
        answers.append({"all": everything, "one": one, "rows": rows})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
