#!/usr/bin/env bash
# Measures Corefold and its peers side by side: the same events, the same answer, in turn.
#
#   scripts/peers/run.sh [--rows N] [--keys zipf|uniform|million] [--window hop|tumble] [--input arrow|csv|parquet]
#                        [--peers a,b,...] [--repeats R] [--output DIR] [--limit-s S] [--slow-s S] [--smoke]
#   scripts/peers/run.sh --all [other flags but --keys, --window and --output]
#   scripts/peers/run.sh --install [--peers a,b,...]
#
# Peers: loop duckdb polars chdb datafusion timely flink statsd. Writes summary.md and run.json to the output folder; exit
# code 1 if an answer is wrong or a peer fails. `--all` runs the four workloads one after the other: zipf hop, zipf tumble,
# uniform hop, million hop. `--install` only installs. `--smoke` is for tests: the loop and Corefold, 200,000 rows, one
# round, no network.
#
# Environment: COREFOLD and BENCH_HARNESS, the two programs (default: those in target/release, then those in PATH);
# COREFOLD_PEERS_DIR, where peers and data are kept (default: .cache beside this file); COREFOLD_PEERS_CORE, the core
# for what has one thread (default: the last one allowed). docs/peers.md says what is measured.
set -eu

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(cd "$HERE/../.." && pwd)"
PEERS="${COREFOLD_PEERS_DIR:-$HERE/.cache}"

ROWS=20000000
KEYS=zipf
WINDOW=hop
INPUT=arrow
WANTED=loop,duckdb,polars,chdb,datafusion,timely,flink,statsd
REPEATS=5
OUTPUT=
LIMIT_S=900
SLOW_S=60
ALL=
INSTALL=
WORDS=("$@")

fail() {
  printf 'run.sh: %s\n' "$*" >&2
  exit 2
}

# $1 flag, $2 value, the rest: allowed values.
one_of() {
  local flag="$1" value="$2" allowed
  shift 2
  for allowed in "$@"; do
    [ "$value" != "$allowed" ] || return 0
  done
  fail "$flag: $value is none of: $*"
}

while [ $# -gt 0 ]; do
  if [ "$1" = --smoke ]; then
    ROWS=200000 WANTED=loop REPEATS=1
    export COREFOLD_PEERS_OFFLINE=1
    shift
    continue
  fi
  if [ "$1" = --all ] || [ "$1" = --install ]; then
    [ "$1" = --all ] && ALL=1 || INSTALL=1
    shift
    continue
  fi
  [ $# -ge 2 ] || fail "$1: unknown, or wants a value"
  case "$1" in
    --rows) ROWS="$2" ;;
    --keys) KEYS="$2" ;;
    --window) WINDOW="$2" ;;
    --input) INPUT="$2" ;;
    --peers) WANTED="$2" ;;
    --repeats) REPEATS="$2" ;;
    --output) OUTPUT="$2" ;;
    --limit-s) LIMIT_S="$2" ;;
    --slow-s) SLOW_S="$2" ;;
    *) fail "unknown flag $1" ;;
  esac
  shift 2
done
one_of --keys "$KEYS" zipf uniform million
one_of --window "$WINDOW" hop tumble
one_of --input "$INPUT" arrow csv parquet
for number in "$ROWS" "$REPEATS" "$LIMIT_S" "$SLOW_S"; do
  case "$number" in
    '' | 0 | *[!0-9]*) fail "$number is no whole number above 0" ;;
  esac
done
for peer in ${WANTED//,/ }; do
  one_of --peers "$peer" loop duckdb polars chdb datafusion timely flink statsd
done

# All workloads, each by this script again. One that fails does not keep the others from being measured.
if [ -n "$ALL" ]; then
  words=()
  for word in "${WORDS[@]}"; do
    case "$word" in
      --all) ;;
      --keys | --window | --output) fail "--all and $word exclude each other" ;;
      *) words+=("$word") ;;
    esac
  done
  failed=()
  for workload in "zipf hop" "zipf tumble" "uniform hop" "million hop"; do
    read -r keys window <<<"$workload"
    printf 'run.sh: %s, began %s\n' "$workload" "$(date -u +%H:%M:%S)" >&2
    "$0" "${words[@]}" --keys "$keys" --window "$window" || failed+=("$workload")
  done
  [ "${#failed[@]}" -eq 0 ] || {
    printf 'run.sh: not all is well with: %s\n' "$(IFS=,; printf '%s' "${failed[*]}")" >&2
    exit 1
  }
  exit 0
fi

# $1 given path, $2 name of the program.
program() {
  if [ -n "$1" ]; then
    printf '%s\n' "$1"
  elif [ -x "${CARGO_TARGET_DIR:-$ROOT/target}/release/$2" ]; then
    printf '%s\n' "${CARGO_TARGET_DIR:-$ROOT/target}/release/$2"
  else
    command -v "$2" || fail "there is no $2: cargo build --release --workspace, or set COREFOLD and BENCH_HARNESS"
  fi
}

if [ -n "$INSTALL" ]; then
  mkdir -p "$PEERS"
  wanted=(bench)
  for peer in ${WANTED//,/ }; do
    [ "$peer" = loop ] || wanted+=("$peer")
  done
  for peer in "${wanted[@]}"; do
    if reason="$("$HERE/install.sh" "$peer")"; then
      printf 'run.sh: %s is installed\n' "$peer"
    else
      printf 'run.sh: SKIP %s: %s\n' "$peer" "$reason"
    fi
  done
  exit 0
fi

COREFOLD="$(program "${COREFOLD:-}" corefold)"
BENCH_HARNESS="$(program "${BENCH_HARNESS:-}" bench-harness)"
CORES="$(nproc)"
CORE="${COREFOLD_PEERS_CORE:-$(taskset -cp $$ | sed 's/.*[^0-9]//')}"
LABEL="peers-$KEYS-$WINDOW-$INPUT-$ROWS"
OUTPUT="${OUTPUT:-$ROOT/results/$(date -u +%Y-%m-%d)-$(uname -n)-$LABEL}"
mkdir -p "$PEERS/data" "$PEERS/scratch" "$OUTPUT"
PEERS="$(cd "$PEERS" && pwd)"
export COREFOLD_PEERS_DIR="$PEERS"
SCRATCH="$(mktemp -d "$PEERS/scratch/run.XXXXXX")"
trap 'rm -rf "$SCRATCH"' EXIT

# $1 format; made aside, so that a file with the name is whole.
data_file() {
  local file="$PEERS/data/$KEYS-$ROWS.$1" keys=50000 exponent=0
  [ "$KEYS" != million ] || keys=1000000
  [ "$KEYS" != zipf ] || exponent=1
  if [ ! -e "$file" ]; then
    printf 'run.sh: making %s\n' "$file" >&2
    "$BENCH_HARNESS" generate zipf --rows "$ROWS" --keys "$keys" --zipf "$exponent" --format "$1" \
      --output "$file.tmp" >&2
    mv "$file.tmp" "$file"
  fi
  printf '%s\n' "$file"
}

# Everything before the clock: programs, data.
"$HERE/install.sh" bench
LOOP="$PEERS/bench/target/release/hand_loop"
ANSWER="$PEERS/bench/target/release/answer"
DATA="$(data_file "$INPUT")"
COLUMNS_FILE="$PEERS/data/$KEYS-$ROWS.columns"

# shellcheck source-path=SCRIPTDIR
. "$HERE/plan.sh"
corefold_entries >"$OUTPUT/plan.tsv"
for peer in ${WANTED//,/ }; do
  if [ "$peer" != loop ]; then
    code=0
    reason="$("$HERE/install.sh" "$peer")" || code=$?
    if [ "$code" -ne 0 ]; then
      [ "$code" -eq 3 ] || reason="it could not be installed (exit code $code)"
      printf 'run.sh: SKIP %s: %s\n' "$peer" "$reason" >&2
      skipped "$peer" "$peer" "$reason" >>"$OUTPUT/plan.tsv"
      continue
    fi
  fi
  if { [ "$peer" = flink ] || [ "$peer" = statsd ]; } && [ "$INPUT" = arrow ] && [ ! -e "$COLUMNS_FILE" ]; then
    "$ANSWER" columns "$DATA" "$COLUMNS_FILE.tmp"
    mv "$COLUMNS_FILE.tmp" "$COLUMNS_FILE"
  fi
  entries_of "$peer" >>"$OUTPUT/plan.tsv"
done

inputs=(--input "$DATA")
[ ! -e "$COLUMNS_FILE" ] || inputs+=(--input "$COLUMNS_FILE")
code=0
"$PEERS/bench/target/release/referee" "${inputs[@]}" --plan "$OUTPUT/plan.tsv" --events "$ROWS" --rounds "$REPEATS" \
  --output "$OUTPUT" --limit-s "$LIMIT_S" --slow-s "$SLOW_S" \
  --title "$("$COREFOLD" --version) and peers: $KEYS keys, $WINDOW, $INPUT input" || code=$?
# Where things lie on this machine is of no interest to readers.
for name in plan.tsv run.json summary.md; do
  if [ -e "$OUTPUT/$name" ]; then
    sed -i -e "s|$PEERS|peers|g" -e "s|$(dirname "$COREFOLD")/||g" -e "s|$ROOT/||g" "$OUTPUT/$name"
  fi
done
printf 'run.sh: %s\n' "$OUTPUT/summary.md"
exit "$code"
