"""The figures of a column as texts, the same for every reader of a table."""

import collections
import hashlib
from decimal import Decimal


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
