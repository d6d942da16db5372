"""DataFusion: panes first, then each pane into the windows that hold it.

Arrow input is registered as record batches in memory, dealt over as many partitions as there are threads.
"""

import datafusion
import peer
from datafusion import SessionConfig, SessionContext


class DataFusion:
    """One session."""

    def __init__(self, given):
        """Opens the session with as many partitions as threads are given."""
        self.given = given
        self.context = SessionContext(SessionConfig().with_target_partitions(given.threads))

    def load(self):
        """Arrow input becomes record batches in memory; files are registered."""
        self.time_ms = "arrow_cast(arrow_cast(ts, 'Timestamp(Millisecond, None)'), 'Int64')"
        if self.given.input == "arrow":
            import pyarrow

            with open(self.given.data, "rb") as file:
                table = pyarrow.ipc.open_file(file).read_all()
            wanted = pyarrow.schema([("ts", pyarrow.int64()), ("key", pyarrow.int64()), ("value", pyarrow.float64())])
            batches = table.cast(wanted).to_batches(max_chunksize=8192)
            threads, self.time_ms = self.given.threads, "ts"
            self.context.register_record_batches("events", [batches[at::threads] for at in range(threads)])
        elif self.given.input == "csv":
            import pyarrow

            schema = pyarrow.schema([("ts", pyarrow.timestamp("ms")), ("key", pyarrow.uint64()),
                                     ("value", pyarrow.float64())])
            self.context.register_csv("events", self.given.data, schema=schema, has_header=True)
        else:
            self.context.register_parquet("events", self.given.data)

    def query(self):
        """The whole result as record batches."""
        aggregates = 'count(*) AS "count", sum(value) AS "sum", min(value) AS "min", max(value) AS "max"'
        merges = 'sum("count") AS "count", sum("sum") AS "sum", min("min") AS "min", max("max") AS "max"'
        pane = f"{self.time_ms} / {peer.PANE_MS}"
        if self.given.panes == 1:
            text = f"SELECT {pane} * {peer.PANE_MS} AS window_ms, key, {aggregates} FROM events GROUP BY 1, 2"
        else:
            backs = ", ".join(f"({back})" for back in range(self.given.panes))
            inner = f"(SELECT {pane} AS pane, key, {aggregates} FROM events GROUP BY 1, 2) AS panes"
            if self.given.plain:
                inner, merges = f"(SELECT {pane} AS pane, key, value FROM events) AS panes", aggregates
            text = f"""
                SELECT (pane - back) * {peer.PANE_MS} AS window_ms, key, {merges}
                FROM {inner} CROSS JOIN (VALUES {backs}) AS windows(back) GROUP BY 1, 2"""
        return self.context.sql(text).collect()

    def count(self, result):
        """Rows, and the sum of their counts."""
        import pyarrow.compute

        counts = [pyarrow.compute.sum(batch.column(2)).as_py() or 0 for batch in result]
        return sum(batch.num_rows for batch in result), sum(counts)

    def table(self, result):
        """The result as a pyarrow table."""
        import pyarrow

        return pyarrow.Table.from_batches(result)


if __name__ == "__main__":
    peer.run(DataFusion, datafusion.__version__)
