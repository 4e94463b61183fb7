#!/usr/bin/env bash
# OpenTelemetry's OTLP exporters for Python do not mention spans that a collector says it rejected.
#
# Version: opentelemetry-exporter-otlp-proto-http and -grpc 1.45.2
# Expected: an answer of OK with a `partial_success` that rejects spans is a warning of the collector's. By the OTLP specification it
#   must not be retried, and what is said in it is meant for whoever runs the client.
# Seen: `rejected_spans` and `error_message` are read by nobody: the export is a success, and nothing is logged at any level.
# Why it matters: a collector that can take only a part of a request has no way to let such a service's owner know; spans are
#   missing, and no log on the sender's side says so.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
  opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 opentelemetry-exporter-otlp-proto-grpc==1.45.2
cat >ask.py <<'PY'
import http.server, logging, threading
from concurrent import futures
import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.sdk.trace import TracerProvider

said = []


class Keep(logging.Handler):
    def emit(self, record):
        if record.name.startswith("opentelemetry"):
            said.append(record.getMessage())


logging.basicConfig(level=logging.DEBUG, handlers=[Keep()])
answer = pb.ExportTraceServiceResponse()
answer.partial_success.rejected_spans = 1
answer.partial_success.error_message = "the span is too large"


class Http(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = answer.SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Grpc(service.TraceServiceServicer):
    def Export(self, request, context):
        return answer


def ask(name, exporter):
    said.clear()
    with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
        pass
    result = exporter.export([span])
    about = [line for line in said if "reject" in line.lower() or "partial" in line.lower() or "too large" in line]
    print(f"{name}: {result.name}, {len(about)} lines of log about the rejected span")
    exporter.shutdown()


web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Http)
threading.Thread(target=web.serve_forever, daemon=True).start()
ask("HTTP", OverHttp(endpoint=f"http://127.0.0.1:{web.server_port}/v1/traces"))
web.shutdown()
server = grpc.server(futures.ThreadPoolExecutor(2))
service.add_TraceServiceServicer_to_server(Grpc(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
ask("gRPC", OverGrpc(endpoint=f"http://127.0.0.1:{port}", insecure=True))
server.stop(None).wait(5)
PY
timeout 60 env/bin/python ask.py | tee seen
diff - seen <<'SEEN' || { echo "this has changed" >&2; exit 1; }
HTTP: SUCCESS, 0 lines of log about the rejected span
gRPC: SUCCESS, 0 lines of log about the rejected span
SEEN
