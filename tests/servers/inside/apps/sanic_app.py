"""Sanic with its access log."""

import asyncio

from sanic import HTTPResponse, Sanic

from tests.servers.inside.apps.answers import answer

app = Sanic("site")


@app.route("/", methods=["GET", "HEAD", "POST", "OPTIONS"], name="root")
@app.route("/<path:path>", methods=["GET", "HEAD", "POST", "OPTIONS"], name="pages")
async def site(request, path=""):
    status, headers, body = await asyncio.to_thread(
        answer, request.method, request.path, "if-modified-since" in request.headers
    )
    return HTTPResponse(b"".join(body) if request.method != "HEAD" else b"", status, headers)


if __name__ == "__main__":
    app.run("127.0.0.1", 8080, access_log=True, single_process=True, motd=False)
