"""The shop: takes an order, and has `pay` charge for it."""

import asyncio
import os
import threading
from contextlib import asynccontextmanager

import httpx
from fastapi import BackgroundTasks, FastAPI, HTTPException
from opentelemetry import trace

PAY_URL = os.environ["PAY_URL"]
tracer = trace.get_tracer("shop")
parcels = asyncio.Queue()


@asynccontextmanager
async def lifespan(app):
    async with httpx.AsyncClient(base_url=PAY_URL, timeout=3) as app.state.pay:
        packer = asyncio.create_task(pack())
        yield
        packer.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready():
    return "ready"


@app.get("/orders/{order}")
async def order(order: str):
    return await charge(order)


@app.get("/receipts/{order}")
async def receipt(order: str, background: BackgroundTasks):
    """Charges when the answer is out: a background task has the context of its request."""
    background.add_task(charge, order)
    return {"order": order}


@app.get("/parcels/{order}")
async def parcel(order: str):
    """Leaves the parcel to a consumer, which starts a trace of its own and links it to this one."""
    with tracer.start_as_current_span("send parcel", kind=trace.SpanKind.PRODUCER) as span:
        await parcels.put((order, trace.Link(span.get_span_context())))
    return {"order": order}


@app.get("/letters/{order}")
async def letter(order: str):
    """Charges in a thread, which does not have the context of its request: this one is wrong."""
    threading.Thread(target=lambda: httpx.get(f"{PAY_URL}/payments/{order}")).start()
    return {"order": order}


async def charge(order):
    try:
        answer = await app.state.pay.get(f"/payments/{order}")
    except httpx.TimeoutException:
        raise HTTPException(504, "pay does not answer")
    except httpx.HTTPError:
        raise HTTPException(502, "pay cannot be reached")
    if answer.is_error:
        raise HTTPException(502, "pay failed")
    return {"order": order, "paid": True}


async def pack():
    while True:
        order, link = await parcels.get()
        with tracer.start_as_current_span("pack parcel", kind=trace.SpanKind.CONSUMER, links=[link]):
            await charge(order)
