"""/webhooks: URLs disabled by 410 Gone."""

from flask import Response

from app.api.auth import requires
from app.api.context import context, json_response
from app.api.openapi import blueprint
from app.api.schemas.webhooks import DisabledWebhooks, WebhookQuery
from app.webhooks import webhook_delivery

api = blueprint("webhooks", "webhooks", "/api/v1/webhooks")


@api.get("/disabled", responses={200: DisabledWebhooks})
@requires("read")
def list_disabled() -> Response:
    """List disabled webhook URLs.

    They answered 410 Gone in the last 30 days. Nothing is delivered to them.
    """
    return json_response({"disabled": webhook_delivery.list_disabled(context().redis)})


@api.delete("/disabled", responses={204: None})
@requires("admin")
def enable(query: WebhookQuery) -> Response:
    """Enable a disabled webhook URL again.

    Deliveries that failed meanwhile can be requeued.
    """
    webhook_delivery.enable(context().redis, query.url)
    return Response(status=204)
