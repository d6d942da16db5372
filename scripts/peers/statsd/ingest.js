// How fast statsd counts events by key and second: its own server in a process of its own, over TCP on loopback, so that none
// is lost.
//
//   node ingest.js --statsd DIR --scratch DIR --data COLUMNS
//
// DIR is the folder of the npm package, COLUMNS what `answer columns` wrote. statsd has no event time and counts by name, so
// the second of an event is a part of the name of its counter. Prints one line of JSON; wrong counts of any second and key are
// an error. Only counting is measured: no minima, no sums of values, no overlapping windows.
'use strict';

const { fork } = require('child_process');
const fs = require('fs');
const net = require('net');
const path = require('path');
const { digest } = require('./digest.js');

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
  for (let attempt = 0; attempt < 200; attempt += 1) {
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

// A column of the file: numbers of 8 bytes, as two halves each.
function column(file, index, count) {
  const halves = new Uint32Array(2 * count);
  const bytes = Buffer.from(halves.buffer);
  let at = 0;
  while (at < bytes.length) {
    const read = fs.readSync(file, bytes, at, Math.min(bytes.length - at, 1 << 28), index * 8 * count + at);
    if (read === 0) {
      throw new Error('the columns end too early');
    }
    at += read;
  }
  return halves;
}

// The events as text, made before the clock starts, and what they come to.
function load(name) {
  const file = fs.openSync(name, 'r');
  const count = Math.floor(fs.fstatSync(file).size / 24);
  const [times, ids] = [column(file, 0, count), column(file, 1, count)];
  fs.closeSync(file);
  const second = (event) => Math.floor((times[2 * event + 1] * 4294967296 + times[2 * event]) / 1000);
  const [first, last] = [second(0), second(count - 1)];
  let keys = 0;
  for (let event = 0; event < count; event += 1) {
    keys = Math.max(keys, ids[2 * event] + 1);
  }
  const windows = last - first + 1;
  const counts = new Int32Array(windows * keys);
  const texts = [];
  for (let start = 0; start < count; start += LINES_PER_WRITE) {
    let text = '';
    for (let event = start; event < Math.min(count, start + LINES_PER_WRITE); event += 1) {
      const [window, key] = [second(event) - first, ids[2 * event]];
      counts[window * keys + key] += 1;
      text += `w${window}.k${key}:1|c\n`;
    }
    texts.push(Buffer.from(text, 'latin1'));
  }
  return { count, windows, keys, texts, expected: digest(counts) };
}

async function main() {
  const given = argumentsOf(process.argv.slice(2));
  const loading = process.hrtime.bigint();
  const { count, windows, keys, texts, expected } = load(given.data);
  const loadSeconds = Number(process.hrtime.bigint() - loading) / 1e9;
  const folder = path.resolve(given.statsd);
  const [port, managementPort] = [await freePort(), await freePort()];
  const config = path.resolve(given.scratch, `statsd-${process.pid}.js.tmp`);
  const settings = {
    servers: [{ server: './servers/tcp', address: '127.0.0.1', port }],
    mgmt_address: '127.0.0.1',
    mgmt_port: managementPort,
    backends: [path.join(__dirname, 'backend.js')],
    peer: { windows, keys },
    // Seldom, since every flush walks over all counters; the clock may stop so much too late.
    flushInterval: 500,
    deleteCounters: true,
    prefixStats: 'own',
  };
  fs.writeFileSync(config, JSON.stringify(settings));
  const server = fork(path.join(folder, 'stats.js'), [config], { cwd: folder, silent: true });
  let said = '';
  let counted = 0;
  server.stdout.on('data', (text) => { said += text; });
  server.stderr.on('data', (text) => { said += text; });
  let onAnswer = () => {};
  const done = new Promise((resolve, reject) => {
    server.on('message', ({ sum, answer }) => {
      if (answer) {
        onAnswer(answer);
        return;
      }
      counted = sum;
      if (counted >= count) {
        resolve();
      }
    });
    server.on('exit', (code) => reject(new Error(`statsd ended with code ${code}: ${said}`)));
  });
  // The connection may fail first; then this promise is never waited for.
  done.catch(() => {});
  const socket = await connect(port);
  const start = process.hrtime.bigint();
  for (const text of texts) {
    if (!socket.write(text)) {
      await new Promise((resolve) => socket.once('drain', resolve));
    }
  }
  await done;
  const querySeconds = Number(process.hrtime.bigint() - start) / 1e9;
  const answer = await new Promise((resolve) => {
    onAnswer = resolve;
    server.send('what was counted');
  });
  server.removeAllListeners('exit');
  socket.destroy();
  server.kill();
  fs.unlinkSync(config);
  if (JSON.stringify(answer) !== JSON.stringify(expected)) {
    throw new Error(`statsd counted ${JSON.stringify(answer)} instead of ${JSON.stringify(expected)}`);
  }
  const { version } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const report = {
    load_s: loadSeconds,
    query_s: querySeconds,
    answer: { rows: answer.rows, events: answer.events },
    version: `${version}, Node ${process.version}`,
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exit(0);
}

main().catch((error) => {
  process.stderr.write(`ingest.js: ${error.message}\n`);
  process.exit(1);
});
