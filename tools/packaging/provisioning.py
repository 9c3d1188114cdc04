"""What a custodian does off the device for a trial's node, with the same commands that a person gives; and a clip."""

import sys
from pathlib import Path

import numpy as np

from tools.packaging.roots import run
from tools.render.clip import render_clip

DESK = Path(sys.executable).with_name("homeplate-custodian")
AGENCY, TLS_NAME, ADDRESS = "example-pd", "broker.example", "192.0.2.10"


def make_custody(custody: Path) -> Path:
    """Make a custody under a demo root: an agency, its broker's certificate, a rule that keeps everything for a day."""
    purpose = ("--purpose", "demonstration")
    bundle = (DESK, "bundle")
    run(DESK, "init", custody, "--registry-body", "State registry", "--operator-body", "City of Example", "--demo")
    run(DESK, "broker", custody, TLS_NAME, "--address", ADDRESS)
    who = ("--name", "Example Police Department", "--kind", "city_agency", "--network", ADDRESS, "--tls-name", TLS_NAME)
    certificate = custody / "authority" / "servers" / f"{TLS_NAME}.crt"
    run(*bundle, "agency", "add", custody, AGENCY, *who, "--broker-certificate", certificate)
    run(*bundle, "purpose", custody, "demonstration")
    run(*bundle, "grant", custody, AGENCY, "--need", "trial", *purpose, "--approver", "nobody", "--attest")
    kept = ("--trigger", "everything", "--storage", "outgoing", "--retention", "1d")
    run(*bundle, "rule", "add", custody, "all", "--to", AGENCY, *kept, *purpose)
    return custody


def enrol(custody: Path, request: Path, certificate: Path) -> None:
    """Take a node in and publish the next bundle."""
    run(DESK, "enrol", custody, request, "--out", certificate, "--yes")
    run(DESK, "bundle", "publish", custody)


def render(folder: Path) -> Path:
    """Render a clip of three passing cars; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    clip = folder / "lane-1.avi"
    render_clip(clip, np.random.default_rng(7), seconds=6.0, plates=3)
    return clip
