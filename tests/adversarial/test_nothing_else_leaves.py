"""Civil Code 1798.90.55(b), on the wire: a few of the attacks of `make adversarial`, the controls first."""

import pytest

from tests.adversarial import families, net, suite

# One of each of the families that differ most in what has to hold; all of them take minutes.
CHOSEN = {
    "recipients": "Texas Department of Public Safety, state_agency of US-TX",
    "men-in-the-middle": "another authority, ECDSA",
    "redirects": "CONNACK, server moved: evil.example",
    "lapses": "the grant is revoked",
    "kernel-rules": "uplink itself, behind its rules",
}


@pytest.fixture(scope="module")
def site():
    if why := net.why_not():
        pytest.skip(why)
    with suite.sited() as made:
        yield made


def test_the_capture_sees_bytes_where_a_peer_is_named_and_where_nothing_stops_a_process(site):
    suite.controls(site)


@pytest.mark.parametrize("family", CHOSEN)
def test_civ_code_1798_90_55_b_no_byte_reaches_a_peer_that_the_bundle_does_not_name(site, family):
    case = next(case for case in families.all_cases() if (case.family, case.name) == (family, CHOSEN[family]))
    report = suite.Report()
    assert not suite.judge(site, case, report)
    assert (report.leaked_bytes, report.other_packets, report.cases) == (0, 0, 1)


def test_a_leak_is_seen_and_counted(site):
    """The judge itself: a case that claims that nobody is named, and delivers."""

    def act(site):
        families.expect(site.run(families.spoiled(site)), confirmed=1)
        return families.Outcome(named=families.NOBODY)

    report = suite.Report()
    assert "leaked" in suite.judge(site, families.Case("control", "a delivery to nobody", act), report)
    assert report.leaked_bytes > 1000
    assert report.failures


def test_there_are_a_hundred_cases_and_more_each_with_a_name_of_its_own():
    cases = list(families.all_cases())
    assert len(cases) >= 100
    assert len({(case.family, case.name) for case in cases}) == len(cases)
    assert {case.family for case in cases} >= set(CHOSEN)
