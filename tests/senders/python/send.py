"""Ends spans with the official OpenTelemetry SDK, through one exporter of each kind that it is given, its defaults untouched.

The first line of standard input says what is to be done, as JSON; `go` begins, `stop` has the SDK shut down, and the end of the
input ends the program at once.
"""

import json
import os
import sys
import threading
import time

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def otlp_exporter(protocol, endpoint):
    if protocol == "grpc":
        return OverGrpc(endpoint=endpoint, insecure=True)
    return OverHttp(endpoint=endpoint + "/v1/traces")


def provider(case):
    made = TracerProvider(resource=Resource.create({"service.name": case["name"]}))
    made.add_span_processor(BatchSpanProcessor(otlp_exporter(case["protocol"], case["endpoint"])))
    return made


def main():
    plan = json.loads(sys.stdin.readline())
    providers = []
    print("ready", flush=True)

    def end_spans():
        tracers = [provider.get_tracer("tests/senders") for provider in providers]
        begun = time.monotonic()
        for number in range(plan["spans"]):
            time.sleep(max(0, begun + plan["seconds"] * number / plan["spans"] - time.monotonic()))
            for tracer in tracers:
                tracer.start_span("work").end()

    for line in sys.stdin:
        if line.strip() == "go":
            # Not before, so that the timers of all batch processors begin with the spans.
            providers += [provider(case) for case in plan["cases"]]
            threading.Thread(target=end_spans, daemon=True).start()
        elif line.strip() == "stop":
            stops = [threading.Thread(target=provider.shutdown) for provider in providers]
            for stop in stops:
                stop.start()
            for stop in stops:
                stop.join()
            break
    # Not even what the SDK does at the interpreter's end.
    os._exit(0)


main()
