// influx: the client of InfluxDB 1 from npm.
"use strict";
const { InfluxDB, FieldType } = require("influx");

const [host, port] = process.env.HTTP.split(":");
const client = new InfluxDB({
  host,
  port: Number(port),
  database: "any",
  schema: [{ measurement: "node.load", fields: { value: FieldType.FLOAT, text: FieldType.STRING }, tags: ["env"] }],
});

(async () => {
  const hosts = await client.ping(5000);
  if (!hosts[0].online) throw new Error("no ping");
  const points = [];
  for (let number = 0; number < 100; number++) {
    const tags = { env: number % 2 ? "a,b" : "c d" };
    const fields = { value: number + 0.5, text: `"${number % 5}" \\` };
    points.push({ measurement: "node.load", tags, fields, timestamp: new Date(1704067200000 + number * 1000) });
  }
  await client.writePoints(points, { precision: "ms" });
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
