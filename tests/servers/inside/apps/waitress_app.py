"""Waitress behind Paste's TransLogger, the pair that Pyramid's documentation names for an access log."""

from paste.translogger import TransLogger
from waitress import serve

from tests.servers.inside.apps.answers import wsgi

serve(TransLogger(wsgi), listen="127.0.0.1:8080 [::1]:8080")
