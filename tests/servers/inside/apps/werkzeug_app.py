"""Werkzeug's development server, which is Flask's too."""

from werkzeug.serving import run_simple

from tests.servers.inside.apps.answers import wsgi

run_simple("127.0.0.1", 8080, wsgi)
