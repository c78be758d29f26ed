#!/usr/bin/env bash
# Which partition a key goes to is each Kafka client's own affair: some send it where the Java client does, some need a
# setting for that. docs/clients.md has the table.
#
# Seen with kafka-clients 4.3.1, kafka-python 3.0.12, aiokafka 0.14.0, kafkajs 2.2.4, franz-go 1.22.3, confluent-kafka
# 2.16.1 (librdkafka 2.16.0), kcat 1.7.1 (librdkafka 2.0.2), sarama 1.61.1 and kafka-go 0.4.51, of 60 keys:
#   partitions                              2   3   8  12
#   kafka-python                           60  60  60  60
#   aiokafka                               60  60  60  60
#   kafkajs                                60  60  60  60
#   kafkajs.LegacyPartitioner              29  14   7   2
#   franz-go                               60  60  60  60
#   confluent-kafka                        29  24   7   7
#   confluent-kafka.murmur2_random         60  60  60  60
#   kcat                                   29  24   7   7
#   kcat.murmur2_random                    60  60  60  60
#   sarama                                 33  18   8   6
#   sarama.NewReferenceHashPartitioner     33  19  10   6
#   sarama.NewMurmur2Partitioner           60  60  60  60
#   kafka-go.RoundRobin                    26  14   5   3
#   kafka-go.Hash                          33  18   8   6
#   kafka-go.ReferenceHash                 33  19  10   6
#   kafka-go.CRC32Balancer                 29  24   7   7
#   kafka-go.Murmur2Balancer               60  60  60  60
# aiokafka, kafkajs, confluent-kafka and kcat send to librdkafka's own mock broker, on a free port of 127.0.0.1, and the
# records are read from there. Of the others the code that chooses is called, with the client's own default: Java's
# BuiltInPartitioner, kafka-python's DEFAULT_CONFIG["partitioner"], franz-go's kgo.RecordPartitioner, sarama's NewConfig.
# kafka-go has no default that can be called: it takes RoundRobin, which is tried by name.
#
# Needs Debian 12 (amd64) with java 17, mvn, python3 with venv, node 20 with npm, and go 1.26; works in a temporary folder. Ends
# with 1 if the behaviour is another one.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

cat >pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>finding</groupId><artifactId>clients</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId><version>4.3.1</version>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
mvn --batch-mode --quiet -DincludeScope=runtime -DoutputDirectory=lib dependency:copy-dependencies
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1 kafka-python==3.0.12 aiokafka==0.14.0
npm install --silent --no-audit --no-fund --ignore-scripts kafkajs@2.2.4
apt-get download --quiet kcat=1.7.1-2 librdkafka1=2.0.2-1 libyajl2 >/dev/null 2>&1
for package in *.deb; do dpkg-deb --extract "$package" kcat; done

cat >Java.java <<'JAVA'
import java.nio.file.*;
import java.util.*;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

/** COUNT...: a line for each key of keys.json, its partitions by the Java client. */
public class Java {
    public static void main(String[] counts) throws Exception {
        for (String hex : Files.readString(Path.of("keys.json")).replaceAll("[\\[\\]\"\\s]", "").split(",", -1)) {
            byte[] key = HexFormat.of().parseHex(hex);
            List<String> partitions = new ArrayList<>();
            for (String count : counts) {
                int partition = BuiltInPartitioner.partitionForKey(key, Integer.parseInt(count));
                int expected = Utils.toPositive(Utils.murmur2(key)) % Integer.parseInt(count);
                if (partition != expected) throw new AssertionError(hex);
                partitions.add("" + partition);
            }
            System.out.println(String.join(" ", partitions));
        }
    }
}
JAVA

cat >send.js <<'JS'
const { Kafka, Partitioners, logLevel } = require("kafkajs")
const [address, ...counts] = process.argv.slice(2)
const keys = require("./keys.json").map((hex) => Buffer.from(hex, "hex"))
async function send(name, options) {
  const producer = new Kafka({ brokers: [address], logLevel: logLevel.ERROR }).producer(options)
  await producer.connect()
  for (const count of counts)
    await producer.send({ topic: `${name}-${count}`, messages: keys.map((key, i) => ({ key, value: `${i}` })) })
  await producer.disconnect()
}
send("kafkajs")
  .then(() => send("kafkajs.LegacyPartitioner", { createPartitioner: Partitioners.LegacyPartitioner }))
  .catch((error) => { console.error(error.message); process.exit(1) })
JS

mkdir go
cat >go/go.mod <<'MOD'
module finding

go 1.26

require (
	github.com/IBM/sarama v1.61.1
	github.com/segmentio/kafka-go v0.4.51
	github.com/twmb/franz-go v1.22.3
)
MOD

cat >go/main.go <<'GO'
// main COUNT...: for each client a line with its name, and the partition of each key of keys.json for each count.
package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var texts []string
	file, err := os.ReadFile("keys.json")
	must(err)
	must(json.Unmarshal(file, &texts))

	try := func(name string, choose func(key []byte, count int) int) {
		fmt.Print(name)
		for _, text := range os.Args[1:] {
			count, err := strconv.Atoi(text)
			must(err)
			for _, text := range texts {
				key, err := hex.DecodeString(text)
				must(err)
				fmt.Print(" ", choose(key, count))
			}
		}
		fmt.Println()
	}
	ibm := func(name string, constructor sarama.PartitionerConstructor) {
		partitioner := constructor("topic")
		try(name, func(key []byte, count int) int {
			partition, err := partitioner.Partition(&sarama.ProducerMessage{Key: sarama.ByteEncoder(key)}, int32(count))
			must(err)
			return int(partition)
		})
	}
	segmentio := func(name string, balancer kafka.Balancer) {
		try(name, func(key []byte, count int) int {
			partitions := make([]int, count)
			for i := range partitions {
				partitions[i] = i
			}
			return balancer.Balance(kafka.Message{Key: key}, partitions...)
		})
	}

	client, err := kgo.NewClient()
	must(err)
	franz := client.OptValue(kgo.RecordPartitioner).(kgo.Partitioner).ForTopic("topic").(kgo.TopicBackupPartitioner)
	try("franz-go", func(key []byte, count int) int {
		return franz.PartitionByBackup(&kgo.Record{Key: key}, count, nil) // of a record with a key it asks for no more
	})
	ibm("sarama", sarama.NewConfig().Producer.Partitioner)
	ibm("sarama.NewReferenceHashPartitioner", sarama.NewReferenceHashPartitioner)
	ibm("sarama.NewMurmur2Partitioner", sarama.NewMurmur2Partitioner)
	segmentio("kafka-go.RoundRobin", &kafka.RoundRobin{})
	segmentio("kafka-go.Hash", &kafka.Hash{})
	segmentio("kafka-go.ReferenceHash", &kafka.ReferenceHash{})
	segmentio("kafka-go.CRC32Balancer", kafka.CRC32Balancer{})
	segmentio("kafka-go.Murmur2Balancer", kafka.Murmur2Balancer{})
}
GO

cat >run.py <<'PY'
import asyncio, ctypes, glob, json, os, subprocess, sys, sysconfig
import kafka
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, Producer, TopicPartition

KEYS = [b"abcdefghi"[:size] for size in range(1, 10)]
KEYS += [bytes(range(0x80, 0x80 + size)) for size in range(1, 10)]
KEYS += [b"\xff" * size for size in range(1, 10)]
KEYS += [text.encode() for text in ("é", "ключ", "鍵", "مفتاح", "🙂", "e\u0301", "visitor=ünï")]
KEYS += [b"198.51.100.%d" % last for last in range(1, 16)]
KEYS += [b"2001:db8::%x" % last for last in (1, 0xFF, 0xFFFE)]
KEYS += [b"%064x" % 7919**power for power in range(10, 17)]
KEYS += [b"x" * 1000]
assert len(set(KEYS)) == len(KEYS) == 60
COUNTS = (2, 3, 8, 12)
# Does the client, by default or with what comes after the dot, send each key where the Java client does?
AGREES = {
    "kafka-python": True,
    "aiokafka": True,
    "kafkajs": True,
    "kafkajs.LegacyPartitioner": False,
    "franz-go": True,
    "confluent-kafka": False,
    "confluent-kafka.murmur2_random": True,
    "kcat": False,
    "kcat.murmur2_random": True,
    "sarama": False,
    "sarama.NewReferenceHashPartitioner": False,
    "sarama.NewMurmur2Partitioner": True,
    "kafka-go.RoundRobin": False,
    "kafka-go.Hash": False,
    "kafka-go.ReferenceHash": False,
    "kafka-go.CRC32Balancer": False,
    "kafka-go.Murmur2Balancer": True,
}


def broker():
    """The address of librdkafka's own mock broker, on 127.0.0.1, which has all topics."""
    library = ctypes.CDLL(glob.glob(sysconfig.get_paths()["purelib"] + "/confluent_kafka.libs/librdkafka-*")[0])
    library.rd_kafka_new.restype = library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.rd_kafka_mock_topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    error = ctypes.create_string_buffer(512)
    cluster = library.rd_kafka_mock_cluster_new(library.rd_kafka_new(0, None, error, len(error)), 1)
    for name in AGREES:
        for count in COUNTS:
            assert library.rd_kafka_mock_topic_create(cluster, f"{name}-{count}".encode(), count, 1) == 0
    return library.rd_kafka_mock_cluster_bootstraps(cluster).decode()


def confluent(name, **options):
    producer = Producer({"bootstrap.servers": ADDRESS, "log_level": 0, **options})
    for count in COUNTS:
        for number, key in enumerate(KEYS):
            producer.produce(f"{name}-{count}", str(number), key)
    assert producer.flush(60) == 0


async def aiokafka():
    producer = AIOKafkaProducer(bootstrap_servers=ADDRESS)
    await producer.start()
    for count in COUNTS:
        for sent in [await producer.send(f"aiokafka-{count}", str(n).encode(), key) for n, key in enumerate(KEYS)]:
            await sent
    await producer.stop()


def kcat(name, *options):
    lines = b"".join(key + b"\t%d\n" % number for number, key in enumerate(KEYS))
    for count in COUNTS:
        command = ["kcat/usr/bin/kcat", "-P", "-b", ADDRESS, "-t", f"{name}-{count}", "-K", "\t", *options]
        library_path = {"LD_LIBRARY_PATH": "kcat/usr/lib/x86_64-linux-gnu"}
        subprocess.run(command, input=lines, env={**os.environ, **library_path}, check=True)


def arrived(name, count):
    """In which partition each key is, in the topic's own words."""
    topic = f"{name}-{count}"
    consumer = Consumer({"bootstrap.servers": ADDRESS, "group.id": "g", "log_level": 0, "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(count)])
    places = {}
    while len(places) < len(KEYS):
        messages = consumer.consume(len(KEYS), 20)
        assert messages, f"{topic} has {len(places)} of {len(KEYS)} records"
        for message in messages:
            assert message.error() is None, message.error()
            places[int(message.value())] = message.partition()
    consumer.close()
    return [places[number] for number in range(len(KEYS))]


class Topic:
    """What kafka-python's partitioner asks of the metadata: its producer does not get on with the mock broker."""

    def __init__(self, count):
        self._partitions = set(range(count))

    def topics(self):
        return {"topic"}

    def partitions_for_topic(self, topic):
        return self._partitions

    available_partitions_for_topic = partitions_for_topic


def kafka_python(count):
    partitioner = kafka.KafkaProducer.DEFAULT_CONFIG["partitioner"]
    return [partitioner.partition("topic", key, key, b"", b"", Topic(count)) for key in KEYS]


with open("keys.json", "w") as file:
    json.dump([key.hex() for key in KEYS], file)
counts = [str(count) for count in COUNTS]
ADDRESS = broker()
lines = subprocess.check_output(["java", "-Xmx64m", "-cp", "lib/*", "Java.java", *counts], text=True).splitlines()
java = dict(zip(COUNTS, zip(*([int(place) for place in line.split()] for line in lines))))
confluent("confluent-kafka")
confluent("confluent-kafka.murmur2_random", partitioner="murmur2_random")
asyncio.run(aiokafka())
kcat("kcat")
kcat("kcat.murmur2_random", "-X", "partitioner=murmur2_random")
os.environ["KAFKAJS_NO_PARTITIONER_WARNING"] = "1"
subprocess.run(["node", "send.js", ADDRESS, *counts], check=True)
go = {}
for line in subprocess.check_output(["./choose", *counts], text=True).splitlines():
    name, *places = line.split()
    go[name] = dict(zip(COUNTS, zip(*[map(int, places)] * len(KEYS), strict=True), strict=True))

print(f"of {len(KEYS)} keys, as many go where Java's go, of", ", ".join(counts), "partitions:")
other = False
for name, agrees in AGREES.items():
    places = go.get(name) or {
        count: kafka_python(count) if name == "kafka-python" else arrived(name, count) for count in COUNTS
    }
    same = [sum(a == b for a, b in zip(java[count], places[count])) for count in COUNTS]
    expected = agrees == (same == [len(KEYS)] * len(COUNTS))
    print(f"  {name:36}", *(f"{number:3}" for number in same), "" if expected else "  not as expected")
    other |= not expected
sys.exit(other)
PY
(
    cd go
    go mod tidy
    go build -o ../choose .
) 2>go.log || { cat go.log >&2; exit 1; }
venv/bin/python run.py
