"""R1, streamparse as tutorials have it: one event a tuple, a sketch of datasketch per key, an upsert of a row per key.

Tuned where a tutorial's reader would: the consumer fetches many messages at once, the bolt keeps its sketches in memory and its
connection open, and commits need not wait for the disk. It removes no repeats and survives no crash exactly.
"""

from streamparse import Grouping, Topology

from naive_parts import CountBolt, EventSpout


class Naive(Topology):
    event_spout = EventSpout.spec()
    count_bolt = CountBolt.spec(inputs={event_spout: Grouping.fields("site")}, par=2)
    config = {"topology.workers": 1, "topology.acker.executors": 1, "topology.max.spout.pending": 1000}  # noqa: RUF012
