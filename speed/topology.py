"""The topology: one spout plans ranges of offsets, sketch bolts count them; a partition always meets the same bolt."""

from streamparse import Grouping, Topology

from contract.settings import Settings
from speed.range_spout import RangeSpout
from speed.sketch_bolt import SketchBolt


class Braid(Topology):
    range_spout = RangeSpout.spec()
    sketch_bolt = SketchBolt.spec(inputs={range_spout: Grouping.fields("partition")}, par=Settings.from_env().bolts)

    config = {  # noqa: RUF012 streamparse reads it from the class
        "topology.workers": 1,
        "topology.acker.executors": 1,
        # A bolt that re-reads its window after a restart answers no heartbeat and acks nothing meanwhile.
        "topology.subprocess.timeout.secs": 180,
        "topology.message.timeout.secs": 180,
    }
