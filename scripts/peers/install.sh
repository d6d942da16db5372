#!/usr/bin/env bash
# Installs peers, each into a folder of its own, and does nothing for those that are there.
#
#   scripts/peers/install.sh PEER...      peers: bench duckdb polars chdb datafusion timely flink statsd
#
# The folder is scripts/peers/.cache, or COREFOLD_PEERS_DIR. Packages come from PyPI, crates.io and npm in the versions
# named here. Exit code 3: the peer cannot be had on this machine; standard output says why.
set -eu

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
peers="${COREFOLD_PEERS_DIR:-$here/.cache}"

duckdb_packages="duckdb==2.0.0 pyarrow==26.0.1 numpy"
polars_packages="polars==2.1.0 pyarrow==26.0.1 numpy"
chdb_packages="chdb==4.4.0 pyarrow==26.0.1 numpy"
datafusion_packages="datafusion==55.0.0 pyarrow==26.0.1 numpy"
flink_version=2.3.0
statsd_version=0.9.0

say() { printf 'install.sh: %s\n' "$*" >&2; }

skip() {
  printf '%s\n' "$*"
  exit 3
}

# Whether the peer in $1 is there in the version $2; a folder without the mark is a broken installation.
is_there() { [ "$(cat "$peers/$1/installed" 2>/dev/null || true)" = "$2" ]; }

mark() { printf '%s\n' "$2" >"$peers/$1/installed"; }

# A Python environment of its own for the peer in $1.
python_environment() {
  command -v python3 >/dev/null || skip "there is no python3"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || skip "Python 3.10 or later is needed"
  python3 -c 'import venv, ensurepip' 2>/dev/null || skip "python3 lacks venv (Debian: python3-venv)"
  python3 -m venv "$peers/$1/venv"
}

# The peer in $1 with the packages in $2.
python_peer() {
  local peer="$1" packages="$2"
  is_there "$peer" "$packages" && return 0
  say "$peer: $packages"
  python_environment "$peer"
  # shellcheck disable=SC2086  # a list of words
  "$peers/$peer/venv/bin/pip" install --quiet --disable-pip-version-check $packages >&2
  mark "$peer" "$packages"
}

# A Cargo project of ours; cargo itself sees whether anything changed. Other words go to cargo.
cargo_peer() {
  local peer="$1"
  shift
  mkdir -p "$peers/$peer"
  CARGO_TARGET_DIR="$peers/$peer/target" cargo build --release --locked --quiet \
    --manifest-path "$here/$peer/Cargo.toml" "$@" >&2
}

# Java with its compiler, from Debian's packages if nobody has to be asked.
java_or_skip() {
  if command -v java >/dev/null && command -v javac >/dev/null; then
    return 0
  fi
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    skip "there is no Java compiler (Debian: openjdk-17-jdk-headless)"
  fi
  say "flink: installing openjdk-17-jdk-headless"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    openjdk-17-jdk-headless; } >&2 || skip "openjdk-17-jdk-headless could not be installed"
}

# The jars are those of apache-flink on PyPI, which keeps them in a source package of its own. The program is Java, so
# that no row passes through Python.
flink_peer() {
  local folder="$peers/flink" archive sum
  java_or_skip
  if [ ! -e "$folder/lib/flink-dist-$flink_version.jar" ]; then
    say "flink: apache-flink-libraries==$flink_version (330 MB)"
    rm -rf "${folder:?}/download" "${folder:?}/lib"
    mkdir -p "$folder/download"
    archive="$folder/download/apache_flink_libraries-$flink_version.tar.gz"
    python_environment flink
    "$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps \
      --no-binary apache-flink-libraries -d "$folder/download" "apache-flink-libraries==$flink_version" >&2
    tar -xzf "$archive" -C "$folder/download"
    mv "$folder/download/apache_flink_libraries-$flink_version/deps/lib" "$folder/lib"
    rm -rf "$folder/download"
  fi
  sum="$(cksum <"$here/flink/FlinkPeer.java")"
  if ! is_there flink "$flink_version $sum"; then
    javac -cp "$folder/lib/*" -d "$folder/classes" "$here/flink/FlinkPeer.java"
    mark flink "$flink_version $sum"
  fi
}

statsd_peer() {
  command -v node >/dev/null || skip "there is no node"
  command -v npm >/dev/null || skip "there is no npm"
  is_there statsd "$statsd_version" && return 0
  say "statsd: statsd@$statsd_version"
  mkdir -p "$peers/statsd"
  # Its one optional native module, for syslog, is left out.
  (cd "$peers/statsd" && npm install --silent --no-audit --no-fund --ignore-scripts --omit=optional \
    --prefix . "statsd@$statsd_version" >&2)
  mark statsd "$statsd_version"
}

[ $# -gt 0 ] || {
  say "which peers? see the head of this file"
  exit 2
}
mkdir -p "$peers"
for peer in "$@"; do
  case "$peer" in
    bench) if [ "${COREFOLD_PEERS_OFFLINE:-}" = 1 ]; then cargo_peer bench --offline; else cargo_peer bench; fi ;;
    timely) cargo_peer timely ;;
    duckdb) python_peer duckdb "$duckdb_packages" ;;
    polars) python_peer polars "$polars_packages" ;;
    chdb) python_peer chdb "$chdb_packages" ;;
    datafusion) python_peer datafusion "$datafusion_packages" ;;
    flink) flink_peer ;;
    statsd) statsd_peer ;;
    *)
      say "no peer is called $peer"
      exit 2
      ;;
  esac
done
