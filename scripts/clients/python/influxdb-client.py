"""influxdb-client: the client of InfluxDB 2, synchronous, batching, and refused."""

import os
from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

url = "http://" + os.environ["HTTP"]
with InfluxDBClient(url=url, token="any", org="o", enable_gzip=True) as client:
    assert client.ping()
    with client.write_api(write_options=SYNCHRONOUS) as api:
        for number in range(10):
            point = Point("two").tag("env", "a=b, c").field("value", number)
            api.write("bucket", record=point.time(1704067200 + number, WritePrecision.S))
        try:
            api.write("bucket", record="two value=1 1\ntwo value=\n")
            raise SystemExit("a bad line was taken")
        except ApiException as error:
            assert error.status == 400 and "line 2" in str(error.body), error
    with client.write_api(write_options=WriteOptions(batch_size=50, flush_interval=1000)) as api:
        for number in range(500):
            point = Point("two").tag("env", "batch").field("value", 0.5).field("text", f"t{number % 9}")
            api.write("bucket", record=point.time(1704067200_000_000_000 + number, WritePrecision.NS))
