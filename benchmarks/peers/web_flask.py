"""The barest REST enqueue of stock RQ: Flask and Queue.enqueue, JSON serializer; no keys, no checks."""

from flask import Flask, request
from peer_rq import queue

app = Flask(__name__)


@app.post("/jobs")
def one() -> tuple[dict[str, object], int]:
    call = request.get_json()
    return {"id": queue.enqueue(call["function"], *call["args"]).id}, 202


@app.post("/jobs/bulk")
def many() -> tuple[dict[str, object], int]:
    calls = [queue.prepare_data(call["function"], call["args"]) for call in request.get_json()["jobs"]]
    return {"ids": [job.id for job in queue.enqueue_many(calls)]}, 202
