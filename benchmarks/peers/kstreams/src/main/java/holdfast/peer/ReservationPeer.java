package holdfast.peer;

import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.CloseOptions.GroupMembershipOperation;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.Stores;

/**
 * The same work as Kafka Streams does it: reserve one line of one stock key, idempotent by request id, one
 * reservation record each, reply; RocksDB stores, exactly_once_v2, the same Avro bytes in and out.
 *
 * <p>It is spared what Holdfast does beyond that: levels above the stock key, supply events (every key starts with
 * the supply given by --supply), expiry, holds listed by reservation.
 */
public final class ReservationPeer {
    static final String STOCK = "stock";
    static final String RESERVATIONS = "reservations";

    private ReservationPeer() {}

    public static void main(String[] arguments) throws InterruptedException {
        Map<String, String> options = options(arguments);
        KafkaStreams streams = new KafkaStreams(topology(options).build(), settings(options));
        CountDownLatch stopped = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(fault -> {
            fault.printStackTrace();
            Runtime.getRuntime().halt(3); // A benchmark of a half-broken peer is no benchmark.
            return null;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            // Left behind, its membership keeps the group, and the next run waiting, for 45 s.
            streams.close(CloseOptions.timeout(Duration.ofSeconds(5))
                    .withGroupMembershipOperation(GroupMembershipOperation.LEAVE_GROUP));
            stopped.countDown();
        }));
        streams.start();
        stopped.await();
    }

    private static StreamsBuilder topology(Map<String, String> options) {
        long supply = Long.parseLong(options.get("supply"));
        int schemaId = Integer.parseInt(options.get("result-schema-id"));
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(STOCK), Serdes.String(), Serdes.Long()));
        builder.addStateStore(Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(RESERVATIONS), Serdes.String(), Serdes.ByteArray()));
        builder.stream(options.get("requests"), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .process(() -> new Reserve(supply, schemaId), STOCK, RESERVATIONS)
                .to(options.get("results"), Produced.with(Serdes.String(), Serdes.ByteArray()));
        return builder;
    }

    private static Map<String, String> options(String[] arguments) {
        Map<String, String> options = new TreeMap<>();
        for (int index = 0; index + 1 < arguments.length; index += 2) {
            options.put(arguments[index].substring(2), arguments[index + 1]);
        }
        return options;
    }

    private static Properties settings(Map<String, String> options) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, options.get("group"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("bootstrap"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, options.get("state"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, options.get("threads"));
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, options.get("commit-ms"));
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        return settings;
    }
}
