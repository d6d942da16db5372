#!/usr/bin/env bash
# Everything that must hold before a change goes in, in one list. CI runs this file and nothing else.
#
#   scripts/check.sh          from any directory
#
# One profile (dev) is compiled: lints and docs share their half of it, tests and benchmarks the other.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

# What is missing is installed where nobody is asked: in CI, and for root on Debian.
if [ "${CI:-}" = true ] || { [ "$(id -u)" -eq 0 ] && [ -e /etc/debian_version ]; }; then
  scripts/setup.sh
fi
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi
if ! command -v cargo >/dev/null; then
  echo "check.sh: there is no cargo; run scripts/setup.sh to see what else is missing" >&2
  exit 1
fi

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

step() {
  local name="$1" start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if ! "$@"; then
    printf '\ncheck.sh: FAILED: %s\n' "$name" >&2
    exit 1
  fi
  printf '== %s: ok, %d s\n' "$name" "$((SECONDS - start))"
}

format() { cargo fmt --all -- --check; }

lint() { cargo clippy --locked --workspace --all-targets -- -D warnings; }

# A test that waits for ever fails here, by name, before a limit outside ends everything.
test_all() { timeout 3600 cargo test --locked --workspace --no-fail-fast; }

docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps; }

# Files and tests that the documents name, written `path/to/file.rs` or `path/to/file.rs::name`, must exist.
# shellcheck disable=SC2016  # the backquotes are Markdown's
names() {
  local reference path name wrong=0 count=0
  while read -r reference; do
    path="${reference%%::*}"
    name="${reference#"$path"}"
    name="${name#::}"
    count=$((count + 1))
    if [ ! -e "$path" ]; then
      echo "a document names $path, which does not exist" >&2
      wrong=1
    elif [ -n "$name" ] && ! grep -qE "fn $name\b" "$path"; then
      echo "a document names $reference, but $path has no such function" >&2
      wrong=1
    fi
  done < <(grep -ohE '`(aggregator|shards|engine|bench-harness|scripts|examples|docs)/[A-Za-z0-9_./-]+(::[a-z0-9_]+)?`' \
    README.md docs/*.md results/README.md | tr -d '`' | sort -u)
  echo "$count names"
  [ "$count" -gt 0 ] && [ "$wrong" -eq 0 ]
}

# The benchmarks' inputs and programs at a size that takes seconds: they must run, not be fast. The tests have
# compiled both programs.
smoke() {
  local target harness corefold answer
  target="$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
  harness="$target/debug/bench-harness"
  corefold="$target/debug/corefold"
  "$harness" generate zipf --rows 100000 --format arrow --output "$scratch/zipf.arrow" || return 1
  "$corefold" aggregate "$scratch/zipf.arrow" --time ts --by key --window 10s --slide 1s \
    --agg 'count(), sum(value), min(value), max(value)' --output "$scratch/zipf.csv" --quiet || return 1
  answer="$(wc -l <"$scratch/zipf.csv")"
  echo "zipf: 100000 events, $((answer - 1)) result rows"
  [ "$answer" -gt 1 ] || return 1
  "$harness" agree --corefold "$corefold" --count 25
}

step "format" format
step "lint" lint
step "tests" test_all
step "docs" docs
step "names in the documents" names
step "benchmarks at smoke size" smoke

printf '\ncheck.sh: all checks passed in %d s\n' "$SECONDS"
