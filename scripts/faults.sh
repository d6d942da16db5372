#!/usr/bin/env bash
# Tries the faults of docs/reliability.md on the real program and prints a line for each row: PASS, FAIL or SKIP.
#
#   scripts/faults.sh [--quick] [--times N] [--seed N] [--report FILE] [--scratch DIR] [ROW...]
#
# Without rows, all of them. Rows are numbered as in the fault matrix; S changes the number of shards over restarts, N kills
# producers and server, D slows disks down under producers.
# Root is needed for disks of one's own (loop devices, compressed memory) and control groups; without it those rows say
# SKIP. Everything that is made is taken down again, also when the script is interrupted.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi
cargo build --locked --release --quiet -p corefold-engine -p corefold-bench
target="$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
harness="$target/release/bench-harness"
scratch="$target/faults"
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --scratch)
      scratch="$2"
      shift 2
      ;;
    *)
      arguments+=("$1")
      shift
      ;;
  esac
done

# The harness takes its disks down itself. If it is killed it cannot, so whatever is left below the scratch directory is
# taken down here: first thawed, then unmounted, then detached.
clean() {
  local place device
  while read -r place; do
    fsfreeze --unfreeze "$place" 2>/dev/null || true
    umount --lazy "$place" 2>/dev/null || true
  done < <(awk -v scratch="$(realpath "$scratch")/" 'index($2, scratch) == 1 { print $2 }' /proc/mounts | sort -r)
  if command -v losetup >/dev/null && [ "$(id -u)" -eq 0 ]; then
    while IFS=: read -r device _; do
      [ -z "$device" ] || losetup --detach "$device" 2>/dev/null || true
    done < <(losetup --all 2>/dev/null | grep -F "$(realpath "$scratch")/" || true)
  fi
}
mkdir -p "$scratch"
trap clean EXIT

"$harness" faults --corefold "$target/release/corefold" --scratch "$scratch" "${arguments[@]+"${arguments[@]}"}"
