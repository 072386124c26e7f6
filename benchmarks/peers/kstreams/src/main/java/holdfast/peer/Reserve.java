package holdfast.peer;

import holdfast.RequestLine;
import holdfast.ReservationRequest;
import holdfast.ReservationResult;
import holdfast.ResultLine;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Map;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * One reservation: answer a known request id with its reservation record, else check the stock key, count the
 * reserved quantity up and write the record. Quantities are integers of 10^-6.
 *
 * <p>The reservation record is: code (4 bytes), reserved quantity and availability after it (8 bytes each), stock key.
 */
final class Reserve implements Processor<byte[], byte[], String, byte[]> {
    private static final int ACCEPTED = 1;
    private static final int INSUFFICIENT_STOCK = 60;
    private static final int RECORD_HEAD_BYTES = 20;

    private final long supply;
    private final AvroFrames frames;
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, Long> stock;
    private KeyValueStore<String, byte[]> reservations;
    private long sequence;

    Reserve(long supply, int schemaId) {
        this.supply = supply;
        this.frames = new AvroFrames(schemaId);
    }

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
        this.context = context;
        this.stock = context.getStateStore(ReservationPeer.STOCK);
        this.reservations = context.getStateStore(ReservationPeer.RESERVATIONS);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        ReservationRequest request = frames.read(record.value());
        String id = request.getRequestId();
        byte[] known = reservations.get(id);
        byte[] reservation = known == null ? decide(request) : known;
        ReservationResult result = result(id, reservation, known != null, record.timestamp());
        context.forward(new Record<>(id, frames.write(result), record.timestamp()));
    }

    private byte[] decide(ReservationRequest request) {
        RequestLine line = request.getLines().get(0);
        long quantity = new BigInteger(bytes(line.getQuantity())).longValueExact();
        String key = stockKey(request.getOrganizationId(), line);
        Long before = stock.get(key);
        long reserved = before == null ? 0 : before;
        boolean fits = reserved + quantity <= supply;
        if (fits) {
            reserved += quantity;
            stock.put(key, reserved);
        }
        byte[] keyBytes = key.getBytes(java.nio.charset.StandardCharsets.UTF_8);
        byte[] reservation = ByteBuffer.allocate(RECORD_HEAD_BYTES + keyBytes.length)
                .putInt(fits ? ACCEPTED : INSUFFICIENT_STOCK)
                .putLong(fits ? quantity : 0)
                .putLong(supply - reserved)
                .put(keyBytes)
                .array();
        reservations.put(request.getRequestId(), reservation);
        return reservation;
    }

    private static String stockKey(String organization, RequestLine line) {
        Map<String, String> dimensions = line.getDimensions();
        return organization + "|" + line.getProductId() + "|" + dimensions.get("siteid") + "|"
                + dimensions.get("locationid") + "|" + dimensions.get("colorid") + "|" + dimensions.get("sizeid");
    }

    private ReservationResult result(String id, byte[] reservation, boolean replayed, long decidedAtMs) {
        ByteBuffer head = ByteBuffer.wrap(reservation);
        int code = head.getInt();
        ResultLine line = new ResultLine(
                code, "", code == ACCEPTED ? id : "", decimal(head.getLong()), decimal(head.getLong()), null);
        long offset = context.recordMetadata().orElseThrow().offset();
        return new ReservationResult(id, code, ++sequence, decidedAtMs, offset, replayed, List.of(line));
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static ByteBuffer decimal(long unscaled) {
        return ByteBuffer.wrap(BigInteger.valueOf(unscaled).toByteArray());
    }
}
