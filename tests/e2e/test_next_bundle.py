"""The next bundle over a broker, as people run it: sent by the custodian, taken by uplink, judged by the service."""

from homeplate.trust.bundle import load_bundle
from homeplate_custodian import provision
from tests.e2e.conftest import end, wait_until
from tools import stage
from tools.stage import AGENCY, RuleSpec


def test_a_bundle_comes_over_the_broker_while_all_processes_run(deploy):
    node = deploy(rules=[RuleSpec(name="all")])
    provision.add_bundle_source(node.stage.custody, AGENCY)
    node.stage.publish()
    before = load_bundle(node.stage.paths.bundle, stage.now_s() * 10**9).version
    with node.stage.broker():
        node.node("uplink", "--once")  # the broker keeps messages for who was there once
        node.custodian("bundle", "publish", node.stage.custody)
        assert "messages are at the broker" in node.custodian("bundle", "send", node.stage.custody, "--agency", AGENCY)
        service, uplink = node.start("bundle", "serve"), node.start("uplink")
        try:
            wait_until(lambda: load_bundle(node.stage.paths.bundle, stage.now_s() * 10**9).version > before)
        finally:
            end(uplink)
            end(service)
        assert (uplink.returncode, service.returncode) == (0, 0)
    assert "feed.arrived source=demo-city-pd" in node.node("ledger", "show", "uplink")
    shown = node.node("ledger", "show", "bundle").splitlines()
    assert "origin=inbox" in [line for line in shown if " bundle.installed " in line][-1]
    assert "the next bundle comes by hand or from demo-city-pd" in node.node("bundle", "show")
