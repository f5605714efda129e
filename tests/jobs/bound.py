"""The jobs that come with the service, each call with a Context of its own, since each test has other settings."""

import functools
from typing import Any

from app import Context
from app.author.outbound import Client
from jobs import exports, imports, reports, web
from jobs._database import Database


def _bind(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with Client("FETCH_ALLOW_HOSTS") as client:
            return function(*args, **kwargs, context=Context(database=Database(), web=client))

    return call


load_csv, dump_csv, sales, fetch = map(_bind, (imports.load_csv, exports.dump_csv, reports.sales, web.fetch))
