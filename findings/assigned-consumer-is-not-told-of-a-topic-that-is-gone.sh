#!/usr/bin/env bash
# A consumer that subscribes to a topic that does not exist, or no longer, gets UNKNOWN_TOPIC_OR_PART within a minute. One that
# is assigned the topic's partitions gets no error at all, neither of a topic that never was nor of one that is deleted while
# it reads: consume() gives nothing, as if nothing came. Who assigns must ask the broker for the topic by itself.
#
# Seen with confluent-kafka 2.16.1 and Apache Kafka 4.3.1 (KRaft, one broker, automatic creation of topics off), 60 s each:
#   subscribed, never was:      UNKNOWN_TOPIC_OR_PART
#   assigned, never was:        nothing
#   assigned, deleted meanwhile: nothing
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
auto.create.topics.enable=false
CONF
java -Xmx128m -cp 'lib/*' kafka.tools.StorageTool format --config server.properties --cluster-id 4L6g3nShT-eMCtK--X86sw >format.log 2>&1
java -Xmx384m -cp 'lib/*' kafka.Kafka server.properties >broker.log 2>&1 &
broker=$!

cat >client.py <<'PY'
import sys, time
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BROKER = {"bootstrap.servers": "127.0.0.1:39092", "log_level": 0}
admin = AdminClient(BROKER)
admin.create_topics([NewTopic("log", 1)])["log"].result(30)
producer = Producer(BROKER)
producer.produce("log", "value", partition=0)
assert producer.flush(30) == 0

def consumer():
    return Consumer({**BROKER, "group.id": "g", "enable.auto.commit": False, "auto.offset.reset": "error"})

def errors(client, seconds):
    until, found = time.monotonic() + seconds, set()
    while time.monotonic() < until:
        found |= {message.error().name() for message in client.consume(10, 1) if message.error()}
    return " ".join(sorted(found)) or "nothing"

subscribed = consumer()
subscribed.subscribe(["never"])
assigned = consumer()
assigned.assign([TopicPartition("never", 0, 0)])
reading = consumer()
reading.assign([TopicPartition("log", 0, 0)])
first = reading.consume(1, 30)
assert [message.value() for message in first] == [b"value"]
admin.delete_topics(["log"])["log"].result(30)
told = {
    "subscribed, never was:": errors(subscribed, 60),
    "assigned, never was:": errors(assigned, 60),
    "assigned, deleted meanwhile:": errors(reading, 60),
}
for what, error in told.items():
    print(f"{what:28} {error}")
sys.exit(list(told.values()) != ["UNKNOWN_TOPIC_OR_PART", "nothing", "nothing"])
PY
venv/bin/python client.py
