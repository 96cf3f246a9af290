"""The committed outcomes: reading and writing expected.json, and what differs from it.

For each run and each way (`direct`, `framegate`) the file holds every case whose outcome is not OK/OK, by
outcome. `deviations` lists where the outcome through framegate is another than without it, and why; the
`why` is written by hand and survives `--write`. `timing` names the cases in which the case itself counts both of two
outcomes as right and a race between the two ends decides which comes; they are written as one.
"""

import json
import pathlib

FILE = pathlib.Path(__file__).resolve().parent / "expected.json"
PLAIN = "OK/OK"
WAYS = ("direct", "framegate")
TIMING = "timing"


def load():
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def settled(outcomes):
    """The same outcomes, with those that a race decides written as one."""
    timing = load().get(TIMING, {"cases": "", "outcomes": []})
    racing = set(timing["cases"].split())
    one = " or ".join(timing["outcomes"])
    return {
        case: one if case in racing and outcome in timing["outcomes"] else outcome
        for case, outcome in outcomes.items()
    }


def write(found):
    """Writes the settled outcomes of {run: {way: {case: outcome}}}, keeping the explanations there are."""
    committed = load()
    for run, ways in found.items():
        reasons = reasons_by_case(committed.get(run, {}))
        entry = {way: by_outcome(ways[way]) for way in WAYS}
        entry["deviations"] = deviations(ways, reasons)
        committed[run] = entry
    FILE.write_text(json.dumps(committed, indent=2, ensure_ascii=False) + "\n")


def by_outcome(outcomes):
    groups = {}
    for case in sorted(outcomes, key=numbers):
        if outcomes[case] != PLAIN:
            groups.setdefault(outcomes[case], []).append(case)
    return {outcome: " ".join(cases) for outcome, cases in sorted(groups.items())}


def deviations(ways, reasons):
    groups = {}
    for case in sorted(ways["direct"], key=numbers):
        change = ways["direct"][case], ways["framegate"].get(case)
        if change[0] != change[1]:
            groups.setdefault((*change, reasons.get((case, *change), "")), []).append(case)
    return [
        {"cases": " ".join(cases), "direct": before, "framegate": after, "why": why}
        for (before, after, why), cases in groups.items()
    ]


def reasons_by_case(entry):
    return {
        (case, group["direct"], group["framegate"]): group["why"]
        for group in entry.get("deviations", [])
        for case in group["cases"].split()
    }


def complaints(run, way, outcomes):
    """Every case whose outcome is another than the committed one, worse or better."""
    entry = load().get(run)
    if entry is None:
        return [f"{run}: expected.json has no such run"]
    committed = {case: outcome for outcome, cases in entry[way].items() for case in cases.split()}
    return [
        f"{run}, {way}: case {case} is {outcome}, expected {committed.get(case, PLAIN)}"
        for case, outcome in sorted(outcomes.items(), key=lambda item: numbers(item[0]))
        if outcome != committed.get(case, PLAIN)
    ]


def unexplained(run, ways):
    """Every case that ends otherwise through framegate than directly, without a committed explanation."""
    reasons = reasons_by_case(load().get(run, {}))
    return [
        f"{run}: case {case} is {before} directly and {ways['framegate'].get(case)} through framegate; no explanation"
        for case, before in sorted(ways["direct"].items(), key=lambda item: numbers(item[0]))
        if before != ways["framegate"].get(case) and not reasons.get((case, before, ways["framegate"].get(case)))
    ]


def numbers(case):
    return [int(part) for part in case.split(".")]
