"""The barest REST enqueue of arq: FastAPI, the pool opened in its lifespan; no keys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from fastapi import FastAPI
from peer_arq import SETTINGS
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = await create_pool(SETTINGS)
    yield


class Call(BaseModel):
    """A call of one function."""

    function: str
    args: list[Any] = []


app = FastAPI(lifespan=lifespan)


@app.post("/jobs", status_code=202)
async def one(call: Call) -> dict[str, str]:
    job = await app.state.pool.enqueue_job(call.function, *call.args)
    return {"id": job.job_id}
