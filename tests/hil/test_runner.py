"""The runner against a real sshd: what it finds, what it refuses, and that nothing is left there or told."""

import json
import re
import socket
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from homeplate.aiming.preview import Preview
from tests.hil.conftest import BIN, make_key
from tools.do import ROOT
from tools.hil.__main__ import main
from tools.hil.remote import Remote, RemoteError, UnreachableError
from tools.hil.settings import HilError, Node, Soak, Target, checked_node, load
from tools.hil.target import IN_MEMORY, ON_DISK, render

SECRET = "hunter2"
SETTINGS = """
[node]
ssh_port = {port}
identity_file = "{key}"
known_hosts = "{known_hosts}"
homeplate = "{homeplate}"
config = "{config}"
data_dir = "{data}"
sudo = false
units = []

[target]
seconds = 2.0
plates = 1
least_read = 1.0
{target}
[soak]
minutes = 0.02
every_s = 0.5
load = false
"""


@pytest.fixture
def run(server, simulation_node, tmp_path, capsys):
    """Return a function that runs the command with more settings and returns exit code, last line, steps and page."""

    def go(more="", *words, target=""):
        config = tmp_path / "hil.toml"
        config.write_text(
            SETTINGS.format(
                port=server.port, key=server.key, known_hosts=server.known_hosts, homeplate=BIN / "homeplate",
                config=simulation_node.config, data=simulation_node.paths.data, target=target,
            ) + more
        )  # fmt: skip
        code = main(["--node", server.node, "--config", str(config), "--out", str(tmp_path / "out"), *words])
        said = capsys.readouterr().out
        cases = ET.parse(tmp_path / "out/hil.xml").getroot().iter("testcase")  # noqa: S314 - our own writer's
        steps = {case.get("name"): case for case in cases}
        return code, json.loads(said.splitlines()[-1]), steps, (tmp_path / "out/hil.html").read_text("utf-8")

    return go


def remote(server, **changes):
    given = {"ssh_port": server.port, "identity_file": str(server.key), "known_hosts": str(server.known_hosts)}
    return Remote(server.node, Node(**(given | {"sudo": False} | changes)))


def left_over():
    return [path for pattern in (ON_DISK, IN_MEMORY) for path in Path(pattern).parent.glob("homeplate-hil.*")]


def test_a_node_reads_the_cars_with_known_plates_and_nothing_of_it_is_left_there(run):
    before = left_over()
    code, last, steps, page = run()
    assert code == 0, last
    assert last["steps"] == {
        "reach": "passed", "version": "passed", "units": "skipped", "check": "passed", "target": "passed",
        "network": "skipped", "power": "skipped", "soak": "passed",
    }  # fmt: skip
    assert "detect: " in steps["target"].find("system-out").text
    assert "1 of 1 plates read exactly, 0 others, 30 frames" in page
    assert left_over() == before


def test_what_fails_is_a_failed_case_and_the_next_steps_are_done_all_the_same(run, simulation_node):
    simulation_node.paths.record_key.rename(simulation_node.paths.record_key.with_suffix(".away"))
    code, last, steps, _ = run(
        "[network]\ncut = ['true']\nmend = ['false']\ncut_s = 0.1\n",
        "--only",
        "check",
        "network",
        "soak",
        "--minutes",
        "0",
    )
    assert code == 1
    assert "WRONG keys" in steps["check"].find("failure").get("message")
    assert "network.mend ended with 1" in steps["network"].find("failure").get("message")
    assert last["steps"] == {"reach": "passed", "check": "failed", "network": "failed", "soak": "skipped"}


def test_a_switch_that_switches_nothing_is_found_out_and_its_password_told_nowhere(run):
    more = f"[power]\noff = ['sh', '-c', 'echo {SECRET} >&2']\non = ['true', '{SECRET}']\noff_s = 0.1\nboot_s = 3\n"
    more += f"[network]\nwhere = 'node'\ncut = ['sh', '-c', 'echo {SECRET}; exit 3']\nmend = ['true', '{SECRET}']\n"
    code, last, steps, page = run(more, "--only", "network", "power")
    assert code == 1
    assert "in vain for another boot of the node" in steps["power"].find("failure").get("message")
    assert "network.cut on the node ended with 3" in steps["network"].find("failure").get("message")
    everything = json.dumps(last) + page + "".join(ET.tostring(case, encoding="unicode") for case in steps.values())
    assert SECRET not in everything


def test_records_that_wait_through_a_cut_have_to_be_gone_after_it(run, simulation_node):
    outgoing = simulation_node.paths.spool / "outgoing"
    outgoing.mkdir(parents=True, exist_ok=True)
    record = outgoing / "record"
    more = f"""
[network]
where = "node"
cut = ["true"]
feed = ["touch", "{record}"]
mend = ["rm", "{record}"]
cut_s = 0.2
deliver_s = 3
"""
    _, last, _, page = run(more, "--only", "network")
    assert last["steps"]["network"] == "passed"
    assert "1 records waited in a cut of 0.2 s" in page
    code, last, steps, _ = run(more.replace('mend = ["rm"', 'mend = ["ls"'), "--only", "network")
    assert code == 1
    assert "in vain for the records to be delivered" in steps["network"].find("failure").get("message")


def test_a_display_is_judged_by_what_aim_sees(run, simulation_node, rendered, tmp_path):
    source = f'\n[[source]]\nname = "lane-1"\nkind = "video"\npath = "{rendered[0]}"\nrealtime_fps = 40.0\n'
    simulation_node.config.write_text(simulation_node.config.read_text() + source)
    _, _, steps, _ = run("", "--target", "display", "--only", "target")
    assert "target.show says how" in steps["target"].find("failure").get("message")
    shown = f'show = ["cp", "{{clip}}", "{tmp_path}/shown"]\nwatch_s = 20\nstart = ["touch", "{tmp_path}/started"]\n'
    _, _, steps, _ = run("", "--target", "display", "--only", "target", target=shown)
    assert (tmp_path / "shown").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "started").exists()
    assert "lane-1: " in steps["target"].find("system-out").text
    assert '"sightings"' in steps["target"].find("system-out").text


def test_an_unknown_host_key_and_a_closed_port_end_the_run_before_anything_is_done(run, server):
    with server.known_hosts.open("w") as file:
        file.write(f"[127.0.0.1]:{server.port} {make_key(server.folder / 'another')}\n")
    code, last, steps, _ = run()
    assert code == 1
    assert list(last["steps"]) == ["reach"]
    assert "ssh does not reach" in steps["reach"].find("failure").get("message")
    server.stop()
    assert list(run()[1]["steps"]) == ["reach"]


def test_a_command_without_an_end_is_given_up_at_its_deadline(server):
    begun = time.perf_counter()
    with (
        remote(server, answer_s=1.0) as node,
        pytest.raises(RemoteError, match=r"`sleep 60` on the node: no end within its deadline of 1 s"),
    ):
        node.tell("sleep", "60")
    assert time.perf_counter() - begun < 30


def test_words_reach_the_node_as_they_are(server):
    words = ["a b", "$HOME", "'; touch /tmp/x", "\n", "*", ""]
    with remote(server) as node:
        answer = node.tell("printf", "%s|", *words)
        assert answer.text == "".join(f"{word}|" for word in words)
        assert node.ask("cat", given=b"\0\xff").out == b"\0\xff"
        with pytest.raises(RemoteError, match="`false` on the node ended with 1"):
            node.tell("false")


def test_a_node_that_goes_away_is_unreachable_and_back_after_it_came_back(server):
    with remote(server) as node:
        assert node.tell("true").code == 0
        server.stop()
        node.hang_up()
        with pytest.raises(UnreachableError):
            node.tell("true")
        server.start()
        assert node.tell("true").code == 0


@pytest.mark.parametrize("name", ["-oProxyCommand=touch", "pi@-x", "a b", "pi@node;x", "", "pi@node:22"])
def test_what_is_no_node_never_gets_to_ssh(name):
    with pytest.raises(HilError, match="--node"):
        checked_node(name)


@pytest.mark.parametrize("name", ["pi@192.0.2.7", "node-1.example", "root@[2001:db8::7]"])
def test_a_node_is_a_user_and_a_host(name):
    assert checked_node(name) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[node]\nssh_prot = 22\n", "ssh_prot"),
        ("[node]\nssh_port = 0\n", "ssh_port"),
        ("[power]\noff = ['x']\n", "on"),
        ("[network]\ncut = []\nmend = ['x']\n", "cut"),
        ("x" * 70_000, "larger than"),
        ("[", "hil.toml"),
    ],
)
def test_settings_that_are_not_known_are_refused_by_name(tmp_path, text, words):
    (tmp_path / "hil.toml").write_text(text)
    with pytest.raises(HilError, match=words):
        load(tmp_path / "hil.toml")


def test_the_settings_that_the_docs_show_are_settings(tmp_path):
    [shown] = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/hardware-in-the-loop.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "hil.toml").write_text(shown)
    read = load(tmp_path / "hil.toml")
    assert read.soak == Soak()
    assert read.network is not None
    assert read.power is not None


def test_a_command_line_that_cannot_begin_ends_with_2():
    assert main(["--node", "a b"]) == 2
    assert main(["--node", "pi@node", "--config", "/nonexistent/hil.toml"]) == 2


def test_the_preview_comes_through_ssh_as_a_technician_gets_it(server, tmp_path):
    """`ssh -L PORT:SOCKET` to a Unix socket, as docs/aim.md says."""
    preview = Preview(tmp_path / "aim.sock", ["lane-1"], minutes=1, perf_ns=time.perf_counter_ns)
    preview.start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "-o",
        f"UserKnownHostsFile={server.known_hosts}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "BatchMode=yes",
    ]
    command = ["ssh", "-N", "-i", str(server.key), "-p", str(server.port), *options, "-o", "ExitOnForwardFailure=yes"]
    forward = subprocess.Popen([*command, "-L", f"127.0.0.1:{port}:{tmp_path / 'aim.sock'}", server.node])
    try:
        got = b""
        give_up = time.perf_counter() + 20
        while b"lane-1.mjpeg" not in got and time.perf_counter() < give_up:
            with socket.socket() as viewer:
                viewer.settimeout(10)
                if viewer.connect_ex(("127.0.0.1", port)) == 0:
                    viewer.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
                    while piece := viewer.recv(65536):
                        got += piece
                else:
                    time.sleep(0.05)
        assert b"lane-1.mjpeg" in got
    finally:
        forward.terminate()
        forward.wait(10)
        preview.close()


def test_the_clip_of_one_seed_is_one_clip(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (render(tmp_path / name, Target(seconds=2.0, plates=1)) for name in ("one", "two"))
    assert one.plates == two.plates
    assert one.path.read_bytes() == two.path.read_bytes()
