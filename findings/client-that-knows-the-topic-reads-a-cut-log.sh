#!/usr/bin/env bash
# A consumer that is assigned (offset, leader epoch) asks the broker whether that epoch reached so far, and reports a log that
# was cut below it (KIP-320). It does not ask if it has heard of the topic before, by list_topics for one: then it reads on
# in silence, in records that took the place of the lost ones.
#
# Seen with confluent-kafka 2.16.1 and Apache Kafka 4.3.1 (KRaft, one broker):
#   new client:               _AUTO_OFFSET_RESET ... Partition log truncation detected ...
#   client after list_topics: reads on from offset 1000
# The log loses its end as in a power failure: the broker is killed, its segment cut, the broker started, other records sent.
#
# Needs java 17, mvn and python3 with venv; works in a temporary folder and on ports 39092 and 39093 of 127.0.0.1. Ends with 1 if
# the behaviour is another one.
set -euo pipefail
place=$(mktemp -d)
broker=
finish() {
    [[ -z $broker ]] || kill -9 "$broker" 2>/dev/null || true
    rm -rf "$place"
}
trap finish EXIT
cd "$place"

cat >pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>finding</groupId><artifactId>kafka</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.3.1</version>
  </dependency></dependencies>
</project>
POM
mvn --batch-mode --quiet -DincludeScope=runtime -DoutputDirectory=lib dependency:copy-dependencies
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1

cat >server.properties <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:39093
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:39092,CONTROLLER://127.0.0.1:39093
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$place/data
offsets.topic.replication.factor=1
CONF
java -Xmx128m -cp 'lib/*' kafka.tools.StorageTool format --config server.properties --cluster-id 4L6g3nShT-eMCtK--X86sw >format.log 2>&1

start() {
    java -Xmx384m -cp 'lib/*' kafka.Kafka server.properties >>broker.log 2>&1 &
    broker=$!
}

cat >client.py <<'PY'
import struct, sys
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BROKER = {"bootstrap.servers": "127.0.0.1:39092", "log_level": 0}
STEP = sys.argv[1]

def send(first, count):
    producer = Producer({**BROKER, "acks": "all", "linger.ms": 0, "batch.num.messages": 10})
    for number in range(first, first + count):
        producer.produce("log", str(number), partition=0)
    assert producer.flush(30) == 0

def consumer():
    return Consumer({**BROKER, "group.id": "g", "enable.auto.commit": False, "auto.offset.reset": "error"})

def first_answer(client):
    for _ in range(30):
        message = client.poll(1)
        if message is not None:
            return f"{message.error().name()}: {message.error().str()}" if message.error() else f"reads on from offset {message.offset()}"
    return "nothing for 30 s"

if STEP == "fill":
    admin = AdminClient(BROKER)  # one that is not kept ends before it answers
    admin.create_topics([NewTopic("log", 1)])["log"].result(30)
    send(0, 1000)
elif STEP == "cut":
    path = sys.argv[2]
    log = open(path, "rb").read()
    at = 0
    while at < len(log):  # batches end where a record does
        base, length = struct.unpack(">qi", log[at : at + 12])
        if base >= 700:
            break
        at += 12 + length
    open(path, "r+b").truncate(at)
else:
    send(2000, 600)
    at = TopicPartition("log", 0, 1000, leader_epoch=0)
    new = consumer()
    new.assign([at])
    told = first_answer(new)
    print("new client:              ", told)
    knows = consumer()
    knows.list_topics("log", timeout=10)
    knows.assign([at])
    silent = first_answer(knows)
    print("client after list_topics:", silent)
    sys.exit(not ("truncation detected" in told and silent == "reads on from offset 1000"))
PY

start
venv/bin/python client.py fill
kill -9 "$broker"
wait "$broker" 2>/dev/null || true
venv/bin/python client.py cut data/log-0/00000000000000000000.log
start
venv/bin/python client.py look
