"""All streams that are declared; a module each."""

from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS

STREAMS: tuple[Stream, ...] = (PAGE_VIEWS,)
