// How fast statsd takes counters: its own server in a process of its own, over TCP on loopback, so that none is lost.
//
//   node ingest.js --statsd DIR --scratch DIR --events N --keys K
//
// DIR is the folder of the npm package. Prints one line of JSON; a wrong total is an error. Only counting is measured:
// no windows, no minima, no sums of values.
'use strict';

const { fork } = require('child_process');
const fs = require('fs');
const net = require('net');
const path = require('path');

const LINES_PER_WRITE = 2000;

function argumentsOf(words) {
  const given = {};
  for (let at = 0; at < words.length; at += 2) {
    given[words[at].slice(2)] = words[at + 1];
  }
  return given;
}

// A port that is free now; statsd wants numbers in its configuration.
function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function connect(port) {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    try {
      return await new Promise((resolve, reject) => {
        const socket = net.connect(port, '127.0.0.1', () => resolve(socket));
        socket.on('error', reject);
      });
    } catch (error) {
      if (error.code !== 'ECONNREFUSED') {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error('statsd does not listen');
}

// Counters in an order without a pattern, made before the clock starts.
function texts(events, keys) {
  const all = [];
  let seed = 1;
  for (let made = 0; made < events; made += LINES_PER_WRITE) {
    let text = '';
    for (let line = made; line < Math.min(events, made + LINES_PER_WRITE); line += 1) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      text += `key.${seed % keys}:1|c\n`;
    }
    all.push(text);
  }
  return all;
}

async function main() {
  const given = argumentsOf(process.argv.slice(2));
  const events = Number(given.events);
  const folder = path.resolve(given.statsd);
  const [port, managementPort] = [await freePort(), await freePort()];
  const config = path.resolve(given.scratch, `statsd-${process.pid}.js.tmp`);
  const settings = {
    servers: [{ server: './servers/tcp', address: '127.0.0.1', port }],
    mgmt_address: '127.0.0.1',
    mgmt_port: managementPort,
    backends: [path.join(__dirname, 'backend.js')],
    flushInterval: 100,
    deleteCounters: true,
  };
  fs.writeFileSync(config, JSON.stringify(settings));
  const server = fork(path.join(folder, 'stats.js'), [config], { cwd: folder, silent: true });
  let counted = 0;
  let said = '';
  server.stdout.on('data', (text) => { said += text; });
  server.stderr.on('data', (text) => { said += text; });
  const done = new Promise((resolve, reject) => {
    server.on('message', ({ sum }) => {
      counted += sum;
      if (counted >= events) {
        resolve();
      }
    });
    server.on('exit', (code) => reject(new Error(`statsd ended with code ${code}: ${said}`)));
  });
  // The connection may fail first; then this promise is never waited for.
  done.catch(() => {});
  const all = texts(events, Number(given.keys));
  const socket = await connect(port);
  const start = process.hrtime.bigint();
  for (const text of all) {
    if (!socket.write(text)) {
      await new Promise((resolve) => socket.once('drain', resolve));
    }
  }
  await done;
  const querySeconds = Number(process.hrtime.bigint() - start) / 1e9;
  server.removeAllListeners('exit');
  socket.destroy();
  server.kill();
  fs.unlinkSync(config);
  if (counted !== events) {
    throw new Error(`statsd counted ${counted} instead of ${events}`);
  }
  const { version } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const report = { query_s: querySeconds, measured_events: events, version: `${version}, Node ${process.version}` };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exit(0);
}

main().catch((error) => {
  process.stderr.write(`ingest.js: ${error.message}\n`);
  process.exit(1);
});
