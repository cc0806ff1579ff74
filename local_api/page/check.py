"""The check of a browser, and how it learns to trust this hub: on the lamp's door and behind the gate alike.

The page asks over HTTPS as a till does, from the browser it stands in, and says what a page cannot find out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from local_api.page.render import CHECK_SCRIPT, CONTENT_SECURITY_POLICY
from local_api.page.screen import Answer, Screen

CERTIFICATE_TYPE = "application/x-x509-ca-cert"
_PORT = re.compile(r":\d{1,5}$")
_PLACE = re.compile(r"[A-Za-z0-9.\-]{1,253}:\d{1,5}|\[[0-9a-f:]{2,39}\]:\d{1,5}")


def places(screen: Screen) -> tuple[list[str], str]:
    """Where the hub answers over HTTPS, as `host:port`, best first; and its own name there, empty if it has none."""
    found = [place for place in screen.tools.facts.addresses() if _PLACE.fullmatch(place)]
    name = next((name for name in sorted(screen.tools.facts.names) if name.endswith(".local")), "")
    return found, f"{name}:{found[0].rpartition(':')[2]}" if name and found else ""


def for_others(places: Sequence[str]) -> list[str]:
    """Those of the places that another device can reach; all, if there is none."""
    return [place for place in places if not place.startswith("127.")] or list(places)


async def browser(screen: Screen, *, lamp: bool = False) -> Answer:
    """Whether the browser that shows this can be a till here."""
    shop = await screen.tools.overview.shop()
    found, name = places(screen)
    port = found[0].rpartition(":")[2] if found else ""
    asked = [place for place in (*found, name, f"localhost:{port}") if port and place]
    allowed = " ".join(["connect-src 'self'", *(f"https://{place}" for place in asked)])
    here = _PORT.search(screen.headers.get("host"))
    clock_trusted = await asyncio.to_thread(screen.services.runtime.clock.trusted)
    shown = screen.show(
        "browser.html",
        shop,
        lamp=lamp,
        script=CHECK_SCRIPT,
        places_https=for_others(found),
        name_https=name,
        name=name.rpartition(":")[0],
        hosts=[place.rpartition(":")[0] for place in asked],
        others=[place.rpartition(":")[0] for place in for_others(found)],
        port=port,
        port_here=here[0] if here else "",
        now_ms=shop.now_us // 1000,
        clock_trusted=clock_trusted,
    )
    policy = CONTENT_SECURITY_POLICY.replace("connect-src 'self'", allowed)
    return Answer(shown.body, shown.status, {"content-security-policy": policy})


async def trust(screen: Screen, *, lamp: bool = False) -> Answer:
    """How a browser learns to trust this hub, and the address of the page with the acts."""
    fingerprint = screen.tools.facts.fingerprint
    values: dict[str, Any] = {
        "lamp": lamp,
        "addresses": [f"https://{address}/" for address in for_others(screen.tools.facts.addresses())],
        "fingerprint": " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4)),
    }
    return screen.show("trust.html", await screen.tools.overview.shop(), **values)


async def certificate(screen: Screen) -> Answer:
    """The CA's certificate, as browsers and phones install it."""
    return Answer(screen.tools.facts.ca_pem, media_type=CERTIFICATE_TYPE)
