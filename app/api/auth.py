"""Who is calling, and may they: Bearer, or Basic with the key as password. Without configured keys everyone may.

The scope of a route is checked before anything else of a request is looked at, its body included.
"""

from collections.abc import Callable
from typing import TypeVar

from flask import current_app, g
from werkzeug.datastructures import Authorization

from app.access import api_keys
from app.api.context import asked, context
from app.api.throttle import throttle
from app.errors import Forbidden, Unauthorized

View = TypeVar("View", bound=Callable[..., object])


def requires(*scopes: str) -> Callable[[View], View]:
    """Mark a route with the scopes that its callers need, the one that it is about first."""

    def mark(view: View) -> View:
        view.scopes = scopes  # type: ignore[attr-defined]
        return view

    return mark


def check_scope() -> None:
    """Before each request: authorize it for the scope of its route, if the route needs one. Raises as `authorize`."""
    request = asked()
    if request.method != "OPTIONS":
        scopes = getattr(current_app.view_functions.get(request.endpoint or ""), "scopes", ())
        if scopes:
            authorize(*scopes)


def authorize(*scopes: str) -> None:
    """Let the request's caller pass who has these scopes.

    Afterwards `g.scope` is the first of them, `g.caller` the name of the key, or "open" where there are no keys, and
    `g.may_read` whether the caller has the scope `read` besides.

    Raises:
        Unauthorized, Forbidden, TooManyRequests
    """
    keys = context().keys
    if not keys:
        g.caller, g.scope, g.may_read = "open", scopes[0], True
        throttle()
        return
    found = api_keys.find(keys, _presented(asked().authorization))
    if found is None:
        raise Unauthorized("Give an API key: Authorization: Bearer KEY, or Basic with the key as password")
    g.caller, g.scope, g.may_read = found.name, scopes[0], found.allows("read")
    throttle()
    for scope in scopes:
        if not found.allows(scope):
            raise Forbidden(f"The key {found.name!r} has no scope {scope!r}")


def is_reader() -> bool:
    """Whether the caller has the scope `read`, on a route that needs none."""
    keys = context().keys
    found = api_keys.find(keys, _presented(asked().authorization)) if keys else None
    return not keys or (found is not None and found.allows("read"))


def _presented(authorization: Authorization | None) -> str:
    if authorization is None:
        return ""
    return (authorization.token if authorization.type == "bearer" else authorization.password) or ""
