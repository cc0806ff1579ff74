"""The demo store as people run it: `hubd demo` in one process, `hubctl` in others, the story played to its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubd.store.sealed import read_recovery_code
from tests.rigs.demo import Demo, environment
from tests.rigs.process import wait_for

SETTLE_LIMIT_S = 60.0
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    store = Demo(tmp_path_factory.mktemp("demo"))
    try:
        store.start()
        yield store
    finally:
        store.child.close()


def test_it_says_where_everything_is_and_keeps_its_files_private(demo: Demo) -> None:
    printed = demo.child.stdout()
    for word in ("Page", "Paper", "/docs", "PIN 2580", str(demo.state / "till.json"), "hubctl demo outage network"):
        assert word in printed
    assert str(demo.state / "recovery.json") in printed
    code = json.loads((demo.state / "recovery.json").read_text("utf-8"))["recovery_code"]
    assert read_recovery_code(code)
    assert code not in printed
    assert code not in (demo.state / "hubd.log").read_text("utf-8")
    for private in ("till.json", "recovery.json"):
        assert (demo.state / private).stat().st_mode & 0o077 == 0
    assert demo.state.stat().st_mode & 0o077 == 0


def test_page_and_api_answer_where_it_says(demo: Demo) -> None:
    till = demo.till()
    with urllib.request.urlopen(f"{till['http']}/healthz", timeout=20) as answer:
        assert json.load(answer)["status"] == "ok"
    context = ssl.create_default_context(cafile=str(demo.state / "keys/ca.pem"))
    with urllib.request.urlopen(f"{till['https']}/openapi.json", timeout=20, context=context) as answer:
        assert json.load(answer)["openapi"].startswith("3.1")
    request = urllib.request.Request(f"{till['http']}/", headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert b"<html" in answer.read().lower()


def test_both_terminals_work_one_on_a_serial_line_and_one_found_over_mdns(demo: Demo) -> None:
    def ready() -> dict[str, dict[str, Any]] | None:
        devices = {item["name"]: item for item in demo.ask("devices")["devices"] if item["kind"] == "terminal"}
        return devices if [item["state"] for item in devices.values()] == ["ready", "ready"] else None

    devices = wait_for(ready, 30, "both terminals to be ready")
    assert devices["Terminal 2"]["address"].startswith("serial://")
    found = devices["Terminal 1"]
    assert found["address"].startswith("tcp://127.0.0.1:")
    assert found["address"] not in (demo.state / "hubd.toml").read_text("utf-8"), "it was not configured"
    assert found["identity"] == "serial:" + json.loads((demo.state / "demo.json").read_text("utf-8"))["serial_number"]
    seen = {item["device"]: item for item in demo.ask("devices")["endpoints"]}[found["id"]]
    assert (seen["source"], seen["service"], seen["standing"]) == ("mdns", "_zvt._tcp.local.", "known")
    demo.play("unplug", "Terminal 2")
    payment = demo.play("sale", "14.00")["payment"]
    assert (payment["state"], payment["terminal"]) == ("approved", found["id"])
    demo.play("replug", "Terminal 2")


def test_a_sale_prints_a_receipt_and_everybody_can_see_the_paper(demo: Demo) -> None:
    sold = demo.play("sale", "21.37")["payment"]
    assert sold["state"] == "approved"
    wait_for(lambda: "21.37" in demo.paper(), 20, "the receipt on the paper")
    assert "Demo store" in demo.paper()
    with urllib.request.urlopen(demo.paper_url(), timeout=20) as answer:
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "21.37" in answer.read().decode("utf-8"), "also without a script"


def test_the_counter_is_in_use_found_or_configured_and_the_tills_own_is_its_own(demo: Demo) -> None:
    counter = {"Receipt printer", "Scanner", "Scale"}

    def ready() -> dict[str, dict[str, Any]] | None:
        found = {item["name"]: item for item in demo.ask("devices")["devices"] if item["name"] in counter}
        return found if {item["state"] for item in found.values()} == {"ready"} and len(found) == 3 else None

    devices = wait_for(ready, 30, "printer, scanner and scale to be ready")
    mine = f"till:{demo.till()['device']}"
    assert {name: item["role"] for name, item in devices.items()} == {
        "Receipt printer": "", "Scanner": mine, "Scale": mine,
    }  # fmt: skip
    printer = devices["Receipt printer"]
    assert printer["address"] not in (demo.state / "hubd.toml").read_text("utf-8"), "it was found, not configured"
    seen = {item["device"]: item for item in demo.ask("devices")["endpoints"]}[printer["id"]]
    assert (seen["source"], seen["service"]) == ("mdns", "_pdl-datastream._tcp.local.")


def test_the_till_hears_what_is_scanned_and_reads_what_is_weighed(demo: Demo) -> None:
    for code, symbology in (("4006381333931", "ean13"), ("96385074", "ean8"), ("SHELF-17", "code128")):
        heard = demo.play("scan", code)["scan"]
        assert (heard["text"], heard["symbology"]) == (code, symbology)
    assert demo.play("weigh", "350")["weight"]["grams"] == 350
    assert demo.play("weigh", "0")["weight"]["grams"] == 0
    demo.play("unplug", "scanner")
    demo.play("unplug", "scale")
    assert demo.play("scan", "4006381333931")["scan"] is None
    assert demo.play("weigh", "350")["weight"]["reason"] == "unreachable"
    demo.play("replug", "scanner")
    demo.play("replug", "scale")
    wait_for(lambda: demo.play("scan", "4006381333931")["scan"], 30, "the scanner to be back")
    wait_for(lambda: demo.play("weigh", "125")["weight"]["grams"] == 125, 30, "the scale to be back")
    assert demo.hubctl("demo", "weigh", "heavy").returncode == 2


def test_a_receipt_waits_for_paper_and_the_problem_says_what_to_do(demo: Demo) -> None:
    demo.play("paper-out")
    assert demo.sell("8.88", "--cash") == "approved", "no sale waits for paper"
    wait_for(lambda: "printer.no_paper" in demo.problems(), 60, "the problem")
    assert "device.faulty" not in demo.problems()
    assert "8.88" not in demo.paper()
    assert "demo paper-in" in demo.paper(), "what to type"
    demo.play("paper-in")
    wait_for(lambda: "printer.no_paper" not in demo.problems(), 60, "its end")
    wait_for(lambda: demo.paper().count("8.88") >= 2, 30, "the receipt that waited")


def test_amounts_decide_and_cash_needs_no_terminal(demo: Demo) -> None:
    assert demo.sell("12.00") == "approved"
    assert demo.sell("12.05") == "declined"
    assert demo.sell("3.50", "--cash") == "approved"
    assert demo.hubctl("demo", "sale", "12.05").returncode == 1
    assert demo.hubctl("demo", "sale", "0").returncode == 2
    assert demo.hubctl("demo", "sale", "1.005").returncode == 2


def test_an_unplugged_device_is_a_problem_and_comes_back(demo: Demo) -> None:
    demo.play("unplug", "Terminal 2")
    wait_for(lambda: "device.gone" in demo.problems(), 60, "the problem")
    assert demo.hubctl("--config", str(demo.state / "hubd.toml"), "status").returncode == 1
    assert demo.sell("9.00") == "approved"  # on the other one
    demo.play("replug", "serial")
    wait_for(lambda: "device.gone" not in demo.problems(), 60, "its return")
    assert demo.hubctl("demo", "unplug", "toaster").returncode == 1


@pytest.mark.parametrize(("kind", "mode"), [("network", "network_outage"), ("service", "service_disruption")])
def test_an_outage_is_noticed_traded_through_and_proven(demo: Demo, kind: str, mode: str) -> None:
    assert demo.play("outage", kind)["mode"] == mode, demo.log_tail()
    assert demo.sell("20.11") == "stored"
    assert demo.sell("8.20", "--cash") == "approved"
    assert demo.ask("status")["hub"]["mode"] == mode
    assert demo.play("restore")["mode"] == "online", demo.log_tail()

    def final() -> dict[str, Any] | None:
        newest: dict[str, Any] = demo.ask("outages")["outages"][0]
        return newest if newest.get("statement") == "final" else None

    outage = wait_for(final, SETTLE_LIMIT_S, "the final statement")
    assert outage["cause"] == mode
    found = demo.ask("outages", "statement", outage["id"])["statement"]
    assert found["agrees"] is True
    file = demo.place / f"{kind}.json"
    file.write_text(json.dumps(found))
    key = (demo.state / "cloud/keys/signing-1.key").read_bytes()
    from sync.cloud.keys import SigningKey

    public = SigningKey.of_seed(key).public_key.hex()
    verified = demo.ask("outages", "verify", str(file), "--cloud-key", public, "--entries", str(demo.state / "hub.db"))
    assert verified["reasons"] == []
    assert verified["payments"] >= 1
    file.write_text(json.dumps(found).replace('"agrees"', '"agreed"').replace("2011", "2012"))
    forged = demo.hubctl("outages", "verify", str(file), "--cloud-key", public)
    assert forged.returncode == 1
    assert "WRONG" in forged.stdout
    wait_for(lambda: demo.ask("sync")["sync"]["waiting"] == 0, SETTLE_LIMIT_S, "everything to be confirmed")


def test_a_statement_stays_provisional_until_the_terminal_of_the_outage_has_answered(demo: Demo) -> None:
    """Nothing is open (the sale was declined), and yet nobody knows what else is in the terminal that was pulled."""
    demo.play("outage", "network")
    assert demo.sell("8.05") == "declined"
    used = demo.ask("payments")["payments"][0]["terminal"]
    name = next(item["name"] for item in demo.ask("devices")["devices"] if item["id"] == used)
    demo.play("unplug", name)
    assert demo.play("restore")["mode"] == "online", demo.log_tail()

    def newest(finality: str) -> dict[str, Any] | None:
        outage: dict[str, Any] = demo.ask("outages")["outages"][0]
        return outage if outage.get("statement") == finality else None

    outage = wait_for(lambda: newest("provisional"), SETTLE_LIMIT_S, "the provisional statement")
    assert outage["unheard"] == [{"id": used, "name": name}]
    statement = demo.ask("outages", "statement", outage["id"])["statement"]
    assert (statement["agrees"], statement["statement"]["open"], statement["statement"]["unheard"]) == (True, 0, [used])
    demo.play("replug", name)
    outage = wait_for(lambda: newest("final"), SETTLE_LIMIT_S, "the final statement")
    assert outage["unheard"] == []
    statement = demo.ask("outages", "statement", outage["id"])["statement"]
    assert (statement["agrees"], statement["statement"]["unheard"]) == (True, [])


def test_operators_look_pair_and_add_people(demo: Demo) -> None:
    code = demo.ask("pair", "new")["pairing"]
    assert len(code["code"]) == 8
    waiting = [item["id"] for item in demo.ask("pair", "list")["pairings"] if item["state"] == "open"]
    assert waiting == [code["id"]]
    assert demo.hubctl("--config", str(demo.state / "hubd.toml"), "pair", "refuse", code["id"]).returncode == 0
    names = [item["name"] for item in demo.ask("users", "list")["users"]]
    assert "Camille" in names
    assert demo.ask("journal", "verify")["verify"]["ok"] is True
    assert demo.ask("journal", "replay", "--check")["replay"]["ok"] is True
    assert demo.ask("doctor")["findings"]


def test_a_second_demo_in_the_same_place_is_refused(demo: Demo) -> None:
    argv = [sys.executable, "-m", "hubd", "demo", "--https-port", "0", "--http-port", "0"]
    done = subprocess.run(
        argv, cwd=demo.place, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "hub.already_running" in done.stderr


def test_nothing_secret_is_in_its_logs(demo: Demo) -> None:
    log = (demo.state / "hubd.log").read_text()
    till = demo.till()
    assert till["token"] not in log
    assert "2580" not in [word for line in log.splitlines() for word in json.loads(line).get("message", "").split()]
    assert "Camille" not in log


def test_it_stops_in_order_and_goes_on_where_it_stopped(demo: Demo) -> None:
    before = demo.till()
    sold = len(demo.ask("payments")["payments"])
    (was,) = [item for item in demo.ask("devices")["devices"] if item["name"] == "Terminal 1"]
    simulators = demo.simulators()
    assert len(simulators) == 3
    assert demo.child.stop() == 0
    assert [number for number in simulators if Path(f"/proc/{number}").exists()] == []
    assert list(demo.state.glob("*.tty")) == []
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", int(was["address"].rpartition(":")[2])))  # or chance gives the terminal its port again
        demo.start()

    def followed() -> bool:
        (now,) = [item for item in demo.ask("devices")["devices"] if item["name"] == "Terminal 1"]
        return bool(now["id"] == was["id"] and now["address"] != was["address"] and now["state"] == "ready")

    wait_for(followed, 60, "the terminal to be known again at its new address")
    after = demo.till()
    assert (after["device"], after["token"]) == (before["device"], before["token"])
    assert len(demo.ask("payments")["payments"]) == sold
    wait_for(lambda: demo.sell("12.00") == "approved", 60, "a sale after the restart")
    assert demo.ask("journal", "verify")["verify"]["ok"] is True
    lines = demo.ask("journal", "verify")["verify"]["lines"]
    assert len(lines) == 1


def test_two_demos_on_one_machine_do_not_take_each_others_terminals(demo: Demo, tmp_path: Path) -> None:
    other = Demo(tmp_path)
    try:
        other.start()
        for store, neighbour in ((demo, other), (other, demo)):
            mine, theirs = (
                "serial:" + json.loads((one.state / "demo.json").read_text("utf-8"))["serial_number"]
                for one in (store, neighbour)
            )

            def seen(store: Demo = store, theirs: str = theirs) -> dict[str, Any] | None:
                found = [item for item in store.ask("devices")["endpoints"] if item["identity"] == theirs]
                return found[0] if found else None

            offered = wait_for(seen, 30, "the neighbour's terminal")
            assert (offered["standing"], offered["device"]) == ("offered", None)
            known = {item["identity"] for item in store.ask("devices")["devices"] if item["kind"] == "terminal"}
            assert mine in known
            assert theirs not in known
            assert store.sell("12.00") == "approved"
    finally:
        other.child.close()


def test_a_killed_demo_leaves_no_simulator_behind(tmp_path: Path) -> None:
    store = Demo(tmp_path)
    try:
        store.start()
        controls = [store.state / f"run/{name}.sock" for name in ("terminal-1", "printer", "scanner", "scale")]
        assert all(map(answers, controls))
        os.kill(store.child.pid, signal.SIGKILL)
        wait_for(lambda: not any(map(answers, controls)), 20, "the simulators to end with their demo")
    finally:
        store.child.close()


def answers(control: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        return end.connect_ex(str(control)) == 0


def test_hubctl_demo_without_a_demo_says_how_to_start_one(tmp_path: Path, demo: Demo) -> None:
    done = demo.hubctl("demo", "--dir", str(tmp_path), "outage", "network")
    assert done.returncode == 3
    assert "hubd demo" in done.stderr
