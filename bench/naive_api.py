"""What many would write first: FastAPI with pydantic, one commit a request through aiosqlite, on our server.

`python -m bench.naive_api DIRECTORY PORT`; with `bare` as third word it stores nothing.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import uvicorn
from fastapi import FastAPI, Header
from pydantic import BaseModel, Field

from bench.peers import aiosqlite_queue


class MoneyIn(BaseModel):
    amount: int = Field(gt=0)
    currency: str = Field(pattern="^[A-Z]{3}$")


class PaymentIn(BaseModel):
    amount: MoneyIn
    tender: Literal["cash", "card"]


class PaymentOut(BaseModel):
    id: UUID
    state: str
    amount: MoneyIn


def make_app(place: Path, *, bare: bool) -> FastAPI:
    stack = AsyncExitStack()
    number = 0

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with stack:
            if not bare:
                app.state.put = await stack.enter_async_context(aiosqlite_queue(place))
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.put("/v1/payments/{payment_id}", status_code=201)
    async def put_payment(payment_id: UUID, payment: PaymentIn, authorization: Annotated[str, Header()]) -> PaymentOut:
        nonlocal number
        number += 1
        if not bare:
            await app.state.put(number)
        return PaymentOut(id=payment_id, state="approved", amount=payment.amount)

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(Path(sys.argv[1]), bare=sys.argv[3:] == ["bare"]),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="asyncio",
        http="h11",
        log_level="warning",
        access_log=False,
    )
