"""Whether strace may inject faults here."""

import shutil
import subprocess

import pytest


def _why_not():
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True, text=True)
    return "" if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()[:100]}"


_REASON = _why_not()
needs_strace = pytest.mark.skipif(bool(_REASON), reason=_REASON or "strace works")
