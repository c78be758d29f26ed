"""The topology: one spout plans ranges of offsets, sketch bolts count them, one bolt merges rows; a partition always meets
the same bolt."""

from streamparse import Grouping, Topology

from contract.settings import Settings
from speed.merge_bolt import MergeBolt
from speed.range_spout import RangeSpout
from speed.sketch_bolt import SketchBolt


class Braid(Topology):
    range_spout = RangeSpout.spec()
    sketch_bolt = SketchBolt.spec(inputs={range_spout: Grouping.fields("partition")}, par=Settings.from_env().bolts)
    merge_bolt = MergeBolt.spec(inputs={sketch_bolt: Grouping.fields("partition")})

    config = {  # noqa: RUF012 streamparse reads it from the class
        "topology.workers": 1,
        "topology.acker.executors": 1,
        # A bolt that stands still is replaced after this time. It must be longer than what a bolt waits for a server in
        # silence: 30 s for Kafka. While it re-reads its window after a restart it says so now and then.
        "topology.subprocess.timeout.secs": 45,
        # A bolt acks nothing while it re-reads.
        "topology.message.timeout.secs": 180,
        # Between tuples an executor parks 1,000 times before it sleeps, and then for 1 ms only: that alone took a third of a
        # core. Tuples come some ten times a second here, so 2 ms of sleep are hardly felt.
        "topology.bolt.wait.progressive.level2.count": 10,
        "topology.bolt.wait.progressive.level3.sleep.millis": 2,
    }
