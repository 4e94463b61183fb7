"""Charges for orders, and writes them down."""

import os
import signal
import sys
import tempfile

from flask import Flask, after_this_request
from opentelemetry import context, trace
from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

folder = tempfile.TemporaryDirectory()
engine = create_engine(f"sqlite:///{folder.name}/payments.db")
app = Flask(__name__)
tracer = trace.get_tracer("pay")


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payment"
    id: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[str] = mapped_column(String(40))


@app.get("/ready")
def ready():
    return "ready"


@app.get("/payments/<order>")
def pay(order):
    request_context = context.get_current()

    @after_this_request
    def later(response):
        response.call_on_close(lambda: audit(order, request_context))
        return response

    if order == "declined":
        return {"error": "the bank is not there"}, 503
    with Session(engine) as session:
        payment = Payment(order=order)
        session.add(payment)
        session.commit()
        return {"order": order, "payment": payment.id}


def audit(order, request_context):
    """Runs when the answer is out, and the request's context is gone."""
    token = context.attach(request_context)
    with tracer.start_as_current_span("audit"):
        app.logger.info("%s was asked for", order)
    context.detach(token)


if __name__ == "__main__":
    # Python ends at once at SIGTERM, without the spans that are not sent yet, unless something handles it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Base.metadata.create_all(engine)
    app.run(port=int(os.environ["PORT"]), threaded=False)
