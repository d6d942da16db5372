#!/usr/bin/env bash
# Measures everything at real size, run by run, and writes a report.
#
#   scripts/bench.sh [--again] [--results DIR] [NAME...]
#   scripts/bench.sh --list
#   scripts/bench.sh --smoke [SCENARIO...]
#
# NAME is a scenario (`bench-harness list`), or a run of the list; without names: all of them, about half an hour. Results go
# to results/<date>-<host>-<run>/ (or below DIR), the page to results/report.html. A run that has its results of today is
# passed over, so that the script can be ended and called again; --again measures it anew beside the old ones. A run that
# fails or takes four times what is expected does not keep the others from being measured; the exit code is 1 then.
# With --smoke each scenario takes seconds, figures mean nothing, and everything goes to target/bench-smoke.
#
# BENCH_HARNESS: the program (default: built here).
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

# Name, seconds that it takes about, scenario, what else `bench-harness run` is told.
runs=(
  "hand 15 hand"
  "hand-synced 20 hand-synced"
  "fold-keys 40 fold --param keys=zipf,uniform,hot"
  "fold-cardinality 90 fold --param keys=uniform cardinality=1,1k,50k,1M"
  "fold-key-types 40 fold --param key=i64,string --repeats 3"
  "fold-shards 90 fold-shards --param keys=uniform,zipf routing=hash,round-robin"
  "fold-wal 30 fold-wal"
  "latency-load 130 latency --param rate=1M,2M,5M,10M events=10M device_block=104k"
  "result-latency 140 result-latency --param pull_interval=10ms,50ms,100ms --repeats 3"
  "engine-arrow 60 engine --param durability=none,os,sync"
  "engine-formats 90 engine --param format=arrow,parquet,csv,ndjson events=5M --repeats 3"
  "engine-shards 40 engine --param shards=1,2 against=none"
  "engine-groups 70 engine --param keys=uniform cardinality=50k,1M against=none --repeats 3"
  "coordinator-shards 40 coordinator --param shards=1,8 groups=50k"
  "coordinator-64 70 coordinator --param shards=64 groups=50k panes=12 --repeats 3"
  "coordinator-million 150 coordinator --param shards=8 groups=1M panes=12 --repeats 3 --warmups 0"
  "coordinator-emission 60 coordinator --param shards=1 groups=50k,1M panes=16 --repeats 3"
  "coordinator-ratio 90 coordinator --param shards=1 groups=500 ratio=10,60,600,3600 panes=4000 --repeats 3"
  "snapshot 30 snapshot"
  "recovery-size 60 recovery --param events=1M,5M,20M"
  "hand-off 15 hand-off --param chunk=1,16"
  "hand-off-loaded 60 hand-off --param runs=100 chunk=1,16 items=2M load=2 --repeats 1"
  "export 60 export --param format=csv,ndjson,parquet,arrow --repeats 3"
  "sketches 90 sketches --param sketch=quantile,distinct,top,variance --repeats 3"
  "network-load 200 network --param load=100,25,50,75,90"
  "network-tls 200 network --param transport=tls load=100,25,50,75,90"
  "network-5M 50 network --param rate=5M"
  "network-durability 70 network --param durability=none,os,sync --repeats 3"
  "network-value 100 network --param event=24 load=100,50 --repeats 3"
)

smoke= again= list=
results=results
names=()
while [ $# -gt 0 ]; do
  case "$1" in
    --smoke) smoke=1 results=target/bench-smoke ;;
    --again) again=1 ;;
    --list) list=1 ;;
    --results)
      [ $# -ge 2 ] || { echo "bench.sh: --results wants a directory" >&2; exit 2; }
      results="$2"
      shift
      ;;
    -*) echo "bench.sh: unknown flag $1" >&2; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done

# Whether a run with the words in $1 and $2 is asked for.
is_wanted() {
  local name
  [ "${#names[@]}" -gt 0 ] || return 0
  for name in "${names[@]}"; do
    if [ "$name" = "$1" ] || [ "$name" = "$2" ]; then
      return 0
    fi
  done
  return 1
}

if [ -n "$list" ]; then
  total=0
  for run in "${runs[@]}"; do
    read -r name seconds scenario more <<<"$run"
    printf '%-22s %4s s  bench-harness run %s %s\n' "$name" "$seconds" "$scenario" "$more"
    total=$((total + seconds))
  done
  printf 'all: about %s minutes, without building\n' "$(((total + 30) / 60))"
  exit 0
fi

harness="${BENCH_HARNESS:-}"
if [ -z "$harness" ]; then
  cargo build --locked --release -p corefold-bench -p corefold-engine
  target="$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
  harness="$target/release/bench-harness"
fi

if [ -n "$smoke" ]; then
  rm -rf "$results"
  mapfile -t runs < <("$harness" list | sed -n 's/^  \([a-z-]*\): .*/\1 30 \1 --smoke/p')
fi
for name in "${names[@]}"; do
  printf '%s\n' "${runs[@]}" | grep -Eq "^($name [0-9]+ |[^ ]+ [0-9]+ $name( |\$))" || {
    echo "bench.sh: no run and no scenario is called $name; --list shows them" >&2
    exit 2
  }
done

mkdir -p "$results"
today="$(date -u +%Y-%m-%d)"
failed=()
for run in "${runs[@]}"; do
  read -r name seconds scenario more <<<"$run"
  is_wanted "$name" "$scenario" || continue
  if [ -z "$again" ] && compgen -G "$results/$today-*-$name/run.json" >/dev/null; then
    echo "bench.sh: $name has been measured today" >&2
    continue
  fi
  read -ra words <<<"$more"
  timeout -k 10 "$((4 * seconds + 60))" "$harness" run "$scenario" "${words[@]}" --label "$name" --output "$results" || {
    echo "bench.sh: $name FAILED (exit code $?)" >&2
    failed+=("$name")
  }
done

# Of this program alone: peers leave a run.json of another kind.
directories=()
for record in "$results"/*/run.json; do
  if grep -q '"scenario"' "$record" 2>/dev/null; then
    directories+=("$(dirname "$record")")
  fi
done
[ "${#directories[@]}" -eq 0 ] || "$harness" report "${directories[@]}" --output "$results/report.html"
if [ "${#failed[@]}" -gt 0 ]; then
  echo "bench.sh: failed: ${failed[*]}" >&2
  exit 1
fi
