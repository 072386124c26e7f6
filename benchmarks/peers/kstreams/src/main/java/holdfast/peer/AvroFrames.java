package holdfast.peer;

import holdfast.ReservationRequest;
import holdfast.ReservationResult;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.avro.specific.SpecificDatumWriter;

/** Confluent frames (a zero byte, a four-byte schema id, the Avro body) with every reusable object reused. */
final class AvroFrames {
    private static final int FRAME_BYTES = 5;

    private final byte[] frame;
    private final SpecificDatumReader<ReservationRequest> reader =
            new SpecificDatumReader<>(ReservationRequest.getClassSchema());
    private final SpecificDatumWriter<ReservationResult> writer =
            new SpecificDatumWriter<>(ReservationResult.getClassSchema());
    private final ByteArrayOutputStream out = new ByteArrayOutputStream(256);
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;

    AvroFrames(int schemaId) {
        this.frame = ByteBuffer.allocate(FRAME_BYTES).put((byte) 0).putInt(schemaId).array();
    }

    ReservationRequest read(byte[] value) {
        decoder = DecoderFactory.get().binaryDecoder(value, FRAME_BYTES, value.length - FRAME_BYTES, decoder);
        try {
            return reader.read(null, decoder);
        } catch (IOException fault) {
            throw new UncheckedIOException(fault);
        }
    }

    byte[] write(ReservationResult result) {
        out.reset();
        out.writeBytes(frame);
        encoder = EncoderFactory.get().directBinaryEncoder(out, encoder);
        try {
            writer.write(result, encoder);
            encoder.flush();
        } catch (IOException fault) {
            throw new UncheckedIOException(fault);
        }
        return out.toByteArray();
    }
}
