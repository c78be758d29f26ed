"""All streams that are declared; a module each."""

from contract.errors import CatalogueError
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS


def of_a_stack(*streams: Stream) -> tuple[Stream, ...]:
    """The streams that a stack runs; CatalogueError for what it would not count.

    Archive, batch and speed know any stream, but topics, hand-off and views only one (decision 117): nothing would read a
    second one's topic, and its views would stay empty without a word.
    """
    if len(streams) != 1:
        raise CatalogueError(f"a stack runs one stream yet, and {', '.join(stream.name for stream in streams)} are declared")
    if not streams[0].views:
        raise CatalogueError(f"stream {streams[0].name}: it has no view, so nothing of it would be counted")
    return streams


STREAMS = of_a_stack(PAGE_VIEWS)
