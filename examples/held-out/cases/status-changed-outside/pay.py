"""Charges for orders, and writes them down."""

import os
import signal
import sys
import tempfile

from flask import Flask
from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

folder = tempfile.TemporaryDirectory()
engine = create_engine(f"sqlite:///{folder.name}/payments.db")
app = Flask(__name__)


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
    if order == "declined":
        return {"error": "the bank is not there"}, {"x-bank": "closed"}
    with Session(engine) as session:
        payment = Payment(order=order)
        session.add(payment)
        session.commit()
        return {"order": order, "payment": payment.id}


@app.after_request
def closed(response):
    """What the bank does not do is 503, whatever the handler said."""
    if response.headers.get("x-bank") == "closed":
        response.status = "503 Service Unavailable"
    return response


if __name__ == "__main__":
    # Python ends at once at SIGTERM, without the spans that are not sent yet, unless something handles it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Base.metadata.create_all(engine)
    app.run(port=int(os.environ["PORT"]))
