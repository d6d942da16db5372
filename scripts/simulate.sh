#!/usr/bin/env bash
# Runs the simulator over a range of seeds, on all allowed cores, and writes a report that can be committed.
#
#   scripts/simulate.sh FROM TO [REPORT.md]     seeds FROM to TO - 1
#
# A failing seed is printed with the command that shows it again; the exit code says whether there was one.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ] || ! [[ "$1" =~ ^[0-9]+$ && "$2" =~ ^[0-9]+$ ]] || [ "$1" -ge "$2" ]; then
  echo "usage: scripts/simulate.sh FROM TO [REPORT.md]" >&2
  exit 2
fi
from="$1"
to="$2"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
report="${3:-$root/results/simulation-$from-$to.md}"
report="$(realpath -m "$report")"
cd "$root"
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi

cargo build --release --locked --quiet -p corefold-bench --bin bench-harness
target="$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
harness="$target/release/bench-harness"
tables="$(mktemp)"
log="$(mktemp)"
trap 'rm -f "$tables" "$log"' EXIT

commit="$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)"
if [ -n "$(git status --porcelain 2>/dev/null)" ]; then commit="$commit, changed"; fi
threads="$(nproc)"
started="$(date -u +%Y-%m-%dT%H:%M:%SZ)"
begin=$SECONDS
status=0
"$harness" simulate --from "$from" --count "$((to - from))" --threads "$threads" --report "$tables" | tee "$log" || status=$?
seconds=$((SECONDS - begin))
# The program counts from its own start; whole seconds are enough here.
rate=$(((to - from) / (seconds > 0 ? seconds : 1)))

model="$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)"
{
  echo "# Simulation of seeds $from to $((to - 1))"
  echo
  echo "| | |"
  echo "|---|---|"
  echo "| command | \`scripts/simulate.sh $from $to\` |"
  echo "| commit | $commit |"
  echo "| begun | $started |"
  echo "| time | $seconds s, $rate seeds per second |"
  echo "| machine | $threads threads, ${model:-unknown processor}, Linux $(uname -r) |"
  echo "| result | $([ "$status" -eq 0 ] && echo 'every seed passed' || echo 'some seeds FAILED, see below') |"
  echo
  cat "$tables"
  if [ "$status" -ne 0 ]; then
    echo
    echo "## Failures"
    echo
    echo '```text'
    sed -n '1,/^| what/p' "$log" | grep -v '^| what' | head -n 200
    echo '```'
  fi
} >"$report"
echo "report: $report"
exit "$status"
