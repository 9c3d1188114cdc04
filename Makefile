# One-line aliases of tools/do.py, which works without make; bench-peer needs the set-up alone.
.PHONY: setup check test demo bench-peer adversarial bench-hotlist fuzz mutation device-camera device-v4l2 device-boot device-boot-full device-arm64 packages device-install device-walk hil
# hil, device-arm64, device-install and device-walk need root, mmdebstrap and a way to Debian's archive; minutes.
setup: ; python3 tools/do.py setup
check: ; python3 tools/do.py check
test: ; python3 tools/do.py test
demo: ; python3 tools/do.py demo
packages: ; python3 tools/do.py packages
device-install: setup ; .venv/bin/python -m tools.packaging.trial
device-walk: setup ; .venv/bin/python -m tools.packaging.walk
bench-peer: setup ; .venv/bin/python -m tools.bench_peer --setup
adversarial: setup ; .venv/bin/python -m tests.adversarial
bench-hotlist: setup ; .venv/bin/python -m tools.bench_hotlist
fuzz: setup ; .venv/bin/python -m tools.fuzz --setup
mutation: setup ; .venv/bin/python -m tools.mutation
device-camera: setup ; .venv/bin/python -m tools.device.camera
device-v4l2: setup ; .venv/bin/python -m tools.device.v4l2
device-boot: setup ; .venv/bin/python -m tools.device.boot
device-boot-full: setup ; .venv/bin/python -m tools.device.boot --full
hil: setup ; .venv/bin/python -m tools.hil.emulated
device-arm64: setup ; .venv/bin/python -m tools.device.arm64
