# One-line aliases of tools/do.py, which works without make.
.PHONY: setup check test demo
setup: ; python3 tools/do.py setup
check: ; python3 tools/do.py check
test: ; python3 tools/do.py test
demo: ; python3 tools/do.py demo
