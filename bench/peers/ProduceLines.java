import java.io.BufferedReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Lines of a file as records, by the producer of Apache Kafka, in large batches: BROKERS TOPIC FILE. */
final class ProduceLines {
  public static void main(String[] args) throws Exception {
    Map<String, Object> config =
        Map.of(
            "bootstrap.servers", args[0],
            "acks", "all",
            "compression.type", "zstd",
            "linger.ms", 20,
            "batch.size", 1_000_000);
    ByteArraySerializer bytes = new ByteArraySerializer();
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config, bytes, bytes);
        BufferedReader lines = Files.newBufferedReader(Path.of(args[2]))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine())
        producer.send(new ProducerRecord<>(args[1], line.getBytes(StandardCharsets.UTF_8)));
    }
  }
}
