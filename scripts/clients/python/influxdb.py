"""influxdb: the client of InfluxDB 1, plain and packed."""

import os
import sys

# This file has the name of the package.
sys.path.pop(0)
from influxdb import InfluxDBClient  # noqa: E402

host, port = os.environ["HTTP"].split(":")
for gzip in (False, True):
    client = InfluxDBClient(host=host, port=int(port), database="any", gzip=gzip)
    assert client.ping()
    points = [
        {
            "measurement": "one load",
            "tags": {"env": f"gzip={gzip}"},
            "time": 1704067200 + number,
            "fields": {"value": number / 2, "text": f"a \"{number % 3}\"", "dropped": True},
        }
        for number in range(200)
    ]
    assert client.write_points(points, time_precision="s", batch_size=30)
    client.close()
