"""Reads many Delta tables with Spark, because it starts slowly.

    read.py TABLES

TABLES is a file with a JSON list of [table, [column, ...]]. It is a file because spark-submit does not hand its
standard input on. Prints a JSON list of {"count(*)": text, column: text, ...}, one for each table, as `readers.py`
does for one table with each of its readers.
"""

import collections
import json
import pathlib
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import DecimalType, IntegralType, StringType

sys.path.append(str(pathlib.Path(__file__).parent.parent))
from figures import text


def exact(name, kind):
    """An expression for the sum of a column."""
    if isinstance(kind, IntegralType):
        return f.sum(f.col(name).cast("decimal(38,0)"))
    if isinstance(kind, DecimalType):
        return f.sum(name)
    raise SystemExit(f"the sum of a {kind.simpleString()} is not exact")


def figures(spark, table, columns):
    """The number of rows and the figures of the columns, in two queries at most."""
    # A path such as `a.b` would be taken for a field again.
    names = [f"c{place}" for place in range(len(columns))]
    rows = spark.read.format("delta").load(table)
    rows = rows.select([f.col(column).alias(name) for column, name in zip(columns, names)])
    kinds = {field.name: field.dataType for field in rows.schema}
    texts = [name for name in names if isinstance(kinds[name], StringType)]
    numbers = [name for name in names if name not in texts]
    totals = dict(zip(
        ["count(*)", *numbers],
        rows.agg(f.count(f.lit(1)), *(exact(name, kinds[name]) for name in numbers)).first(),
        strict=True,
    ))
    totals |= {name: collections.Counter() for name in texts}
    if texts:
        # One row for each text: which column it is of, and the text.
        unpivoted = rows.unpivot([], texts, "name", "value")
        for name, value, count in unpivoted.groupBy("name", "value").count().collect():
            totals[name][value] = count
    found = {"count(*)": text(totals["count(*)"])}
    return found | {column: text(totals[name]) for column, name in zip(columns, names)}


def main():
    with open(sys.argv[1]) as file:
        tables = json.load(file)
    spark = SparkSession.builder.appName("readers").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    # Rows are counted in the files, not in what the log says of them.
    spark.conf.set("spark.databricks.delta.optimizeMetadataQuery.enabled", "false")
    print(json.dumps([figures(spark, table, columns) for table, columns in tables]))


if __name__ == "__main__":
    main()
