"""Polars: panes first, then ten shifted copies of the panes, grouped again, by the streaming engine.

`group_by_dynamic` is not used: it leaves out the windows that begin before the first event.

The number of threads is read from POLARS_MAX_THREADS before the import.
"""

import polars
import peer


class Polars:
    """Lazy frames, collected once."""

    def __init__(self, given):
        """Refuses another number of threads than the environment gave."""
        if polars.thread_pool_size() != given.threads:
            raise SystemExit(f"set POLARS_MAX_THREADS={given.threads}")
        self.given = given

    def load(self):
        """Arrow input becomes a frame in one piece."""
        if self.given.input == "arrow":
            frame = polars.read_ipc(self.given.data).with_columns(polars.col("ts").dt.epoch("ms"))
            self.frame = frame.rechunk().lazy()
        elif self.given.input == "csv":
            schema = {"ts": polars.Datetime("ms"), "key": polars.UInt64, "value": polars.Float64}
            text = {"ts": polars.String, "key": polars.UInt64, "value": polars.Float64}
            frame = polars.scan_csv(self.given.data, schema=text)
            # Fractions of a second are left out where they are 0, so the format has to be the lenient one.
            times = polars.col("ts").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ms")
            self.frame = frame.with_columns(times.alias("ts")).cast(schema)
        else:
            self.frame = polars.scan_parquet(self.given.data)

    def query(self):
        """The whole result as a frame."""
        value, time_ms = polars.col("value"), polars.col("ts")
        if self.given.input != "arrow":
            time_ms = time_ms.dt.epoch("ms")
        panes = self.frame.group_by((time_ms // peer.PANE_MS).alias("pane"), "key").agg(
            polars.len().alias("count"), value.sum().alias("sum"), value.min().alias("min"), value.max().alias("max")
        )
        window_ms = (polars.col("pane") * peer.PANE_MS).alias("window_ms")
        if self.given.panes == 1:
            return panes.with_columns(window_ms).drop("pane").collect(engine="streaming")
        panes = panes.collect(engine="streaming").lazy()
        shifted = [panes.with_columns(polars.col("pane") - back) for back in range(self.given.panes)]
        windows = polars.concat(shifted).group_by("pane", "key").agg(
            polars.col("count").sum(), polars.col("sum").sum(), polars.col("min").min(), polars.col("max").max()
        )
        return windows.with_columns(window_ms).drop("pane").collect(engine="streaming")

    def count(self, result):
        """Rows, and the sum of their counts."""
        return result.height, result["count"].cast(polars.UInt64).sum()

    def table(self, result):
        """The result as a pyarrow table."""
        return result.to_arrow()


if __name__ == "__main__":
    peer.run(Polars, polars.__version__)
