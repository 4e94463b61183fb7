#!/usr/bin/env bash
# With OTLP over HTTP alone installed, `opentelemetry-instrument` runs a service without tracing, unless the protocol is set.
#
# Version: opentelemetry-distro 0.66b1, opentelemetry-exporter-otlp-proto-http 1.45.1
# Expected: the specification's default protocol is http/protobuf, which SDKs of other languages take; the exporter for it is
#   installed, so it is used.
# Seen: the distro sets OTEL_EXPORTER_OTLP_PROTOCOL to "grpc" where it is not set. That exporter is not there; the error
#   (`Requested component 'otlp_proto_grpc' not found`) is only logged, the service starts, answers and ends with 0, and
#   records no span.
# Why it matters: one block of variables for services of several languages, none of which names the protocol, traces all
#   of them but those in Python, which look healthy.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
  opentelemetry-distro==0.66b1 opentelemetry-exporter-otlp-proto-http==1.45.1
cat >"$dir/service.py" <<'PY'
from opentelemetry import trace

with trace.get_tracer("service").start_as_current_span("work") as span:
    print("recording" if span.is_recording() else "not recording")
PY
# Nothing listens there, and nothing needs to: what counts is whether spans are made.
export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9 OTEL_EXPORTER_OTLP_TIMEOUT=1
export OTEL_METRICS_EXPORTER=none OTEL_LOGS_EXPORTER=none
seen() {
  PATH="$dir/venv/bin:$PATH" "$@" opentelemetry-instrument python "$dir/service.py" 2>/dev/null | grep recording
}
unset_=$(seen env -u OTEL_EXPORTER_OTLP_PROTOCOL)
set_=$(seen env OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf)
echo "protocol not set: $unset_"
echo "protocol http/protobuf: $set_"
[ "$unset_" = "not recording" ] && [ "$set_" = recording ] || { echo "this has changed" >&2; exit 1; }
