// hot-shots: a client of statsd and DogStatsD, over UDP and TCP.
"use strict";
const StatsD = require("hot-shots");

async function send(protocol, address) {
  const [host, port] = address.split(":");
  const client = new StatsD({ host, port: Number(port), protocol, errorHandler: (error) => { throw error; } });
  const prefix = `hot.${protocol}.`;
  for (let number = 1; number <= 10; number++) client.increment(`${prefix}hits`, number, { env: "prod" });
  client.gauge(`${prefix}load`, 0.5);
  client.gaugeDelta(`${prefix}load`, 3);
  client.timing(`${prefix}took`, 42);
  client.histogram(`${prefix}size`, 7, ["env:dev"]);
  client.distribution(`${prefix}size`, 8);
  client.set(`${prefix}users`, "anna");
  client.set(`${prefix}users`, "ben");
  client.event("not a metric", "and counted as rejected");
  await new Promise((resolve, reject) => client.close((error) => (error ? reject(error) : resolve())));
}

(async () => {
  await send("udp", process.env.STATSD_UDP);
  await send("tcp", process.env.STATSD_TCP);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
