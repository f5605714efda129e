"""Workflows, as the API takes them, in this process: `python -m submit FILE MOST`.

FILE has the JSON of one on each line; the next is submitted when fewer than MOST have not ended.
"""

import sys
import time
from pathlib import Path

from app.api.application import create_app
from app.redis.client import connect
from app.redis.keys import WORKFLOWS_OPEN
from app.settings import get_settings


def main(file: str, most: str) -> int:
    redis = connect(get_settings())
    client = create_app(connection=redis).test_client()
    for body in Path(file).read_text().splitlines():
        while redis.scard(WORKFLOWS_OPEN) >= int(most):
            time.sleep(0.01)
        answer = client.post("/api/v1/workflows", data=body, content_type="application/json")
        if answer.status_code != 202:
            print(answer.text, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
