"""The Ansible role for real: a booted Debian, a local connection, an enrolment between runs, a last idle run."""

import re
import shutil
from pathlib import Path

from tools.packaging.build import ROOT
from tools.packaging.provisioning import enrol, make_custody, render
from tools.packaging.roots import INCLUDED, Machine, expect, machine, tarball

HOST = "node-1"
CALL = (
    "cd /media/stick && ANSIBLE_LOCALHOST_WARNING=False ANSIBLE_NOCOLOR=1 ansible-playbook -i 'node-1,' -c local"
    " -e ansible_python_interpreter=/usr/bin/python3 -e homeplate_package=/media/stick/homeplate.deb"
    " -e homeplate_config=/media/stick/homeplate.toml ansible/nodes.yml"
)


def trial(work: Path, deb: Path) -> dict[str, object]:
    """Bring a node up by the role alone, and run the role once more."""
    stick = work / "stick"
    stick.mkdir(parents=True)
    shutil.copytree(ROOT / "tools" / "ansible", stick / "ansible")
    shutil.copy(deb, stick / "homeplate.deb")
    shutil.copy(render(work / "clip"), stick / "lane-1.avi")
    custody = make_custody(stick / "custody")
    (stick / "homeplate.toml").write_text(
        '[[source]]\nname = "lane-1"\nkind = "video"\npath = "/media/stick/lane-1.avi"\n', "utf-8"
    )
    tar = tarball("bookworm", "amd64", (*INCLUDED, "ansible-core", "python3-apt", "dbus"), name="ansible")
    with machine(work / "root", tar, stick=stick) as place:
        figures: dict[str, object] = {"ansible": place.call("ansible", "--version").splitlines()[0]}
        figures["first_run"] = play(place)
        request = stick / "requests" / f"{HOST}.json"
        (stick / "certificates").mkdir()
        enrol(custody, request, stick / "certificates" / f"{HOST}.crt")
        figures["second_run"] = play(place)
        active = place.call("systemctl", "is-active", "homeplate.target", "homeplate-bundle.service", code=None).split()
        expect(active == ["active", "active"], place.call("systemctl", "status", "homeplate*", code=None))
        figures["third_run"] = third = play(place)
        expect(third["changed"] == 0, f"a run that had nothing to do changed {third}")
    return figures


def play(place: Machine) -> dict[str, int]:
    """Run the playbook; return the counts of its recap."""
    said = place.call("sh", "-c", CALL)
    match = re.search(rf"^{HOST}\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", said, re.MULTILINE)
    expect(match and match[3] == match[4] == "0", said)
    return {"ok": int(match[1]), "changed": int(match[2])} if match else {}
