"""The answer in brief, as `scripts/peers/bench/src/summary.rs` has it, for results that are numpy arrays.

Nothing that is timed belongs here: a summary is made only in a run that checks the answer.
"""

import numpy

GOLDEN = numpy.uint64(0x9E3779B97F4A7C15)
_FIRST = numpy.uint64(0xBF58476D1CE4E5B9)
_SECOND = numpy.uint64(0x94D049BB133111EB)


def _mix(bits):
    """The finalizer of splitmix64, for a whole array."""
    bits = (bits ^ (bits >> numpy.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> numpy.uint64(27))) * _SECOND
    return bits ^ (bits >> numpy.uint64(31))


def summary(window_ms, keys, counts, sums, minima, maxima):
    """Rows, events, hash, sum and weighted sum of a result, in the form that is compared."""
    fields = [
        numpy.asarray(window_ms, dtype=numpy.int64).view(numpy.uint64),
        numpy.asarray(keys).astype(numpy.uint64),
        numpy.asarray(counts).astype(numpy.uint64),
        numpy.ascontiguousarray(minima, dtype=numpy.float64).view(numpy.uint64),
        numpy.ascontiguousarray(maxima, dtype=numpy.float64).view(numpy.uint64),
    ]
    sums = numpy.ascontiguousarray(sums, dtype=numpy.float64)
    hashes = numpy.full(len(sums), GOLDEN, dtype=numpy.uint64)
    for field in fields:
        hashes = _mix((hashes + GOLDEN) ^ field)
    weights = (hashes >> numpy.uint64(11)).astype(numpy.float64) / float(1 << 53)
    return {
        "rows": len(sums),
        "events": int(fields[2].sum()),
        "hash": f"{int(hashes.sum()):016x}",
        "sum": float(sums.sum()),
        "weighted": float((sums * weights).sum()),
    }


def summary_of_table(table):
    """The same for a pyarrow table with columns window_ms, key, count, sum, min and max."""
    names = ["window_ms", "key", "count", "sum", "min", "max"]
    columns = [table.column(name) for name in names]
    for name, column in zip(names, columns):
        if column.null_count:
            raise SystemExit(f"column {name} has nulls")
    return summary(*[column.to_numpy() for column in columns])
