"""Charges for orders; its spans are made by hand."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import propagate, trace

tracer = trace.get_tracer("pay")


class Pay(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/ready":
            return self.answer(200, "ready")
        about = {
            "http.request.method": "GET",
            "http.route": "/payments/{order}",
            "url.path": self.path,
            "url.scheme": "http",
            "server.address": "127.0.0.1",
            "server.port": self.server.server_port,
        }
        caller = propagate.extract(self.headers)
        with tracer.start_as_current_span("GET /payments/{order}", caller, trace.SpanKind.SERVER, about) as span:
            self.answer(200, {"order": self.path.rpartition("/")[2]})
            span.set_attribute("http.response.status_code", 200)

    def answer(self, status, what):
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Pay).serve_forever()
