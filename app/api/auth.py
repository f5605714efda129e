"""Who is calling, and may they: Bearer, or Basic with the key as password. Without configured keys everyone may."""

from flask import g
from werkzeug.datastructures import Authorization

from app import api_keys
from app.api.context import asked, context
from app.api.throttle import throttle
from app.errors import Forbidden, Unauthorized


def authorize(scope: str) -> None:
    """Let the request's caller pass who has `scope`.

    Afterwards `g.scope` is what was asked for and `g.caller` the name of the key, or "open" where there are no keys.

    Raises:
        Unauthorized, Forbidden, TooManyRequests
    """
    keys = context().keys
    if not keys:
        g.caller, g.scope = "open", scope
        throttle()
        return
    found = api_keys.find(keys, _presented(asked().authorization))
    if found is None:
        raise Unauthorized("Give an API key: Authorization: Bearer KEY, or Basic with the key as password")
    g.caller, g.scope = found.name, scope
    throttle()
    if not found.allows(scope):
        raise Forbidden(f"The key {found.name!r} has no scope {scope!r}")


def _presented(authorization: Authorization | None) -> str:
    if authorization is None:
        return ""
    return (authorization.token if authorization.type == "bearer" else authorization.password) or ""
