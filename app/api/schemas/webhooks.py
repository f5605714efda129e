"""Webhook URLs that are disabled because they answered 410 Gone."""

from pydantic import BaseModel

from app.catalog.fields import Strict


class WebhookQuery(Strict):
    url: str


class DisabledWebhook(BaseModel):
    url: str
    since: str


class DisabledWebhooks(BaseModel):
    disabled: list[DisabledWebhook]
