"""Tornado with the log that its options set up."""

import asyncio

from tornado.options import parse_command_line
from tornado.web import Application, RequestHandler

from tests.servers.inside.apps.answers import answer


class Site(RequestHandler):
    """The same answers."""

    def respond(self):
        status, headers, body = answer(self.request.method, self.request.path, "If-Modified-Since" in self.request.headers)
        self.set_status(status)
        for name, value in headers.items():
            self.set_header(name, value)
        if self.request.method != "HEAD":
            for part in body:
                self.write(part)

    get = head = post = options = respond


async def main():
    Application([(r".*", Site)]).listen(8080)
    await asyncio.Event().wait()


parse_command_line()
asyncio.run(main())
