#!/usr/bin/env bash
# OpenTelemetry's OTLP exporter over gRPC for Node.js gives a batch up at the first answer that asks it to try again.
#
# Version: @opentelemetry/exporter-trace-otlp-grpc 0.301.0 (and exporter-trace-otlp-http 0.301.0 beside it)
# Expected: UNAVAILABLE is retryable by the OTLP specification, with a back-off of its own or after the delay in `RetryInfo`, as
#   503 is over HTTP.
# Seen: a collector that answers UNAVAILABLE once and would take the second attempt is never asked again: the spans are gone, and
#   the exporter reports failure at once. The HTTP exporter of the same release, answered 503 once, asks again and delivers.
# Why it matters: each restart and each full queue of a collector costs such a service the batch that it has in hand, whatever
#   delay the collector names.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
cd "$dir"
npm install --silent --no-save --ignore-scripts --no-audit --no-fund --no-update-notifier \
  @opentelemetry/exporter-trace-otlp-grpc@0.301.0 @opentelemetry/exporter-trace-otlp-http@0.301.0 \
  @opentelemetry/sdk-trace@3.1.0 @opentelemetry/api@1.10.0 @grpc/grpc-js@1.14.7
cat >ask.js <<'JS'
const grpc = require("@grpc/grpc-js");
const http = require("http");
const { TracerProvider, SimpleSpanProcessor } = require("@opentelemetry/sdk-trace");

// Sends one span through the exporter; resolves to what the exporter reports.
async function send(exporter) {
  let outcome;
  const reported = new Promise((resolve) => { outcome = resolve; });
  const noting = {
    export: (spans, done) => exporter.export(spans, (result) => { outcome(result.code === 0 ? "delivered" : "failed"); done(result); }),
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => exporter.shutdown(),
  };
  const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter: noting })] });
  provider.getTracer("t").startSpan("s").end();
  const result = await reported;
  await provider.shutdown();
  return result;
}

async function overGrpc() {
  let attempts = 0;
  const raw = (bytes) => bytes;
  const server = new grpc.Server();
  const path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
  const method = { path, requestStream: false, responseStream: false };
  for (const side of ["request", "response"]) Object.assign(method, { [`${side}Serialize`]: raw, [`${side}Deserialize`]: raw });
  server.addService({ Export: method }, {
    Export: (_call, answer) => {
      attempts += 1;
      if (attempts === 1) answer({ code: grpc.status.UNAVAILABLE, details: "try again" });
      else answer(null, Buffer.alloc(0));
    },
  });
  const port = await new Promise((resolve, reject) => server.bindAsync(
    "127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port))));
  const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-grpc");
  const result = await send(new OTLPTraceExporter({ url: `http://127.0.0.1:${port}` }));
  server.forceShutdown();
  return `${result} after ${attempts} attempt(s)`;
}

async function overHttp() {
  let attempts = 0;
  const server = http.createServer((request, response) => {
    request.resume().on("end", () => { attempts += 1; response.writeHead(attempts === 1 ? 503 : 200).end(); });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-http");
  const result = await send(new OTLPTraceExporter({ url: `http://127.0.0.1:${server.address().port}/v1/traces` }));
  server.close();
  server.closeAllConnections();
  return `${result} after ${attempts} attempt(s)`;
}

(async () => {
  console.log(`gRPC, UNAVAILABLE once: ${await overGrpc()}`);
  console.log(`HTTP, 503 once: ${await overHttp()}`);
})();
JS
timeout 120 node ask.js | tee seen
diff - seen <<'SEEN' || { echo "this has changed" >&2; exit 1; }
gRPC, UNAVAILABLE once: failed after 1 attempt(s)
HTTP, 503 once: delivered after 2 attempt(s)
SEEN
