# shellcheck shell=bash
# The plan of a run: which commands are measured. Read by run.sh, which has set the variables in capitals.
#
# An entry is a line of `name, what, cores, prepare, check, command`, split by tabs; nothing is run here.

AGGREGATES='count(), sum(value), min(value), max(value)'

entry() { printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$@"; }

# $1 name, $2 what it would have been, $3 reason.
skipped() { printf '%s\t%s\tSKIP\t%s\n' "$1" "$2" "$3"; }

# Whether the input is one that the loops can read.
is_arrow() { [ "$INPUT" = arrow ]; }

# Where results and inputs of Corefold are: the process reads the file and writes typed results to nowhere.
corefold_command() {
  local output="$1" windows="--window 10s --slide 1s"
  shift
  [ "$WINDOW" = hop ] || windows="--window 1s"
  printf "'%s' aggregate '%s' --time ts --by key %s --agg '%s' --output '%s' --output-format arrow --quiet %s" \
    "$COREFOLD" "$DATA" "$windows" "$AGGREGATES" "$output" "$*"
}

corefold_check() {
  local result="$SCRATCH/corefold.arrow"
  printf "%s && '%s' summary '%s' && rm -f '%s'" "$(corefold_command "$result" "$@")" "$ANSWER" "$result" "$result"
}

corefold_entries() {
  local log="$SCRATCH/corefold.log.tmp" fresh durable
  entry corefold "--shards 1: one core folds, another reads, merges and writes" "" "" \
    "$(corefold_check --shards 1)" "$(corefold_command /dev/null --shards 1)"
  entry corefold-one-core "--shards 1, confined to one core" "$CORE" "" "" "$(corefold_command /dev/null --shards 1)"
  if [ "$CORES" -gt 2 ]; then
    entry corefold-all "--shards auto: all cores" "" "" "$(corefold_check)" "$(corefold_command /dev/null)"
  fi
  is_arrow || return 0
  fresh="rm -rf '$log'"
  durable="--shards 1 --data-dir '$log' --durability sync"
  case "$(stat -f -c %T "$SCRATCH")" in
    ext2/ext3 | xfs)
      entry corefold-durable "--shards 1, durability sync" "" "$fresh" "$(corefold_check "$durable")" \
        "$(corefold_command /dev/null "$durable")"
      entry corefold-durable-one-core "--shards 1, durability sync, confined to one core" "$CORE" "$fresh" "" \
        "$(corefold_command /dev/null "$durable")"
      ;;
    *) skipped corefold-durable "--shards 1, durability sync" "$SCRATCH is neither on ext4 nor on XFS" ;;
  esac
}

loop_entries() {
  local command="'$LOOP' --data '$DATA' --window $WINDOW" slots inflight
  if ! is_arrow; then
    skipped loop "hand-written loop" "it reads Arrow only"
    return 0
  fi
  for slots in dense hash; do
    entry "loop-$slots" "hand-written loop, $([ "$slots" = dense ] && echo "the key is the slot" || echo "hash table")" \
      "$CORE" "" "$command --slots $slots --check" "$command --slots $slots"
  done
  for inflight in 1 4; do
    entry "loop-log-$inflight" "loop-hash with checksums and synced blocks of 256 KiB, $inflight in flight" "$CORE" "" \
      "$command --slots hash --log-dir '$SCRATCH' --inflight $inflight --check" \
      "$command --slots hash --log-dir '$SCRATCH' --inflight $inflight"
  done
}

# $1 peer, $2 what it is; once with one thread on one core, once with all.
python_entries() {
  local peer="$1" what="$2" command="env POLARS_MAX_THREADS=@N@ '$PEERS/$1/venv/bin/python' '$HERE/python/$1_peer.py'"
  command="$command --data '$DATA' --input $INPUT --window $WINDOW --threads @N@"
  entry "$peer-1" "$what, 1 thread" "$CORE" "" "${command//@N@/1} --check" "${command//@N@/1}"
  if [ "$CORES" -gt 1 ]; then
    entry "$peer-$CORES" "$what, $CORES threads" "" "" "${command//@N@/$CORES} --check" "${command//@N@/$CORES}"
  fi
}

timely_entries() {
  local command="'$PEERS/timely/target/release/corefold-peers-timely' --data '$DATA' --window $WINDOW"
  if is_arrow; then
    entry timely "Timely Dataflow, one worker" "$CORE" "" "$command --check" "$command"
  else
    skipped timely "Timely Dataflow, one worker" "it has no readers of its own; measured with Arrow input"
  fi
}

flink_entries() {
  local folder="$PEERS/flink" opens="" package command heap_mib
  if ! is_arrow; then
    skipped flink "Flink SQL, parallelism 1" "measured with events in memory only"
    return 0
  fi
  for package in lang util util.concurrent time; do
    opens="$opens --add-opens=java.base/java.$package=ALL-UNNAMED"
  done
  heap_mib="$(awk '/^MemTotal/ { print int($2 / 2048) }' /proc/meminfo)"
  command="java$opens -Xms${heap_mib}m -Xmx${heap_mib}m -XX:+UseParallelGC"
  command="$command '-Dlog4j.configurationFile=$HERE/flink/log4j2.properties' -cp '$folder/classes:$folder/lib/*'"
  command="$command FlinkPeer --data '$COLUMNS_FILE' --window $WINDOW --threads 1"
  entry flink "Flink SQL, parallelism 1, heap $heap_mib MiB" "$CORE" "" "$command --check" "$command"
  if [ "$CORES" -gt 1 ]; then
    entry flink-all-cores "the same, but its other threads have the other cores" "" "" "" "$command"
  fi
}

# It counts, and does nothing else of the job.
statsd_entries() {
  local what="statsd, events by key and second over TCP on loopback: counting only"
  if [ "$WINDOW" != tumble ] || ! is_arrow; then
    skipped statsd "$what" "it has no windows: it counts by second with --window tumble and --input arrow"
    return 0
  fi
  entry statsd "$what" "" "" "" \
    "node --max-old-space-size=8192 '$HERE/statsd/ingest.js' --statsd '$PEERS/statsd/node_modules/statsd' --scratch '$SCRATCH' --data '$COLUMNS_FILE'"
}

# The entries of one peer.
entries_of() {
  case "$1" in
    loop) loop_entries ;;
    duckdb) python_entries duckdb DuckDB ;;
    polars) python_entries polars Polars ;;
    chdb) python_entries chdb "chDB (ClickHouse)" ;;
    datafusion) python_entries datafusion DataFusion ;;
    timely) timely_entries ;;
    flink) flink_entries ;;
    statsd) statsd_entries ;;
  esac
}
