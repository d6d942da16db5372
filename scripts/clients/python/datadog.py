"""datadog: DogStatsD over UDP, buffered into datagrams of many metrics."""

import os
import sys

# This file has the name of the package.
sys.path.pop(0)
from datadog.dogstatsd import DogStatsd  # noqa: E402

host, port = os.environ["STATSD_UDP"].split(":")
client = DogStatsd(host=host, port=int(port), disable_telemetry=True)
for number in range(100):
    client.increment("dog.hits", 2, tags=["env:prod", "more:x"])
    client.gauge("dog.load", number)
    client.distribution("dog.size", number + 0.5, tags=["env:dev"])
    client.set("dog.users", f"user{number % 7}")
client.timing("dog.took", 12)
client.event("not a metric", "and counted as rejected")
client.service_check("dog.check", DogStatsd.OK)
client.flush()
client.close_socket()
