// Sends one trace of two spans with the official OpenTelemetry SDK, and prints its ids as JSON.
//
// Everything about where and how it is sent comes from the standard OTEL_* variables, as in a user's service. Like any
// service, it does not fail when its spans cannot be sent: the SDK logs that to stderr.

const { SpanKind, SpanStatusCode, trace } = require("@opentelemetry/api");
const { NodeSDK } = require("@opentelemetry/sdk-node");

// Only traces are sent, as in a service whose operator switched the other signals off.
process.env.OTEL_METRICS_EXPORTER = "none";
process.env.OTEL_LOGS_EXPORTER = "none";

const sdk = new NodeSDK();
sdk.start();
const tracer = trace.getTracer("tests/sdk", "1.0");

const serverAttributes = {
  "http.request.method": "GET",
  "http.route": "/orders/{id}",
  "http.response.status_code": 500,
};
const typedAttributes = {
  "test.string": "größer als 1 €",
  "test.bool": true,
  "test.int": 42,
  "test.double": 2.5,
  "test.strings": ["a", "b"],
  "test.ints": [1, 2],
};

async function main() {
  const ids = tracer.startActiveSpan(
    "GET /orders/{id}",
    { kind: SpanKind.SERVER, attributes: serverAttributes },
    (parent) => {
      const child = tracer.startActiveSpan("load order", { attributes: typedAttributes }, (child) => {
        try {
          throw new RangeError("no such order");
        } catch (error) {
          child.recordException(error);
          child.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
        }
        child.end();
        return child;
      });
      parent.setStatus({ code: SpanStatusCode.ERROR });
      parent.end();
      return {
        trace_id: parent.spanContext().traceId,
        parent: parent.spanContext().spanId,
        child: child.spanContext().spanId,
      };
    },
  );
  // Sends what is left first. A failure to do so is the SDK's to log.
  await sdk.shutdown().catch((error) => console.error(error));
  console.log(JSON.stringify(ids));
}

main();
