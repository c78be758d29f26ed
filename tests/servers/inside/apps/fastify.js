// Fastify with its logger.
"use strict";
const site = require("./answers.js");
const app = require("fastify")({ logger: true });
app.all("*", (request, reply) => {
    reply.hijack();
    site(request.raw, reply.raw);
});
app.listen({ port: 8080 });
