// node's own server behind morgan: `node morgan.js combined`.
"use strict";
const http = require("node:http");
const log = require("morgan")(process.argv[2]);
const site = require("./answers.js");
http.createServer((request, response) => log(request, response, () => site(request, response))).listen(8080);
