import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.connector.source.lib.NumberSequenceSource;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.DoubleType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TimestampType;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * Flink SQL in one process: events from arrays in memory, a windowing table function, parallelism as given.
 *
 * <p>Events enter as Flink's own internal rows, so that nothing is parsed or converted. Results go to the blackhole
 * connector; in a checking run they are collected and summed up as in bench/src/summary.rs.
 *
 * <p>{@code FlinkPeer --data COLUMNS --window hop|tumble --threads N [--check]}
 */
public final class FlinkPeer {
    private static final long GOLDEN = 0x9E3779B97F4A7C15L;

    /** The events, filled before the job starts; job and arrays live in one process. */
    private static long[] timesMs;

    private static long[] keys;
    private static double[] values;

    private FlinkPeer() {}

    /** Runs the job and prints one line of JSON. */
    public static void main(String[] words) throws Exception {
        Map<String, String> given = arguments(words);
        boolean check = given.containsKey("--check");
        long start = System.nanoTime();
        load(Path.of(given.get("--data")));
        long loaded = System.nanoTime();
        long loadedCpu = cpuNanoseconds();
        StreamTableEnvironment tables = environment(Integer.parseInt(given.get("--threads")));
        String query = query(given.get("--window"));
        String answer = "";
        if (check) {
            answer = ", \"answer\": " + summary(tables.executeSql(query));
        } else {
            tables.executeSql(
                    "CREATE TEMPORARY TABLE nowhere (window_start TIMESTAMP(3), `key` BIGINT, n BIGINT, total DOUBLE,"
                            + " least DOUBLE, greatest DOUBLE) WITH ('connector' = 'blackhole')");
            tables.executeSql("INSERT INTO nowhere " + query).await();
        }
        long done = System.nanoTime();
        long doneCpu = cpuNanoseconds();
        System.out.printf(
                Locale.ROOT,
                "{\"load_s\": %.6f, \"query_s\": %.6f, \"query_cpu_s\": %.6f, \"version\": \"%s, Java %s\"%s}%n",
                (loaded - start) / 1e9,
                (done - loaded) / 1e9,
                (doneCpu - loadedCpu) / 1e9,
                EnvironmentInformation.getVersion(),
                System.getProperty("java.version"),
                answer);
        // Threads of the small cluster may linger; there is nothing left to do.
        System.exit(0);
    }

    /** Processor time of all threads of this process. */
    private static long cpuNanoseconds() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    private static Map<String, String> arguments(String[] words) {
        Map<String, String> given = new HashMap<>();
        for (int at = 0; at < words.length; at++) {
            given.put(words[at], words[at].equals("--check") ? "" : words[++at]);
        }
        return given;
    }

    /** Reads what {@code answer columns} wrote: all times, all keys, all values, 8 bytes each. */
    private static void load(Path path) throws IOException {
        try (FileChannel file = FileChannel.open(path)) {
            int count = Math.toIntExact(file.size() / 24);
            timesMs = new long[count];
            keys = new long[count];
            values = new double[count];
            column(file, 0, count).get(timesMs);
            column(file, 1, count).get(keys);
            LongBuffer bits = column(file, 2, count);
            for (int index = 0; index < count; index++) {
                values[index] = Double.longBitsToDouble(bits.get(index));
            }
        }
    }

    private static LongBuffer column(FileChannel file, int index, int count) throws IOException {
        long size = 8L * count;
        return file.map(FileChannel.MapMode.READ_ONLY, index * size, size)
                .order(ByteOrder.LITTLE_ENDIAN)
                .asLongBuffer();
    }

    /** State on the heap, no checkpoints, no copies between operators. */
    private static StreamTableEnvironment environment(int threads) {
        Configuration settings = new Configuration();
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("state.backend.type", "hashmap");
        settings.setString("taskmanager.memory.managed.size", "512m");
        settings.setString("taskmanager.numberOfTaskSlots", Integer.toString(threads));
        StreamExecutionEnvironment jobs = StreamExecutionEnvironment.createLocalEnvironment(threads, settings);
        RowType row =
                RowType.of(
                        new LogicalType[] {new TimestampType(3), new BigIntType(), new DoubleType()},
                        new String[] {"ts", "key", "value"});
        DataStream<RowData> events =
                jobs.fromSource(
                                new NumberSequenceSource(0, timesMs.length - 1),
                                WatermarkStrategy.noWatermarks(),
                                "events")
                        .map(new Event())
                        .returns(InternalTypeInfo.of(row));
        StreamTableEnvironment tables = StreamTableEnvironment.create(jobs);
        // A watermark says that its own millisecond is over; many events share one.
        Schema schema =
                Schema.newBuilder()
                        .column("ts", "TIMESTAMP(3)")
                        .column("key", "BIGINT")
                        .column("value", "DOUBLE")
                        .watermark("ts", "ts - INTERVAL '0.001' SECOND")
                        .build();
        tables.createTemporaryView("events", events, schema);
        return tables;
    }

    /** The row of an index. */
    private static final class Event implements MapFunction<Long, RowData> {
        @Override
        public RowData map(Long index) {
            int at = index.intValue();
            return GenericRowData.of(TimestampData.fromEpochMillis(timesMs[at]), keys[at], values[at]);
        }
    }

    private static String query(String window) {
        String windows =
                window.equals("hop")
                        ? "HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '10' SECOND)"
                        : "TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND)";
        return "SELECT window_start, `key`, COUNT(*), SUM(`value`), MIN(`value`), MAX(`value`) FROM TABLE("
                + windows
                + ") GROUP BY window_start, window_end, `key`";
    }

    /** The canonical summary as JSON, step by step as the other peers compute it. */
    private static String summary(TableResult result) throws Exception {
        long rows = 0;
        long events = 0;
        long hashes = 0;
        double sums = 0;
        double weighted = 0;
        try (CloseableIterator<Row> all = result.collect()) {
            while (all.hasNext()) {
                Row row = all.next();
                long windowMs = ((LocalDateTime) row.getField(0)).toInstant(ZoneOffset.UTC).toEpochMilli();
                long count = (long) row.getField(2);
                double sum = (double) row.getField(3);
                long[] fields = {
                    windowMs,
                    (long) row.getField(1),
                    count,
                    Double.doubleToRawLongBits((double) row.getField(4)),
                    Double.doubleToRawLongBits((double) row.getField(5))
                };
                long hash = GOLDEN;
                for (long field : fields) {
                    hash = mix((hash + GOLDEN) ^ field);
                }
                rows += 1;
                events += count;
                hashes += hash;
                sums += sum;
                weighted += sum * ((hash >>> 11) / (double) (1L << 53));
            }
        }
        return String.format(
                Locale.ROOT,
                "{\"rows\": %d, \"events\": %d, \"hash\": \"%016x\", \"sum\": %.17g, \"weighted\": %.17g}",
                rows,
                events,
                hashes,
                sums,
                weighted);
    }

    /** The finalizer of splitmix64. */
    private static long mix(long bits) {
        bits = (bits ^ (bits >>> 30)) * 0xBF58476D1CE4E5B9L;
        bits = (bits ^ (bits >>> 27)) * 0x94D049BB133111EBL;
        return bits ^ (bits >>> 31);
    }
}
