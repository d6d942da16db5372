#!/usr/bin/env bash
# Fuzzes everything that reads bytes from outside, and writes a report in Markdown.
#
#   scripts/fuzz.sh [--minutes N] [--report FILE] [TARGET...]
#
# Without targets, all of them, one after the other, N minutes each (30). With cargo-fuzz and a compiler that it accepts (a
# nightly, or RUSTC_BOOTSTRAP=1) the fuzzer has feedback; otherwise inputs come from seeds, on stable Rust. Memory is bounded
# to 4 GiB. Inputs that break a promise are left below target/fuzz; the exit code is then 1.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi

minutes=30
report=""
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --minutes) minutes="$2"; shift 2 ;;
    --report) report="$2"; shift 2 ;;
    *) targets+=("$1"); shift ;;
  esac
done

cargo build --locked --quiet -p corefold-bench
target_directory="$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
harness="$target_directory/debug/bench-harness"
if [ ${#targets[@]} -eq 0 ]; then
  mapfile -t targets < <("$harness" list | sed -n '/fuzz TARGET/,$p' | sed -n 's/^    \([a-z]*\) .*/\1/p')
fi
place="$target_directory/fuzz"
mkdir -p "$place"

# Feedback, where it can be had.
way="seeds"
if cargo fuzz --version >/dev/null 2>&1 &&
  cargo fuzz build --sanitizer none --fuzz-dir bench-harness/fuzz >"$place/build.log" 2>&1; then
  way="feedback"
fi

seconds=$(awk -v minutes="$minutes" 'BEGIN { print int(minutes * 60) }')
rows=""
findings_all=0
for target in "${targets[@]}"; do
  kept="$place/$target"
  mkdir -p "$kept/grown" "$kept/start" "$kept/found"
  corpus="bench-harness/fuzz/corpus/$target"
  log="$kept/log.txt"
  if [ "$way" = feedback ]; then
    "$harness" fuzz "$target" --seeds 0..300 --write "$kept/start" >/dev/null || true
    cargo fuzz run --sanitizer none --fuzz-dir bench-harness/fuzz "$target" \
      "$kept/grown" "$kept/start" "$corpus" -- "-max_total_time=$seconds" -max_len=16384 -timeout=30 \
      -rss_limit_mb=2048 -malloc_limit_mb=1024 "-artifact_prefix=$kept/found/" -print_final_stats=1 >"$log" 2>&1 || true
    executions="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)"
    findings="$(find "$kept/found" -type f ! -name 'slow-unit-*' | wc -l)"
  else
    (
      ulimit -v 4194304
      "$harness" fuzz "$target" --files "$corpus" --keep "$kept/found"
      "$harness" fuzz "$target" --minutes "$minutes" --from "$(date +%s)000000" --keep "$kept/found"
    ) >"$log" 2>&1 || true
    executions="$(sed -n "s/^$target: \([0-9]*\) inputs in.*/\1/p" "$log" | tail -1)"
    findings="$(find "$kept/found" -type f | wc -l)"
    # A hang ends the process before it can count.
    if [ -z "$executions" ]; then findings=$((findings + 1)); fi
  fi
  echo "$target: ${executions:-0} executions, $findings findings"
  rows+="| $target | $minutes | ${executions:-0} | $findings |"$'\n'
  findings_all=$((findings_all + findings))
done

if [ -n "$report" ]; then
  {
    echo "# Fuzzing"
    echo
    echo "\`scripts/fuzz.sh --minutes $minutes ${targets[*]}\`, inputs by $way, $(date -u +%F)."
    echo
    echo "- commit: $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with changes')"
    echo "- machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, Linux $(uname -r)"
    echo "- compiler: $(rustc --version)"
    echo
    echo "| target | minutes | executions | findings |"
    echo "|---|---|---|---|"
    printf '%s' "$rows"
  } >"$report"
fi
[ "$findings_all" -eq 0 ]
