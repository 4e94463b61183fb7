// Ends spans with the official OpenTelemetry SDK, through one exporter of each kind that it is given, its defaults untouched.
//
// The first line of standard input says what is to be done, as JSON; `go` begins, `stop` has the SDK shut down, and the end of the
// input ends the program at once.
"use strict";

const readline = require("node:readline");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { BatchSpanProcessor, TracerProvider } = require("@opentelemetry/sdk-trace");

const EXPORTERS = {
  grpc: require("@opentelemetry/exporter-trace-otlp-grpc").OTLPTraceExporter,
  "http/protobuf": require("@opentelemetry/exporter-trace-otlp-proto").OTLPTraceExporter,
  "http/json": require("@opentelemetry/exporter-trace-otlp-http").OTLPTraceExporter,
};

function provider({ name, protocol, endpoint }) {
  const exporter = new EXPORTERS[protocol]({ url: protocol === "grpc" ? endpoint : `${endpoint}/v1/traces` });
  const resource = resourceFromAttributes({ "service.name": name });
  return new TracerProvider({ resource, spanProcessors: [new BatchSpanProcessor({ exporter })] });
}

function endSpans(tracers, { spans, seconds }) {
  const begun = Date.now();
  let number = 0;
  const next = () => {
    const due = seconds === 0 ? spans : Math.min(spans, 1 + Math.floor(((Date.now() - begun) / 1000 / seconds) * spans));
    for (; number < due; number += 1) for (const tracer of tracers) tracer.startSpan("work").end();
    if (number < spans) setTimeout(next, 10);
  };
  next();
}

let providers;
let plan;
const input = readline.createInterface({ input: process.stdin });
input.on("line", async (line) => {
  if (!plan) {
    plan = JSON.parse(line);
    console.log("ready");
  } else if (line === "go") {
    // Not before, so that the timers of all batch processors begin with the spans.
    providers = plan.cases.map(provider);
    endSpans(providers.map((provider) => provider.getTracer("tests/senders")), plan);
  } else if (line === "stop") {
    await Promise.allSettled(providers.map((provider) => provider.shutdown()));
    process.exit(0);
  }
});
input.on("close", () => process.exit(0));
