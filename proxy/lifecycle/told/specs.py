"""The objects in an init request, as an OpenHands agent server takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from proxy.lifecycle.faults import fault_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Spec(BaseModel):
    """Of an object within a field: what is known of it is checked, the rest is passed on."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)


_AtLeast0 = Annotated[int, Field(ge=0)]
_AtLeast1 = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0)]


class WebhookSpec(_Spec):
    """A webhook, as the OpenHands agent server has it (`agent_server/config.py`)."""

    event_buffer_size: _AtLeast1 = 1
    flush_delay: _Positive = 1
    num_retries: _AtLeast0 = 0
    retry_delay: _AtLeast0 = 0
    max_queue_size: _AtLeast1 = 1
    max_batch_bytes: _AtLeast1 = 1
    max_queue_bytes: _AtLeast1 = 1


class TelemetrySpec(_Spec):
    """What `telemetry` is, as the OpenHands agent server has it."""

    deployment_kind: Literal["local", "remote"] = "local"
    exporter: Literal["none", "posthog", "http"] = "none"
    posthog_api_key: SecretStr | None = None
    posthog_host: str = ""
    http_endpoint: str | None = None
    http_token: SecretStr | None = None
    salt: SecretStr | None = None
    max_queue_size: _AtLeast1 = 1
    event_buffer_size: _AtLeast1 = 1
    flush_delay: _Positive = 1
    num_retries: _AtLeast0 = 0
    retry_delay: Annotated[float, Field(ge=0)] = 0


class _Specs(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    webhooks: list[WebhookSpec] = Field(default_factory=list)
    telemetry: TelemetrySpec = Field(default_factory=TelemetrySpec)


def misspecified(delivered: Mapping[str, Any]) -> list[str]:
    """What an OpenHands agent server would not start with in delivered webhooks and telemetry."""
    given = {name: delivered[name] for name in _Specs.model_fields if name in delivered}
    try:
        _Specs.model_validate(given)
    except ValidationError as error:
        return [fault_of(each) for each in error.errors()]
    return []
