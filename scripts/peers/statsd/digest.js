// What counts by window and key come to: how many there are, their sum, and a hash over place and count of each.
'use strict';

exports.digest = function digest(counts) {
  let rows = 0;
  let events = 0;
  let hash = 0;
  for (let place = 0; place < counts.length; place += 1) {
    const count = counts[place];
    if (count > 0) {
      rows += 1;
      events += count;
      const mixed = Math.imul(Math.imul(place + 1, 0x9e3779b1) ^ Math.imul(count, 0x85ebca6b), 0xc2b2ae35);
      hash = (hash + (mixed ^ (mixed >>> 15))) >>> 0;
    }
  }
  return { rows, events, hash };
};
