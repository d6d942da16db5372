// A backend for statsd that only adds up what was counted and tells the parent process at every flush.
'use strict';

exports.init = function init(startupTime, config, emitter) {
  emitter.on('flush', (timestamp, metrics) => {
    let sum = 0;
    for (const [name, value] of Object.entries(metrics.counters)) {
      if (name.startsWith('key.')) {
        sum += value;
      }
    }
    process.send({ sum });
  });
  return true;
};
