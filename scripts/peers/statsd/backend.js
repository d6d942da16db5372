// A backend for statsd that adds up what was counted, and tells the parent process: how much so far at every flush, and when
// it is asked, what of each window and key. Names are `w<window>.k<key>`; how many there can be stands in the configuration.
'use strict';

const { digest } = require('./digest.js');

exports.init = function init(startupTime, config, emitter) {
  const { windows, keys } = config.peer;
  const counts = new Int32Array(windows * keys);
  let sum = 0;
  emitter.on('flush', (timestamp, metrics) => {
    for (const [name, value] of Object.entries(metrics.counters)) {
      const dot = name.indexOf('.k');
      if (dot > 0 && name[0] === 'w') {
        counts[Number(name.slice(1, dot)) * keys + Number(name.slice(dot + 2))] += value;
        sum += value;
      }
    }
    process.send({ sum });
  });
  process.on('message', () => process.send({ answer: digest(counts) }));
  return true;
};
