// node's own server behind pino-http.
"use strict";
const http = require("node:http");
const log = require("pino-http")();
const site = require("./answers.js");
http.createServer((request, response) => {
    log(request, response);
    site(request, response);
}).listen(8080);
