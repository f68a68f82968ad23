#!/usr/bin/env python3
"""Runs the lines of docs/bi.md for one reader, in the Python environment that has it. bi_run.py starts it.

    bi_reader.py READER BLOCKS

BLOCKS is a file with a JSON object: the name of a question, and its lines. Prints {question: [{column: value, ...}, ...]} as the last line.
Lines in Python leave the rows in a variable that is named like the question; `published` leaves them in `rollup`.
"""

import datetime
import decimal
import json
import math
import sys


def plain(value):
    """A value as JSON has it: whole numbers exact, days as text, no number as null."""
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if value is None or isinstance(value, float) and math.isnan(value) or str(value) in ("NaT", "<NA>"):
        return None
    if isinstance(value, decimal.Decimal):
        if value != value.to_integral_value():
            return float(value)
        return int(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return str(value)[:10]
    return value


def listed(names, rows):
    return [{name: plain(value) for name, value in zip(names, row)} for row in rows]


def duckdb(blocks):
    import importlib.resources

    import duckdb
    import duckdb_extension_delta

    (extension,) = importlib.resources.files(duckdb_extension_delta).glob("extensions/*/delta.duckdb_extension")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute(f"LOAD '{extension}'")
    for question, lines in blocks.items():
        answer = connection.execute(lines)
        yield question, listed([column[0] for column in answer.description], answer.fetchall())


def chdb(blocks):
    import chdb

    for question, lines in blocks.items():
        text = chdb.query(lines, "JSONCompact").bytes().decode()
        answer = json.loads(text, parse_float=float)
        kinds = [column["type"] for column in answer["meta"]]
        whole = [("Int" in kind or "Decimal" in kind) and "Float" not in kind for kind in kinds]
        rows = [[int(value) if is_whole and value is not None else value for value, is_whole in zip(row, whole)] for row in answer["data"]]
        yield question, listed([column["name"] for column in answer["meta"]], rows)


def python(blocks, **names):
    """polars, deltalake and spark: the lines are Python."""
    for question, lines in blocks.items():
        scope = dict(names)
        exec(compile(lines, f"docs/bi.md: {question}", "exec"), scope)
        table = scope["rollup" if question == "published" else question]
        if hasattr(table, "collect"):
            yield question, listed(table.columns, table.collect())
        elif hasattr(table, "iter_rows"):
            yield question, listed(table.columns, table.iter_rows())
        else:
            kept = [name for name in table.columns if table[name].dtype.kind in "iufO" or name == "day"]
            yield question, listed(kept, table[kept].itertuples(index=False, name=None))


def spark(blocks):
    from pyspark.sql import SparkSession

    session = SparkSession.builder.appName("bi").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield from python(blocks, spark=session)


READERS = {"duckdb": duckdb, "chdb": chdb, "polars": python, "deltalake": python, "spark": spark}

if __name__ == "__main__":
    with open(sys.argv[2]) as file:
        answers = dict(READERS[sys.argv[1]](json.load(file)))
    print(json.dumps(answers))
