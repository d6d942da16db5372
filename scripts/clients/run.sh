#!/usr/bin/env bash
# Sends to a running engine with clients that are not ours, and checks what comes out of it.
#
#   scripts/clients/run.sh [CLIENT...]
#
# Clients: curl hot-shots influx (npm) datadog statsd influxdb influxdb-client pyarrow (PyPI); all of them if none is named.
# Each is installed into target/clients in the version named here, and prints PASS, FAIL or SKIP with the reason (no node, no
# python3, no registry). Exit code 1 if one fails. COREFOLD is the program; without it, it is built.
set -eu

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$here/../.."
place="${COREFOLD_CLIENTS_DIR:-$root/target/clients}"
mkdir -p "$place"
place="$(cd "$place" && pwd)"

node_packages="hot-shots@17.1.1 influx@5.12.0"
python_packages="datadog==0.56.0 statsd==4.0.1 influxdb==5.3.2 influxdb-client==1.50.0 pyarrow==26.0.1"

say() { printf 'clients: %s\n' "$*" >&2; }

if [ -z "${COREFOLD:-}" ]; then
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p corefold-engine
  COREFOLD="$root/target/debug/corefold"
fi
COREFOLD="$(cd "$(dirname "$COREFOLD")" && pwd)/$(basename "$COREFOLD")"

# Installs what a client needs; says why not on standard output and returns 3.
install_node() {
  command -v npm >/dev/null || { echo "there is no npm"; return 3; }
  [ "$(cat "$place/node/installed" 2>/dev/null || true)" = "$node_packages" ] && return 0
  mkdir -p "$place/node"
  say "npm: $node_packages"
  # shellcheck disable=SC2086  # a list of words
  npm install --prefix "$place/node" --no-audit --no-fund --omit=optional --ignore-scripts $node_packages >"$place/npm.log" 2>&1 ||
    { echo "npm cannot install: see $place/npm.log"; return 3; }
  printf '%s\n' "$node_packages" >"$place/node/installed"
}

install_python() {
  command -v python3 >/dev/null || { echo "there is no python3"; return 3; }
  python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "python3 lacks venv (Debian: python3-venv)"; return 3; }
  [ "$(cat "$place/python/installed" 2>/dev/null || true)" = "$python_packages" ] && return 0
  say "PyPI: $python_packages"
  python3 -m venv "$place/python" >"$place/pip.log" 2>&1 || { echo "no environment: see $place/pip.log"; return 3; }
  # shellcheck disable=SC2086  # a list of words
  "$place/python/bin/pip" install --quiet --disable-pip-version-check $python_packages >>"$place/pip.log" 2>&1 ||
    { echo "pip cannot install: see $place/pip.log"; return 3; }
  printf '%s\n' "$python_packages" >"$place/python/installed"
}

# Starts an engine in $1 and waits until it listens. Ports are those of the system.
start_engine() {
  rm -rf "$1"
  mkdir -p "$1"
  cp "$here/engine.toml" "$1/engine.toml"
  "$COREFOLD" run "$1/engine.toml" --progress never 2>"$1/said" &
  engine=$!
  for _ in $(seq 600); do
    [ "$(grep -c '^listening on' "$1/said" || true)" -ge 5 ] && break
    kill -0 "$engine" 2>/dev/null || { cat "$1/said" >&2; return 1; }
    sleep 0.1
  done
  address() { sed -n "s/^listening on \([^ ]*\) .*($1)\$/\1/p" "$work/said"; }
  STATSD_UDP="$(address 'statsd udp')" STATSD_TCP="$(address 'statsd tcp')" NDJSON="$(address 'ndjson tcp')"
  ARROW="$(address 'arrow tcp')" HTTP="$(address 'http')"
  export STATSD_UDP STATSD_TCP NDJSON ARROW HTTP
  for _ in $(seq 600); do
    curl -sf "http://$HTTP/health" >/dev/null && return 0
    sleep 0.1
  done
  return 1
}

# Runs the client $1 by the words behind it, and compares what the engine wrote with what it should have.
client() {
  name="$1"
  shift
  work="$place/work/$name"
  if ! start_engine "$work"; then
    echo "FAIL $name: the engine does not start"
    failed=1
    return
  fi
  ok=1
  "$@" >"$work/client" 2>&1 || { ok=0; why="the client: $(tail -n 1 "$work/client")"; }
  kill -TERM "$engine"
  wait "$engine" || { ok=0; why="the engine: $(tail -n 1 "$work/said")"; }
  if [ "$ok" = 1 ] && ! diff "$here/expected/$name.csv" "$work/out.csv" >"$work/difference" 2>&1; then
    ok=0
    why="other results: see $work/difference"
  fi
  if [ "$ok" = 1 ]; then
    echo "PASS $name: $(sed -n '/^way in/p' "$work/said" | grep -v ' 0 rows' | sed 's/^way in *//' | tr '\n' ';')"
  else
    echo "FAIL $name: $why"
    failed=1
  fi
}

failed=0
engine=""
trap '[ -z "$engine" ] || kill "$engine" 2>/dev/null || true' EXIT

[ $# -gt 0 ] || set -- curl hot-shots influx datadog statsd influxdb influxdb-client pyarrow
for wanted in "$@"; do
  case "$wanted" in
    curl)
      if command -v curl >/dev/null; then client curl "$here/curl.sh"; else echo "SKIP curl: there is no curl"; fi
      ;;
    hot-shots | influx)
      if why="$(install_node)"; then
        NODE_PATH="$place/node/node_modules" client "$wanted" node "$here/$wanted.js"
      else
        echo "SKIP $wanted: $why"
      fi
      ;;
    datadog | statsd | influxdb | influxdb-client | pyarrow)
      if why="$(install_python)"; then
        client "$wanted" "$place/python/bin/python" "$here/python/$wanted.py"
      else
        echo "SKIP $wanted: $why"
      fi
      ;;
    *)
      echo "there is no client $wanted" >&2
      exit 2
      ;;
  esac
done
exit "$failed"
