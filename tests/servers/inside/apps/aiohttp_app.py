"""aiohttp, as its documentation says that access logs are seen: with logging set up."""

import asyncio
import logging

from aiohttp import web

from tests.servers.inside.apps.answers import answer


async def respond(request):
    status, headers, body = await asyncio.to_thread(
        answer, request.method, request.path, "If-Modified-Since" in request.headers
    )
    await request.read()
    if len(body) < 2:
        headers.pop("Content-Length", None)
        return web.Response(status=status, headers=headers, body=b"".join(body) if request.method != "HEAD" else b"")
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    for part in body:
        await response.write(part)
    return response


logging.basicConfig(level=logging.INFO)
app = web.Application()
app.router.add_route("*", "/{path:.*}", respond)
web.run_app(app, host=["127.0.0.1", "::1"], port=8080, print=None)
