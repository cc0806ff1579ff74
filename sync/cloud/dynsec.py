"""The words of mosquitto's dynamic-security plugin: who may enter and which topics are whose. No sockets here."""

from __future__ import annotations

from typing import Any

from sync.cloud.topics import topic_of

CONTROL_TOPIC = "$CONTROL/dynamic-security/v1"
RESPONSE_TOPIC = f"{CONTROL_TOPIC}/response"


def role_of(hub: bytes) -> str:
    """The name of a hub's role at the broker."""
    return f"hub-{hub.hex()}"


def let_in(tenant: str, hub: bytes, password: str) -> list[dict[str, Any]]:
    """Commands that give a hub exactly its own topics, under a fresh password. Repeating them changes nothing else."""
    name, role = hub.hex(), role_of(hub)
    acls = [
        {"acltype": kind, "topic": topic_of(tenant, hub, leaf), "allow": True, "priority": 0}
        for kind, leaf in (
            ("publishClientSend", "up"),
            ("publishClientSend", "state"),
            ("publishClientReceive", "down"),
            ("subscribeLiteral", "down"),
        )
    ]
    return [
        {"command": "deleteClient", "username": name},
        {"command": "deleteRole", "rolename": role},
        {"command": "createRole", "rolename": role, "acls": acls},
        {"command": "createClient", "username": name, "password": password, "roles": [{"rolename": role}]},
    ]


def shut_out(hub: bytes) -> list[dict[str, Any]]:
    """Commands that end a hub's credentials and its connections."""
    return [{"command": "deleteClient", "username": hub.hex()}, {"command": "deleteRole", "rolename": role_of(hub)}]


def failures(response: dict[str, Any]) -> list[str]:
    """What went wrong, leaving out that something to be removed was not there."""
    return [
        f"{answer.get('command')}: {answer['error']}"
        for answer in response.get("responses", [])
        if answer.get("error") and not str(answer.get("command", "")).startswith("delete")
    ]
