#!/usr/bin/env bash
# OTEL_PROPAGATORS=none makes a Python service answer 500 to every request.
#
# Version: opentelemetry-api 1.45.1 with opentelemetry-instrumentation-flask 0.66b1, Flask 3.1.3
# Expected: as the specification has it, "none" means that no propagator is configured: the service answers as before, and
#   each request begins a trace of its own.
# Seen: every request is answered with 500. Without propagators, `extract` gives back the context that it was given, which
#   is None; the instrumentation attaches that, and from then on an `AttributeError` of None (`no attribute 'copy'`)
#   is raised where the current context is read.
# Why it matters: "none" is what one sets to keep a service out of others' traces, or to try what a broken link looks like.
#   `OTEL_PROPAGATORS=baggage` does what was meant.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
  opentelemetry-api==1.45.1 opentelemetry-sdk==1.45.1 opentelemetry-instrumentation-flask==0.66b1 Flask==3.1.3
cat >"$dir/service.py" <<'PY'
from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor

app = Flask(__name__)
app.logger.disabled = True
FlaskInstrumentor().instrument_app(app)
app.get("/")(lambda: "ok")
try:
    print(app.test_client().get("/").status_code)
except AttributeError as error:
    print(500, error)
PY
seen() { OTEL_PROPAGATORS=$1 "$dir/venv/bin/python" "$dir/service.py" 2>/dev/null | tail -n 1; }
for names in tracecontext,baggage baggage none; do echo "$names: $(seen "$names")"; done
[ "$(seen baggage)" = 200 ] && [[ "$(seen none)" == 500* ]] || { echo "this has changed" >&2; exit 1; }
