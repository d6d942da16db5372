"""chDB, which is ClickHouse in a library: panes first, then each pane into the windows that hold it.

Arrow input is loaded into a table of the Memory engine, the quickest that ClickHouse has to read from.
"""

import chdb
import peer
from chdb.session import Session

SCHEMA = "ts DateTime64(3, \\'UTC\\'), key UInt64, value Float64"
"""Columns of a CSV file; it stands within quotes."""


class ChDb:
    """One session in memory."""

    def __init__(self, given):
        """Opens the session with as many threads as are given."""
        self.given = given
        self.session = Session()
        self.session.query(f"SET max_threads = {given.threads}, max_insert_threads = {given.threads}")

    def load(self):
        """Arrow input becomes a table in memory."""
        if self.given.input == "arrow":
            self.session.query("CREATE DATABASE IF NOT EXISTS peers")
            self.session.query("CREATE TABLE peers.events (ts Int64, key Int64, value Float64) ENGINE = Memory")
            file = f"file('{self.given.data}', 'Arrow')"
            self.session.query(f"INSERT INTO peers.events SELECT toUnixTimestamp64Milli(ts), key, value FROM {file}")
            self.source, self.time_ms = "peers.events", "ts"
        elif self.given.input == "csv":
            self.source = f"file('{self.given.data}', 'CSVWithNames', '{SCHEMA}')"
            self.time_ms = "toUnixTimestamp64Milli(ts)"
            self.session.query("SET date_time_input_format = 'best_effort'")
        else:
            self.source, self.time_ms = f"file('{self.given.data}', 'Parquet')", "toUnixTimestamp64Milli(ts)"

    def query(self):
        """The whole result as bytes of an Arrow stream."""
        aggregates = "count() AS count, sum(value) AS sum, min(value) AS min, max(value) AS max"
        merges = "sum(p.count) AS count, sum(p.sum) AS sum, min(p.min) AS min, max(p.max) AS max"
        pane = f"intDiv({self.time_ms}, {peer.PANE_MS})"
        if self.given.panes == 1:
            text = f"""
                SELECT {pane} * {peer.PANE_MS} AS window_ms, key, {aggregates}
                FROM {self.source} GROUP BY window_ms, key"""
        elif self.given.plain:
            text = f"""
                SELECT ({pane} - back) * {peer.PANE_MS} AS window_ms, key, {aggregates}
                FROM {self.source} ARRAY JOIN range({self.given.panes}) AS back GROUP BY window_ms, key"""
        else:
            text = f"""
                SELECT (p.pane - back) * {peer.PANE_MS} AS window_ms, p.key AS key, {merges}
                FROM (SELECT {pane} AS pane, key, {aggregates} FROM {self.source} GROUP BY pane, key) AS p
                ARRAY JOIN range({self.given.panes}) AS back GROUP BY window_ms, key"""
        return self.session.query(text, "ArrowStream")

    def count(self, result):
        """Rows, and the sum of their counts."""
        import pyarrow.compute

        table = self.table(result)
        return table.num_rows, pyarrow.compute.sum(table.column("count")).as_py()

    def table(self, result):
        """The result as a pyarrow table."""
        import pyarrow

        return pyarrow.ipc.open_stream(pyarrow.py_buffer(result.bytes())).read_all()


if __name__ == "__main__":
    peer.run(ChDb, f"{chdb.__version__} (ClickHouse {chdb.engine_version})")
