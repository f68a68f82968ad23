"""Sums columns of a Delta table with three readers that share no code above the file formats.

    readers.py TABLE [COLUMN ...]

Prints {reader: {"count(*)": text, column: text, ...}, ...} as JSON. Columns are integers or decimals, or texts; `a.b` is the
field b of the struct a. Sums are exact: anything else is refused. Of texts it is said how many there are, how many bytes
they have, how many are different, and the SHA-256 of which stands how often. Nothing is downloaded.
"""

import collections
import importlib.resources
import json
import pathlib
import sys
from decimal import Context, Decimal

import deltalake
import duckdb
import duckdb_extension_delta
import polars
import pyarrow
import pyarrow.compute
import pyarrow.dataset

# `python -I` leaves out the folder of the script.
sys.path.append(str(pathlib.Path(__file__).parent))
from figures import text

# Wide enough for the sum of any number of Decimal(38, s).
EXACT = Context(prec=100)


def with_deltalake(table, columns):
    """The log by delta-rs, the files by Arrow."""
    data = deltalake.DeltaTable(table).to_pyarrow_dataset()
    fields = {column: pyarrow.dataset.field(*column.split(".")) for column in columns}
    scanner = data.scanner(columns=fields)
    texts = {column for column in columns if pyarrow.types.is_string(scanner.projected_schema.field(column).type)}
    totals = {column: collections.Counter() if column in texts else None for column in columns}
    for batch in scanner.to_batches() if columns else []:
        for column in columns:
            if column in texts:
                found = pyarrow.compute.value_counts(batch.column(column)).to_pylist()
                totals[column].update({count["values"]: count["counts"] for count in found})
                continue
            part = pyarrow.compute.sum(batch.column(column)).as_py()
            if part is not None:
                whole = totals[column]
                totals[column] = part if whole is None else EXACT.add(Decimal(whole), Decimal(part))
    return [data.count_rows(), *totals.values()]


def with_duckdb(table, columns):
    """The log by delta-kernel, the files by DuckDB."""
    name = "delta.duckdb_extension"
    (extension,) = importlib.resources.files(duckdb_extension_delta).glob(f"extensions/*/{name}")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute(f"LOAD '{extension}'")
    def ask(what, rest=""):
        return connection.execute(f"SELECT {what} FROM delta_scan(?){rest}", [table]).fetchall()

    totals = [ask("count(*)")[0][0]]
    for column in columns:
        name = ".".join(f'"{part}"' for part in column.split("."))
        described = connection.execute(f"DESCRIBE SELECT {name} FROM delta_scan(?)", [table]).fetchone()
        if described[1] == "VARCHAR":
            totals.append(collections.Counter(dict(ask(f"{name}, count(*)", " GROUP BY 1"))))
        else:
            totals.append(ask(f"sum({name})")[0][0])
    return totals


def with_polars(table, columns):
    """The log by delta-rs, the files by Polars."""
    def expression(column):
        first, *rest = column.split(".")
        path = polars.col(first)
        for part in rest:
            path = path.struct.field(part)
        return path.alias(column)

    scan = polars.scan_delta(table)
    totals = [scan.select(polars.len()).collect().item()]
    for column in columns:
        found = scan.select(expression(column))
        if found.collect_schema()[column] == polars.String:
            totals.append(collections.Counter(dict(found.group_by(column).len().collect().rows())))
        else:
            totals.append(found.sum().collect().item())
    return totals


def main():
    table, *columns = sys.argv[1:]
    readers = {"deltalake": with_deltalake, "duckdb": with_duckdb, "polars": with_polars}
    names = ["count(*)", *columns]
    print(json.dumps({
        reader: dict(zip(names, map(text, read(table, columns)), strict=True)) for reader, read in readers.items()
    }))


if __name__ == "__main__":
    main()
