#!/usr/bin/env bash
# A Node.js service that ends at SIGTERM no longer does so once OpenTelemetry's `register` is loaded.
#
# Version: @opentelemetry/auto-instrumentations-node 0.81.2
# Expected: the spans that are left are sent, and the service ends as it did before.
# Seen: `register` listens to SIGTERM to shut the SDK down. A listener takes away Node's own way to end, and `register` does not
#   end the process, so that a server goes on serving, without tracing, until somebody kills it.
# Why it matters: each stop of such a service takes the orchestrator's whole grace period and ends with SIGKILL, and requests
#   that come meanwhile leave no spans. A listener of the service's own, that closes its server, mends it.
set -euo pipefail
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true; rm -r "$dir"' EXIT
cd "$dir"
npm install --silent --no-save --ignore-scripts --no-audit --no-fund --no-update-notifier \
  @opentelemetry/auto-instrumentations-node@0.81.2 @opentelemetry/api@1.9.1
cat >service.js <<'JS'
require("http").createServer((_, response) => response.end()).listen(0, "127.0.0.1", () => console.log("up"));
JS
export OTEL_TRACES_EXPORTER=none OTEL_METRICS_EXPORTER=none OTEL_LOGS_EXPORTER=none
export OTEL_NODE_RESOURCE_DETECTORS=env

# Whether the service is gone ten seconds after SIGTERM.
seen() {
  coproc service { exec node "$@" service.js 2>/dev/null; }
  pid=$service_PID
  read -r -t 60 -u "${service[0]}" _
  kill -TERM "$pid"
  # Its output is closed when it ends.
  local code=0
  read -r -t 10 -u "${service[0]}" _ || code=$?
  # More than 128 is the time limit, 1 the end of the output.
  [ "$code" -gt 128 ] && answer="goes on" || answer=ends
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  pid=
}
seen && plain=$answer
seen --require @opentelemetry/auto-instrumentations-node/register && registered=$answer
echo "without register: $plain"
echo "with register: $registered"
[ "$plain" = ends ] && [ "$registered" = "goes on" ] || { echo "this has changed" >&2; exit 1; }
