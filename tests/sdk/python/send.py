"""Sends one trace of two spans with the official OpenTelemetry SDK, and prints its ids as JSON.

Everything about where and how it is sent comes from the standard OTEL_* variables, as in a user's service. Like any
service, it does not fail when its spans cannot be sent: the SDK logs that to stderr.
"""

import json
import os
import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode


def otlp_exporter():
    """The exporter that OTEL_EXPORTER_OTLP_PROTOCOL names."""
    protocol = os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"]
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    elif protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    else:
        sys.exit(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: give grpc or http/protobuf")
    return OTLPSpanExporter()


provider = TracerProvider(resource=Resource.create())
provider.add_span_processor(BatchSpanProcessor(otlp_exporter()))
tracer = provider.get_tracer("tests/sdk", "1.0")

server_attributes = {
    "http.request.method": "GET",
    "http.route": "/orders/{id}",
    "http.response.status_code": 500,
}
typed_attributes = {
    "test.string": "größer als 1 €",
    "test.bool": True,
    "test.int": 42,
    "test.double": 2.5,
    "test.strings": ["a", "b"],
    "test.ints": [1, 2],
}
with tracer.start_as_current_span("GET /orders/{id}", kind=SpanKind.SERVER, attributes=server_attributes) as parent:
    parent.set_status(Status(StatusCode.ERROR))
    try:
        with tracer.start_as_current_span("load order", attributes=typed_attributes) as child:
            raise ValueError("no such order")
    except ValueError:
        pass  # the SDK has recorded it on the child, and marked that as an error

provider.shutdown()  # sends what is left first

print(
    json.dumps(
        {
            "trace_id": trace.format_trace_id(parent.get_span_context().trace_id),
            "parent": trace.format_span_id(parent.get_span_context().span_id),
            "child": trace.format_span_id(child.get_span_context().span_id),
        }
    )
)
