"""CherryPy with the access log in a file."""

import cherrypy

from tests.servers.inside.apps.answers import wsgi

cherrypy.config.update(
    {
        "server.socket_host": "127.0.0.1",
        "server.socket_port": 8080,
        "log.screen": False,
        "log.access_file": "/tmp/run/access.log",
        "engine.autoreload.on": False,
    }
)


class Site:
    """The same answers, as a page handler, since only such requests are logged."""

    @cherrypy.expose
    def default(self, *parts, **parameters):
        request = cherrypy.request
        environ = request.wsgi_environ
        said = []

        def start_response(status, headers):
            said.append((status, headers))

        body = list(wsgi(environ, start_response))
        status, headers = said[0]
        cherrypy.response.status = int(status.split()[0])
        for name, value in headers:
            cherrypy.response.headers[name] = value
        cherrypy.response.stream = len(body) > 1
        return body

    index = default


cherrypy.quickstart(Site(), "/", {"/": {"request.process_request_body": False}})
