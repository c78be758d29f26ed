"""R1, streamparse as tutorials have it: one event a tuple, a sketch of datasketch per key, an upsert of a row per key.

Tuned where a tutorial's reader would: the consumer fetches many messages at once, each view has a bolt of its own, which
keeps its sketches in memory and its connection open, and commits need not wait for the disk. It removes no repeats and
survives no crash exactly.
"""

from naive_parts import EventSpout, PageBolt, SiteBolt
from streamparse import Grouping, Topology


class Naive(Topology):
    event_spout = EventSpout.spec()
    site_bolt = SiteBolt.spec(inputs={event_spout: Grouping.fields("site")})
    page_bolt = PageBolt.spec(inputs={event_spout: Grouping.fields("site", "page")})
    config = {"topology.workers": 1, "topology.acker.executors": 1, "topology.max.spout.pending": 2000}  # noqa: RUF012
