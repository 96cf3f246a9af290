"""Runs every query of the Grafana dashboard as Grafana would, and asks for series with numbers."""

import json
import math
import time

from processes import http_json

VARIABLES = {"$job": ".+", "$instance": ".+", "$__rate_interval": "2m"}

# Beginnings of queries that may be without series (or without numbers) here, and why.
MAY_BE_EMPTY = {
    "time() - min by (verifier) (framegate_jwks_last_success": "no verifier of the test has jwks",
    "sum by (verifier, result) (rate(framegate_jwks_refreshes_total": "no verifier of the test has jwks",
    "changes(process_start_time_seconds": "an annotation: no gateway was restarted",
    "framegate_draining{job=~\".+\", instance=~\".+\"} == 1": "an annotation: no gateway drains",
}


async def check(api, file):
    """The number of queries, and of those that were empty; raises if others are."""
    dashboard = json.loads(file.read_text())
    assert dashboard["uid"] == "framegate", dashboard["uid"]
    await check_variables(api, dashboard)
    found = list(expressions(dashboard))
    excused = {query: excuse(query) for query in found if excuse(query)}
    assert set(excused.values()) == set(MAY_BE_EMPTY), "an excuse for no query"
    without = 0
    missing = []
    for query in found:
        numbers = await has_numbers(api, query)
        if not numbers and query not in excused:
            missing.append(query)
        without += not numbers
    assert not missing, "\n".join(["no series:", *missing])
    return len(found), without


def expressions(dashboard):
    """All of them, with the variables filled in."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield substituted(target["expr"])
    for annotation in dashboard["annotations"]["list"]:
        yield substituted(annotation["expr"])


def substituted(text):
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    assert "$" not in text, text
    return text


def excuse(query):
    return next((start for start in MAY_BE_EMPTY if query.startswith(start)), None)


async def has_numbers(api, query):
    """Whether the last minutes have a series with a number in it."""
    end = time.time()
    answer = await http_json(f"{api}/query_range", query=query, start=end - 120, end=end, step=2)
    values = [value for series in answer["data"]["result"] for _, value in series["values"]]
    return any(math.isfinite(float(value)) for value in values)


async def check_variables(api, dashboard):
    """The variables `label_values(SERIES, LABEL)` have values."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        arguments = substituted(variable["definition"]).removeprefix("label_values(").removesuffix(")")
        series, label = arguments.rsplit(", ", 1)
        answer = await http_json(f"{api}/series", **{"match[]": series})
        assert {entry[label] for entry in answer["data"]}, variable["name"]
