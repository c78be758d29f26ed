// The site of servers in JavaScript: the same answers as answers.py gives.
"use strict";
const LAST_CHANGED = "Thu, 01 Jan 2026 00:00:00 GMT";
const PAGE = "<!doctype html><title>A page</title>" + "<p>text</p>".repeat(40);
const CHUNKS = ["first ".repeat(50), "second ".repeat(30), "third"];
const SLOW_MS = 300;

function whole(response, status, headers, body) {
    // What writeHead() is told is not seen by loggers.
    response.statusCode = status;
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    response.setHeader("Content-Length", Buffer.byteLength(body));
    response.end(body);
}

module.exports = function site(request, response) {
    request.resume();
    const path = request.url.replace(/^http:\/\/[^/]*/, "").split("?")[0];
    if (request.method === "POST" && path === "/form") return whole(response, 200, {}, "thank you\n");
    if (path === "/" || path === "/page.html") {
        if (!("if-modified-since" in request.headers)) return whole(response, 200, { "Last-Modified": LAST_CHANGED }, PAGE);
        response.writeHead(304, { "Last-Modified": LAST_CHANGED });
        return response.end();
    }
    if (path === "/old.html") return whole(response, 302, { Location: "/page.html" }, "it moved\n");
    if (path === "/empty.txt") return response.writeHead(204).end();
    if (path === "/chunks") {
        CHUNKS.forEach((part) => response.write(part));
        return response.end();
    }
    if (path === "/slow") return setTimeout(() => whole(response, 200, {}, "thank you\n"), SLOW_MS);
    return whole(response, 404, {}, "nothing here\n");
};
