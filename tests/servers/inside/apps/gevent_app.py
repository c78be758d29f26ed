"""gevent's WSGI server, which logs to stderr."""

from gevent.pywsgi import WSGIServer

from tests.servers.inside.apps.answers import wsgi

WSGIServer(("127.0.0.1", 8080), wsgi).serve_forever()
