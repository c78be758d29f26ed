"""The catalogue: the views of all streams. Batch, speed and serving each know how to run any of them."""

from contract.streams import STREAMS
from contract.view import View, catalogue_digest, with_rollups

__all__ = ["VIEWS", "View", "catalogue_digest", "with_rollups"]

VIEWS: tuple[View, ...] = tuple(view for stream in STREAMS for view in stream.views)
