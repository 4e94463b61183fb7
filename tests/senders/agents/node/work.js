// A program that knows nothing of OpenTelemetry: `go` has it make HTTP requests, which are refused and traced by what was loaded before
// it; `stop` ends it as SIGTERM would, and the end of the input at once.
"use strict";

const http = require("node:http");
const readline = require("node:readline");

let plan;
const input = readline.createInterface({ input: process.stdin });
input.on("line", (line) => {
  if (!plan) {
    plan = JSON.parse(line);
    console.log("ready");
  } else if (line === "go") {
    // Nothing listens at port 1.
    for (let number = 0; number < plan.spans; number += 1) http.get("http://127.0.0.1:1/work").on("error", () => {});
  } else if (line === "stop") {
    process.kill(process.pid, "SIGTERM");
  }
});
input.on("close", () => process.exit(0));
