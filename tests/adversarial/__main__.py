"""`make adversarial`: the controls, then every case; the last line is JSON. Exit code 1 where anything leaked."""

import argparse
import json
import sys
from contextlib import suppress

from homeplate.domain.record import Part
from tests.adversarial import families, net, observer, suite


def main():
    parser = argparse.ArgumentParser(prog="adversarial", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="draws what is drawn")
    parser.add_argument("--family", help="only this family, or `observer`")
    parser.add_argument("--passages", type=int, default=600, help="of the observer's experiment")
    arguments = parser.parse_args()
    if why := net.why_not():
        print(json.dumps({"cases": 0, "skipped": why}))
        return 0
    report, observed = suite.Report(), {}
    with suite.sited() as site:
        figures = suite.controls(site)
        with suppress(families.LeftOutError):
            figures["without_drop_in"] = suite.container_control(site)
        for case in families.all_cases(arguments.seed):
            if arguments.family not in {None, case.family}:
                continue
            problem = suite.judge(site, case, report)
            print(f"{'FAIL' if problem else 'ok':<5}{case.family}: {case.name}", problem, flush=True)
        if arguments.family in {None, "observer"}:
            observed = observe(site, arguments.passages, arguments.seed)
    result = {
        "cases": report.cases,
        "leaked_bytes": report.leaked_bytes,
        "packets_to_others": report.other_packets,
        "failed": len(report.failures),
        "bytes_to_named": report.allowed_bytes,
        "controls": figures,
        "families": dict(report.families),
        "left_out": report.left_out,
    }
    print(json.dumps(result | observed))
    apart = observed.get("observer", {}).get("tells_apart", False)
    return 1 if report.failures or apart or not (report.cases or observed) else 0


def observe(site, passages, seed):
    """Run the observer's experiment and its control; what is found is believed when a second run finds it again."""
    found = observer.experiment(site, passages=passages, seed=seed)
    if found["tells_apart"]:
        print("the observer was better than a coin; again, to see whether by chance:", found, flush=True)
        found = observer.experiment(site, passages=passages, seed=seed + 1)
    blind = observer.experiment(site, passages=120, seed=seed, hit_parts=(Part.FACTS,))
    if not blind["tells_apart"]:
        raise AssertionError(f"the observer is blind: rules that differ were not told apart: {blind}")
    return {"observer": found, "observer_control": {name: blind[name] for name in ("accuracy", "interval")}}


if __name__ == "__main__":
    sys.exit(main())
