"""Sums columns of a Delta table with three readers that share no code above the file formats.

    readers.py TABLE [COLUMN ...]

Prints {reader: {"count(*)": text, column: text, ...}, ...} as JSON. Columns are integers or decimals, or texts; `a.b` is the
field b of the struct a. Sums are exact: anything else is refused. Of texts it is said how many there are, how many bytes
they have, how many are different, and the SHA-256 of which stands how often. Nothing is downloaded.
"""

import collections
import hashlib
import importlib.resources
import json
import sys
from decimal import Context, Decimal

import deltalake
import duckdb
import duckdb_extension_delta
import polars
import pyarrow
import pyarrow.compute
import pyarrow.dataset

# Wide enough for the sum of any number of Decimal(38, s).
EXACT = Context(prec=100)


def text(total):
    """One text per number: whatever the scale, no trailing zeros, no exponent."""
    if total is None:
        return "0"
    if isinstance(total, collections.Counter):
        return texts(total)
    if not isinstance(total, (int, Decimal)):
        raise SystemExit(f"a sum is {type(total).__name__}, which is not exact: {total}")
    if total == 0:
        return "0"
    digits = format(Decimal(total), "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def texts(counts):
    """What a column of texts holds, without the order of its rows."""
    counts.pop(None, None)
    times = sorted((value.encode(), count) for value, count in counts.items())
    digest = hashlib.sha256()
    for value, count in times:
        digest.update(b"%d %d " % (count, len(value)) + value)
    total = sum(len(value) * count for value, count in times)
    return f"{counts.total()} texts, {total} bytes, {len(times)} different, {digest.hexdigest()}"


def with_deltalake(table, columns):
    """The log by delta-rs, the files by Arrow."""
    data = deltalake.DeltaTable(table).to_pyarrow_dataset()
    fields = {column: pyarrow.dataset.field(*column.split(".")) for column in columns}
    totals = dict.fromkeys(columns)
    for batch in data.to_batches(columns=fields) if columns else []:
        for column in columns:
            if pyarrow.types.is_string(batch.column(column).type):
                found = pyarrow.compute.value_counts(batch.column(column)).to_pylist()
                totals[column] = totals[column] or collections.Counter()
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
