"""What is known of each server's log: its facts, or why it is refused. Of others it is what the client knows."""

from __future__ import annotations

from dataclasses import dataclass

from tests.servers import facts
from tests.servers.facts import Fact, counted_too, cut_pages, cut_readers, not_counted, page_as, site_of_no_host


@dataclass(frozen=True)
class Known:
    """What a log of one server is expected to be.

    `refused` is a part of the message if its log cannot be counted. `unfit` says why some lines do not parse, if some do
    not. `summer_all_year`: its times have the offset of summer in winter too.
    """

    facts: tuple[Fact, ...] = ()
    refused: str = ""
    unfit: str = ""
    summer_all_year: bool = False


_NGINX = (facts.HEX_BACKSLASHES, facts.HEX_QUOTES, facts.HEX_CAPITALS, facts.SIZES_WITH_FRAMES)
_APACHE = (facts.BACKSLASHES, facts.QUOTES, facts.HEX)
_MORGAN = (facts.BACKSLASHES, facts.QUOTES, facts.LATIN_1, facts.NO_SIZE_OF_CHUNKS)
_RACK = (facts.NO_READERS, facts.PATHS_ONLY, facts.FORWARDED, facts.NO_SIZE_OF_CHUNKS)
_CUT_LINES = not_counted("lines cut to 1,024 bytes, so that of a long target does not parse", "a long target")
_HAPROXY = Known((_CUT_LINES, facts.NO_READERS, facts.SIZES_OF_ITS_SERVER), unfit=_CUT_LINES.text)
_SQUID = (facts.SIZES_WITH_HEADERS, facts.EMPTY_QUERIES, facts.PATHS_ONLY, site_of_no_host("one.test"))
_TRANSLOGGER = (
    facts.PATHS_ONLY,
    facts.ONE_SLASH,
    page_as("/caf%C3%A9.html", "/caf%C3%83%C2%A9.html", "é in a path encoded twice"),
    facts.LATIN_1,
    facts.NO_SIZE_OF_CHUNKS,
)

KNOWN = {
    "nginx": Known(_NGINX),
    "nginx, host first": Known((*_NGINX, site_of_no_host("one.test"))),
    "nginx, JSON": Known((facts.SIZES_WITH_FRAMES, facts.PATHS_ONLY, site_of_no_host("one.test"))),
    "Apache, Debian's combined": Known((*_APACHE, facts.SIZES_WITH_HEADERS)),
    "Apache, Debian's vhost_combined": Known((*_APACHE, facts.SIZES_WITH_HEADERS, site_of_no_host("one.test"))),
    "Apache, combined": Known(_APACHE),
    "Apache, common": Known((facts.NO_READERS,)),
    "Apache, combined and %D": Known(_APACHE),
    "lighttpd": Known((facts.BACKSLASHES, facts.QUOTES, facts.HEX_CAPITALS, facts.PATHS_ONLY)),
    "HAProxy, httplog": _HAPROXY,
    "HAProxy, httplog clf": _HAPROXY,
    "Varnish": Known((*_APACHE, facts.PATHS_ONLY, cut_pages(254), cut_readers(245), site_of_no_host("localhost"))),
    "Squid, native": Known((facts.NO_READERS, *_SQUID)),
    "Squid, combined": Known(_SQUID),
    "Squid, combined, west of Greenwich": Known(_SQUID),
    "nghttpx": Known((facts.SMALL_HEX_BACKSLASHES, facts.HEX_QUOTES, facts.HEX, facts.PATHS_ONLY, facts.ONE_SLASH)),
    "mini-httpd": Known((facts.NO_SIZES_OF_ERRORS, facts.NO_QUERIES, facts.DECODED_PATHS, cut_readers(200))),
    "Tomcat": Known((facts.NO_READERS, facts.PATHS_ONLY)),
    "Jetty": Known(
        (
            not_counted(
                "GET /badURI in place of targets that it refuses (%5C, %25, //), which counts as no request",
                "encoded quotes",
                "an encoded percent sign",
                "two slashes",
            ),
            facts.LATIN_1,
            facts.PATHS_ONLY,
        )
    ),
    "gunicorn": Known((facts.QUOTES, facts.LATIN_1)),
    "hypercorn": Known((facts.NO_QUERIES, facts.DECODED_PATHS, facts.LATIN_1, facts.NO_SIZE_OF_CHUNKS)),
    "granian": Known((facts.NO_READERS, facts.NO_SIZES, facts.NO_QUERIES, facts.DECODED_PATHS, facts.PATHS_ONLY)),
    "uvicorn": Known(refused="its lines have no time"),
    "daphne": Known((facts.NO_READERS,)),
    "aiohttp": Known((facts.SIZES_WITH_HEADERS, facts.PATHS_ONLY, facts.FOUR_SLASHES)),
    "Twisted, log file": Known(_APACHE),
    "Twisted, twistd's output": Known(_APACHE),
    "Twisted, twist's output": Known(_APACHE),
    "Waitress and TransLogger": Known(_TRANSLOGGER),
    "Waitress and TransLogger, with summer time": Known(_TRANSLOGGER, summer_all_year=True),
    "CherryPy": Known(
        (
            facts.DECODED_PATHS,
            page_as("/café.html", r"/caf\xc3\xa9.html", r"é in a path as \xc3\xa9"),
            page_as('/a"b\\c.html', r"/a\"b\c.html", r"a quote in a path as \""),
            page_as("//page.html", "/", "//page.html as /"),
            counted_too("/*", "OPTIONS * as OPTIONS /*, which counts"),
            facts.QUOTES,
            facts.LATIN_1_HEX,
            facts.NO_SIZE_OF_CHUNKS,
            facts.PATHS_ONLY,
        )
    ),
    "Werkzeug": Known(
        (
            facts.NO_READERS,
            facts.NO_SIZES,
            facts.ONE_SLASH,
            page_as("/caf%C3%A9.html", "/café.html", "é in a path decoded"),
            page_as("/a%22b%5Cc.html", r'/a"b\\c.html', r"quotes in a path decoded, a backslash as \\"),
        )
    ),
    "gevent": Known((facts.NO_READERS, facts.SIZES_WITH_HEADERS)),
    "Tornado": Known((facts.NO_READERS, facts.NO_SIZES)),
    "Django's runserver": Known(refused="its lines do not say who asked"),
    "Sanic": Known((facts.NO_READERS, counted_too("/*", "OPTIONS * as OPTIONS /*, which counts"), facts.PATHS_ONLY)),
    "Python's http.server": Known((facts.NO_READERS, facts.NO_SIZES)),
    "uWSGI": Known((facts.NO_READERS,)),
    "morgan, combined": Known(_MORGAN),
    "morgan, common": Known((facts.NO_READERS, facts.NO_SIZE_OF_CHUNKS)),
    "morgan, tiny": Known(refused="its lines have no time and no client"),
    "pino-http": Known((facts.LATIN_1, facts.NO_SIZE_OF_CHUNKS)),
    "Fastify": Known(refused="it tells of a request in two lines"),
    "Puma": Known(_RACK),
    "WEBrick": Known((*_RACK, facts.ONE_SLASH)),
    "Starman": Known((facts.HEX,)),
    "PHP's server": Known((facts.NO_READERS, facts.NO_SIZES)),
}
NOTHING = Known()
