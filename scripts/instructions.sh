#!/usr/bin/env bash
# Counts the instructions of the hot loops by callgrind, and fails where a loop takes over 5 % more than the table says.
#
#   scripts/instructions.sh             compare with bench-harness/benches/instructions.txt
#   scripts/instructions.sh --update    write that table anew
#   scripts/instructions.sh --write F   write a table of what was counted to F; nothing is compared
#
# A count does not depend on what else the machine does, only on the code, the compiler and the instruction sets that
# valgrind shows the program (it knows AVX2, and no AVX-512). Under another compiler or other sets the differences are
# shown and not judged. Without valgrind it says SKIP and ends well; `apt-get install valgrind` brings it.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

table=bench-harness/benches/instructions.txt
write=""
case "${1:-}" in
  "") ;;
  --update) write="$table" ;;
  --write) write="${2:?--write needs a file}" ;;
  *)
    echo "usage: scripts/instructions.sh [--update | --write FILE]" >&2
    exit 2
    ;;
esac
if ! command -v valgrind >/dev/null; then
  echo "SKIP: there is no valgrind (on Debian: apt-get install valgrind)"
  exit 0
fi

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

cargo bench --locked -p corefold-bench --bench instructions --no-run 2>"$scratch/build" || {
  cat "$scratch/build" >&2
  exit 1
}
program="$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$scratch/build")"
[ -n "$program" ] || {
  echo "instructions.sh: cargo names no executable" >&2
  cat "$scratch/build" >&2
  exit 1
}

conditions="$(rustc --version | cut -d ' ' -f 1,2), $(uname -m), $(valgrind --tool=none "$program" --paths 2>/dev/null)"
for name in $("$program" --list); do
  # The counted part is one function and all that it calls.
  if ! valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no --toggle-collect='*counted_loop*' \
    "$program" "$name" >"$scratch/out" 2>"$scratch/err"; then
    cat "$scratch/err" >&2
    exit 1
  fi
  collected="$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' "$scratch/err")"
  read -r _ items unit <"$scratch/out"
  if [ -z "$collected" ] || [ "$collected" -eq 0 ]; then
    echo "instructions.sh: callgrind counted nothing in $name" >&2
    exit 1
  fi
  awk -v name="$name" -v all="$collected" -v items="$items" -v unit="$unit" \
    'BEGIN { printf "%-16s %8.2f per %s\n", name, all / items, unit }' >>"$scratch/counted"
done

if [ -n "$write" ]; then
  {
    echo "# Instructions of the hot loops, by scripts/instructions.sh; the loops are in bench-harness/benches/instructions.rs."
    echo "# $conditions"
    cat "$scratch/counted"
  } >"$write"
  cat "$write"
  exit 0
fi

echo "counted with: $conditions"
is_same=0
grep -qxF "# $conditions" "$table" && is_same=1
[ "$is_same" -eq 1 ] || echo "the table is of:$(sed -n '2s/^#//p' "$table"); differences are shown, not judged"
awk -v is_same="$is_same" '
  FNR == NR { if ($1 != "#") before[$1] = $2; next }
  {
    if (!($1 in before)) { verdict = "not in the table"; missing = 1; printf "%-16s %8.2f per %-6s %s\n", $1, $2, $4, verdict; next }
    change = ($2 / before[$1] - 1) * 100
    verdict = change > 5 ? "MORE" : change < -5 ? "less: update the table" : ""
    printf "%-16s %8.2f per %-6s table %8.2f  %+6.1f %%  %s\n", $1, $2, $4, before[$1], change, verdict
    if (change > 5) more = 1
  }
  END { exit (is_same && (more || missing)) ? 1 : 0 }
' "$table" "$scratch/counted" || {
  echo "instructions.sh: FAILED; if that is meant to be, run scripts/instructions.sh --update" >&2
  exit 1
}
