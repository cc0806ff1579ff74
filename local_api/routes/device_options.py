"""What is set of one device: its width, its password, the speed of its line. Kept with the device, not its address."""

from __future__ import annotations

from hubd.model.device_options import OptionKind
from hubd.model.permissions import Permission
from hubd.services.device_options import OptionsView, OptionView
from local_api.call import Call, Reply
from local_api.option_schemas import DeviceOptionsIn, DeviceOptionsOut, OptionOut
from local_api.table import RouteSpec

TAG = "devices"


def option_out(view: OptionView) -> OptionOut:
    """One option, without the value of a secret."""
    option = view.option
    numbers = option.kind is OptionKind.NUMBER
    return OptionOut(
        name=option.name,
        kind=option.kind.value,
        title=option.title,
        why=option.why,
        allowed=option.allowed,
        choices=list(option.choices),
        least=option.least if numbers else None,
        most=option.most if numbers else None,
        default=option.default or None if option.kind is not OptionKind.SECRET else None,
        value=view.value or None,
        source=view.source.value,
    )


def _reply(view: OptionsView) -> Reply:
    shown = [option_out(one) for one in view.options]
    return Reply(
        DeviceOptionsOut(view.device.id, view.version, view.waiting, shown), headers={"etag": f'"{view.version}"'}
    )


async def get_options(call: Call) -> Reply:
    """What may be set of a device and what is, with its version as ETag."""
    return _reply(await call.context.services.options.of(call.id()))


async def put_options(call: Call) -> Reply:
    """Set them; `If-Match` names the version that the change is based on. Refused while a payment runs."""
    wanted = call.body
    assert isinstance(wanted, DeviceOptionsIn), "the table names the type of the body"
    desk = call.context.services.options
    return _reply(await desk.put(call.id(), wanted.options, call.caller, if_version=call.if_match))


_PATH = "/v1/devices/{id}/options"
ROUTES = (
    RouteSpec(
        "GET",
        _PATH,
        Permission.DEVICES_READ,
        get_options,
        "Read the options of a device",
        reply=DeviceOptionsOut,
        tag=TAG,
    ),
    RouteSpec(
        "PUT",
        _PATH,
        Permission.DEVICES_MANAGE,
        put_options,
        "Set the options of a device",
        body=DeviceOptionsIn,
        reply=DeviceOptionsOut,
        tag=TAG,
    ),
)
