"""Authentication by API key (Bearer, or Basic with the key as password) and authorization by scope.

Without configured keys every request is allowed. The scope of a route is checked before the body is read.
"""

from collections.abc import Callable
from typing import TypeVar

from flask import current_app, g
from werkzeug.datastructures import Authorization

from app.access import api_keys
from app.api.context import context, current_request
from app.api.throttle import count_request
from app.errors import Forbidden, Unauthorized

View = TypeVar("View", bound=Callable[..., object])


def requires(*scopes: str) -> Callable[[View], View]:
    """Decorate a route with the scopes that its callers need. The first is the scope of its action."""

    def mark(view: View) -> View:
        view.scopes = scopes  # type: ignore[attr-defined]
        return view

    return mark


def check_scope() -> None:
    """Authorize the current request for the scopes of its route. Raises as `authorize`."""
    request = current_request()
    if request.method != "OPTIONS":
        scopes = getattr(current_app.view_functions.get(request.endpoint or ""), "scopes", ())
        if scopes:
            authorize(*scopes)


def authorize(*scopes: str) -> None:
    """Check that the caller of the current request has all of these scopes.

    Sets `g.scope` to the first scope, `g.caller` to the name of the key ("open" without configured keys), and
    `g.may_read` to whether the caller has the scope `read`.

    Raises:
        Unauthorized: the API key is missing or wrong.
        Forbidden: the key lacks a scope.
        TooManyRequests: the caller exceeds REQUEST_LIMIT.
    """
    keys = context().api_keys
    if not keys:
        g.caller, g.scope, g.may_read = "open", scopes[0], True
        count_request()
        return
    api_key = api_keys.find(keys, _presented_key(current_request().authorization))
    if api_key is None:
        raise Unauthorized("An API key is required: Authorization: Bearer KEY, or Basic with the key as password")
    g.caller, g.scope, g.may_read = api_key.name, scopes[0], api_key.allows("read")
    g.api_key = api_key
    count_request()
    for scope in scopes:
        if not api_key.allows(scope):
            raise Forbidden(f"The key {api_key.name!r} has no scope {scope!r}")


def has_read_scope() -> bool:
    """Whether the caller has the scope `read`; for routes that require no scope."""
    keys = context().api_keys
    api_key = api_keys.find(keys, _presented_key(current_request().authorization)) if keys else None
    return not keys or (api_key is not None and api_key.allows("read"))


def _presented_key(authorization: Authorization | None) -> str:
    if authorization is None:
        return ""
    return (authorization.token if authorization.type == "bearer" else authorization.password) or ""
