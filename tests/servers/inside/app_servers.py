"""Servers of applications, with their access logs as the documentation says first."""

from __future__ import annotations

from tests.servers.inside.server import APPS, ASGI, EAST, LOG, PORT, RUN, SITE, STDERR, STDOUT, WSGI, ZONE, Server

_BOTH = f"--bind 127.0.0.1:{PORT} --bind [::1]:{PORT}"
_HERE = f"--host 127.0.0.1 --port {PORT}"
_TWISTD = f"twistd -n --pidfile={RUN}/twistd.pid web --listen tcp:{PORT}:interface=127.0.0.1 --path {SITE}"


def _python(
    name: str, package: str, command: str, log_file: str = STDOUT, has_ipv6: bool = False, zone: str = ZONE
) -> Server:
    return Server(name, command, package=package, log_file=log_file, has_ipv6=has_ipv6, zone=zone)


def _own(name: str, package: str, log_file: str = STDERR, has_ipv6: bool = False, zone: str = ZONE) -> Server:
    """One that an application of apps/ starts itself."""
    return _python(name, package, f"python -m tests.servers.inside.apps.{package}_app", log_file, has_ipv6, zone)


def _node(name: str, package: str, command: str, has_ipv6: bool = True) -> Server:
    return Server(name, f"node {APPS}/{command}", package=package, log_file=STDOUT, has_ipv6=has_ipv6)


APP_SERVERS = (
    _python("gunicorn", "gunicorn", f"gunicorn {_BOTH} --access-logfile - --threads 4 {WSGI}", has_ipv6=True),
    _python("hypercorn", "hypercorn", f"hypercorn {_BOTH} --access-logfile - {ASGI}", has_ipv6=True),
    _python("granian", "granian", f"granian {_HERE} --access-log --interface asgi {ASGI}"),
    _python("uvicorn", "uvicorn", f"uvicorn {_HERE} {ASGI}"),
    _python("daphne", "daphne", f"daphne -b 127.0.0.1 -p {PORT} --access-log {LOG} {ASGI}", LOG),
    _own("aiohttp", "aiohttp", has_ipv6=True),
    _python("Twisted, log file", "twisted", f"{_TWISTD} --logfile {LOG}", LOG),
    _python("Twisted, twistd's output", "twisted", _TWISTD),
    _python("Twisted, twist's output", "twisted", f"twist web --listen tcp:{PORT}:interface=127.0.0.1 --path {SITE}"),
    _own("Waitress and TransLogger", "waitress", has_ipv6=True, zone=EAST),
    _own("Waitress and TransLogger, with summer time", "waitress", has_ipv6=True),
    _own("CherryPy", "cherrypy", LOG),
    _own("Werkzeug", "werkzeug"),
    _own("gevent", "gevent"),
    _own("Tornado", "tornado", has_ipv6=True),
    _own("Django's runserver", "django"),
    _own("Sanic", "sanic", STDOUT),
    Server(
        "Python's http.server",
        f"/usr/bin/python3 -m http.server {PORT} --bind 127.0.0.1 --directory {SITE}",
        "/usr/bin/python3 --version",
        log_file=STDERR,
        has_ipv6=False,
    ),
    Server(
        "uWSGI",
        f"uwsgi --plugin python3 --http-socket 127.0.0.1:{PORT} --module {WSGI} --need-app --die-on-term",
        "uwsgi --version",
        log_file=STDERR,
        has_ipv6=False,
    ),
    _node("morgan, combined", "morgan", "morgan.js combined"),
    _node("morgan, common", "morgan", "morgan.js common"),
    _node("morgan, tiny", "morgan", "morgan.js tiny"),
    _node("pino-http", "pino-http", "pino.js"),
    _node("Fastify", "fastify", "fastify.js", has_ipv6=False),
    Server(
        "Puma",
        f"puma --log-requests --environment production -b tcp://127.0.0.1:{PORT} -b tcp://[::1]:{PORT} {APPS}/config.ru",
        "puma --version",
        log_file=STDOUT,
    ),
    Server(
        "WEBrick",
        f"rackup -s webrick -E deployment -o 127.0.0.1 -p {PORT} {APPS}/config.ru",
        """ruby -e 'require "webrick"; puts WEBrick::VERSION'""",
        log_file=STDERR,
        has_ipv6=False,
    ),
    Server(
        "Starman",
        f"starman --listen 127.0.0.1:{PORT} --workers 1 --access-log {LOG} {APPS}/app.psgi",
        "starman --version",
        has_ipv6=False,
    ),
)
