"""pyarrow: streams over TCP and as bodies of requests, with dictionaries and packed buffers."""

import json
import os
import socket
import sys
import urllib.request

# This file has the name of the package.
sys.path.pop(0)
import pyarrow as pa  # noqa: E402


def table(env):
    numbers = range(1000)
    return pa.table(
        {
            "extra": pa.array([None] * 1000),
            "time": pa.array([1704067200_000_000 + number for number in numbers], pa.timestamp("us", "UTC")),
            "name": pa.array([f"arrow{number % 3}" for number in numbers]).dictionary_encode(),
            "kind": pa.array([None if number % 2 else "x" for number in numbers]),
            "value": pa.array([number / 4 for number in numbers], pa.float32()),
            "text": pa.array([f"t{number % 10}" for number in numbers], pa.large_string()),
            "rate": pa.array([1] * 1000, pa.int8()),
            "env": pa.array([env] * 1000),
        }
    )


def write(file, env, options=None):
    data = table(env)
    with pa.ipc.new_stream(file, data.schema, options=options) as writer:
        writer.write_table(data, max_chunksize=300)


host, port = os.environ["ARROW"].split(":")
for env, packing in (("plain", None), ("zstd", "zstd"), ("lz4", "lz4")):
    with socket.create_connection((host, int(port))) as connection:
        with connection.makefile("wb") as file:
            write(file, env, pa.ipc.IpcWriteOptions(compression=packing))
        connection.shutdown(socket.SHUT_WR)
        answer = json.loads(connection.makefile().readline())
        assert answer == {"rows": 1000, "rejected": 0}, answer

sink = pa.BufferOutputStream()
write(sink, "http")
headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
request = urllib.request.Request(
    "http://" + os.environ["HTTP"] + "/streams/metrics", sink.getvalue().to_pybytes(), headers
)
with urllib.request.urlopen(request) as response:
    assert json.load(response) == {"rows": 1000, "rejected": 0}

# Lines of JSON over a connection, while an engine is at it.
host, port = os.environ["NDJSON"].split(":")
with socket.create_connection((host, int(port))) as connection:
    for number in range(100):
        row = {"time": "2024-01-01T00:00:00Z", "name": "json", "value": number}
        connection.sendall((json.dumps(row) + "\n").encode())
    connection.shutdown(socket.SHUT_WR)
    answer = json.loads(connection.makefile().readline())
    assert answer == {"rows": 100, "rejected": 0}, answer
