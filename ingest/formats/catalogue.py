"""Every format that a log may have, by the name that LOG_FORMAT= takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ingest.formats import text_formats
from ingest.formats.clf import ZONED, ZONELESS, ClfForm
from ingest.formats.events import Layout
from ingest.formats.json_form import JsonForm, object_of
from ingest.formats.json_shapes import SHAPES, Paths
from ingest.formats.logged import LineForm
from ingest.formats.tails import microseconds_ms
from ingest.formats.w3c import W3cForm

_NO_CLIENT = "let the server write who asked"


@dataclass(frozen=True)
class Format:
    """A format. `form` makes what reads its lines, of a sample of them.

    Of one that is_clf, the client and maybe a host stand before the time. `layout`, `hundredths` and `with_port` say what is
    not to be found out, and `no_client` what to do where no line says who asked.
    """

    name: str
    writers: str
    form: Callable[[Sequence[str]], LineForm]
    needs_zone: bool = False
    is_detected: bool = True
    is_clf: bool = False
    layout: Layout | None = None
    hundredths: bool = False
    with_port: bool = False
    no_client: str = _NO_CLIENT


def _always(form: LineForm) -> Callable[[Sequence[str]], LineForm]:
    return lambda sample: form


def json_form(paths: Paths, sample: Sequence[str]) -> JsonForm:
    """The form under the keys that the sample has."""
    return JsonForm.of_sample(paths, [it for text in sample if (it := object_of(text)) is not None])


def _w3c(sample: Sequence[str]) -> W3cForm:
    form = W3cForm()
    for text in sample:
        if form.is_directive(text) and not form.missing:
            break
    return form


USUAL = ClfForm(ZONED)
_ZONELESS = ClfForm(ZONELESS)
_BEHIND_A_SOCKET = "a server behind a Unix socket does not know the client: tell it to take X-Forwarded-For"

FORMATS = (
    Format(
        "combined",
        "Apache, nginx and nearly all others: Common and Combined Log Format, with anything behind",
        _always(USUAL),
        is_clf=True,
        no_client=_BEHIND_A_SOCKET,
    ),
    Format(
        "vhost", "the same behind the virtual host", _always(USUAL), is_detected=False, is_clf=True, layout=Layout.HOST_FIRST
    ),
    Format(
        "combined_D",
        "the same with Apache's %D, microseconds, as the last field",
        _always(ClfForm(ZONED, microseconds_ms)),
        is_detected=False,
        is_clf=True,
    ),
    Format(
        "translogger",
        "Paste's TransLogger: Combined, with offsets in hundredths of an hour",
        _always(USUAL),
        is_detected=False,
        is_clf=True,
        hundredths=True,
    ),
    Format(
        "zoneless",
        "Common and Combined without a zone: CherryPy, daphne, werkzeug, Python's http.server, gevent",
        _always(_ZONELESS),
        needs_zone=True,
        is_clf=True,
        no_client=_BEHIND_A_SOCKET,
    ),
    Format("haproxy", "HAProxy's httplog", _always(text_formats.HAPROXY), needs_zone=True, with_port=True),
    Format("granian", "Granian", _always(text_formats.GRANIAN), with_port=True),
    Format("squid", "Squid's native format", _always(text_formats.SQUID)),
    Format(
        "envoy",
        "Envoy's default format, where it knows a client",
        _always(text_formats.ENVOY),
        no_client="the client in Envoy's format is X-Forwarded-For, which Envoy sets with `use_remote_address: true`",
    ),
    Format("alb", "AWS load balancers", _always(text_formats.ALB), with_port=True),
    Format("uwsgi", "uWSGI", _always(text_formats.UWSGI), needs_zone=True),
    Format("tornado", "Tornado", _always(text_formats.TORNADO), needs_zone=True),
    Format("sanic", "Sanic", _always(text_formats.SANIC), with_port=True),
    Format("php", "PHP's built-in server", _always(text_formats.PHP), needs_zone=True, with_port=True),
    Format("w3c", "IIS and CloudFront: W3C Extended Log Format", _w3c),
    *(Format(shape.name, f"{shape.writers}: JSON", partial(json_form, shape.paths)) for shape in SHAPES),
)
EVENT_LINES = "jsonl"
"""JSON lines that are Braid's own events."""
CSV, PARQUET = "csv", "parquet"
AUTO = "auto"
NAMES = (AUTO, *(one.name for one in FORMATS), EVENT_LINES, CSV, PARQUET)
