"""Sums columns of a Delta table with three readers that share no code above the file formats.

    readers.py TABLE [COLUMN ...]

Prints {reader: {"count(*)": text, column: text, ...}, ...} as JSON. Columns are integers or decimals; `a.b` is the field b of
the struct a. Sums are exact: anything that is not an integer or a decimal is refused. Nothing is downloaded.
"""

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
    if not isinstance(total, (int, Decimal)):
        raise SystemExit(f"a sum is {type(total).__name__}, which is not exact: {total}")
    if total == 0:
        return "0"
    digits = format(Decimal(total), "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def with_deltalake(table, columns):
    """The log by delta-rs, the files by Arrow."""
    data = deltalake.DeltaTable(table).to_pyarrow_dataset()
    fields = {column: pyarrow.dataset.field(*column.split(".")) for column in columns}
    totals = dict.fromkeys(columns)
    for batch in data.to_batches(columns=fields) if columns else []:
        for column in columns:
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
    quoted = (".".join(f'"{part}"' for part in column.split(".")) for column in columns)
    sums = "".join(f", sum({column})" for column in quoted)
    return connection.execute(f"SELECT count(*){sums} FROM delta_scan(?)", [table]).fetchone()


def with_polars(table, columns):
    """The log by delta-rs, the files by Polars."""
    def expression(column):
        first, *rest = column.split(".")
        path = polars.col(first)
        for part in rest:
            path = path.struct.field(part)
        return path.sum().alias(column)

    sums = [expression(column) for column in columns]
    return polars.scan_delta(table).select(polars.len().alias(" rows"), *sums).collect().row(0)


def main():
    table, *columns = sys.argv[1:]
    readers = {"deltalake": with_deltalake, "duckdb": with_duckdb, "polars": with_polars}
    names = ["count(*)", *columns]
    print(json.dumps({
        reader: dict(zip(names, map(text, read(table, columns)), strict=True)) for reader, read in readers.items()
    }))


if __name__ == "__main__":
    main()
