"""statsd: the plain protocol, over UDP and TCP, pipelined."""

import os
import sys

# This file has the name of the package.
sys.path.pop(0)
from statsd import StatsClient, TCPStatsClient  # noqa: E402

host, port = os.environ["STATSD_UDP"].split(":")
client = StatsClient(host, int(port), prefix="py")
with client.pipeline() as pipe:
    for number in range(50):
        pipe.incr("hits", number)
        pipe.timing("took", 10)
client.gauge("load", 5)
client.gauge("load", -2, delta=True)
client.set("users", "anna")
client.close()

host, port = os.environ["STATSD_TCP"].split(":")
client = TCPStatsClient(host, int(port), prefix="tcp")
for number in range(50):
    client.decr("hits", number)
client.close()
