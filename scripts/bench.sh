#!/usr/bin/env bash
# Runs the benchmark scenarios one after the other and writes a report.
#
#   scripts/bench.sh [--smoke] [SCENARIO...]
#
# Without names: all of them. Results go to results/, one directory each; the page is results/report.html. With --smoke it
# takes seconds, figures mean nothing, and everything goes to target/bench-smoke.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

smoke=()
results=results
if [ "${1:-}" = --smoke ]; then
  shift
  smoke=(--smoke)
  results=target/bench-smoke
  rm -rf "$results"
fi
scenarios=("$@")

cargo build --locked --release -p corefold-bench -p corefold-engine
target="$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
harness="$target/release/bench-harness"

# What is swept besides the defaults: the plots that people ask for first.
sweep() {
  if [ "${#smoke[@]}" -gt 0 ]; then
    return
  fi
  case "$1" in
    fold) echo "keys=uniform cardinality=1,1k,50k,1M" ;;
    latency) echo "rate=500k,1M,2M,5M events=10M" ;;
    engine) echo "shards=1,2" ;;
    recovery) echo "events=1M,5M,20M" ;;
    result-latency) echo "pull_interval=10ms,50ms,100ms" ;;
    hand-off) echo "runs=100 chunk=1,16 items=2M load=2" ;;
  esac
}

if [ "${#scenarios[@]}" -eq 0 ]; then
  mapfile -t scenarios < <("$harness" list | sed -n 's/^  \([a-z-]*\): .*/\1/p')
fi
mkdir -p "$results"
for scenario in "${scenarios[@]}"; do
  "$harness" run "$scenario" "${smoke[@]}" --output "$results"
  read -ra swept <<<"$(sweep "$scenario")"
  if [ "${#swept[@]}" -gt 0 ]; then
    "$harness" run "$scenario" --param "${swept[@]}" --label "$scenario-sweep" --output "$results"
  fi
done
directories=()
for record in "$results"/*/run.json; do
  directories+=("$(dirname "$record")")
done
"$harness" report "${directories[@]}" --output "$results/report.html"
