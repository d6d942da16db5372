"""What the Python peers share: arguments, clocks and the line of JSON at the end.

A peer is a class with `__init__(arguments)`, `load()`, `query()`, `count(result)` and `table(result)`. No query
belongs here.
"""

import argparse
import json
import time

PANE_MS = 1000
"""Length of a pane, and the distance between windows, in milliseconds."""


def arguments():
    """Reads the command line: `--data FILE --input FORM --window SHAPE --threads N [--check]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--input", required=True, choices=["arrow", "csv", "parquet"])
    parser.add_argument("--window", required=True, choices=["hop", "tumble"])
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--plain", action="store_true", help="the shorter query instead of the faster one")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    given.panes = 10 if given.window == "hop" else 1
    return given


def run(make, version):
    """Runs the peer that `make(arguments)` gives: load, query, and in a checking run the summary.

    With Arrow input `load` brings the events into the peer's own memory, and `query` starts from there. With CSV and
    Parquet `load` does nothing, and `query` reads the file.
    """
    given = arguments()
    start = time.perf_counter()
    peer = make(given)
    peer.load()
    loaded, loaded_cpu = time.perf_counter(), time.process_time()
    result = peer.query()
    done, done_cpu = time.perf_counter(), time.process_time()
    report = {
        "load_s": loaded - start,
        "query_s": done - loaded,
        "query_cpu_s": done_cpu - loaded_cpu,
        "version": version,
    }
    if given.check:
        import answer

        report["answer"] = answer.summary_of_table(peer.table(result))
    else:
        rows, events = peer.count(result)
        report["answer"] = {"rows": int(rows), "events": int(events)}
    print(json.dumps(report), flush=True)
