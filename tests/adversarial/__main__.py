"""`make adversarial`: the controls, then every case; the last line is JSON. Exit code 1 where anything leaked."""

import argparse
import json
import sys

from tests.adversarial import families, net, suite


def main():
    parser = argparse.ArgumentParser(prog="adversarial", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="draws what is drawn")
    parser.add_argument("--family", help="only this family")
    arguments = parser.parse_args()
    if why := net.why_not():
        print(json.dumps({"cases": 0, "skipped": why}))
        return 0
    report = suite.Report()
    with suite.sited() as site:
        figures = suite.controls(site)
        for case in families.all_cases(arguments.seed):
            if arguments.family not in {None, case.family}:
                continue
            problem = suite.judge(site, case, report)
            print(f"{'FAIL' if problem else 'ok':<5}{case.family}: {case.name}", problem, flush=True)
    print(
        json.dumps(
            {
                "cases": report.cases,
                "leaked_bytes": report.leaked_bytes,
                "packets_to_others": report.other_packets,
                "failed": len(report.failures),
                "bytes_to_named": report.allowed_bytes,
                "controls": figures,
                "families": dict(report.families),
            }
        )
    )
    return 1 if report.failures or not report.cases else 0


if __name__ == "__main__":
    sys.exit(main())
