#!/usr/bin/env python3
"""Makes everything in Prometheus rules faster by a factor, and changes nothing else.

    tests/prometheus/scale.py FACTOR IN OUT

Scaled are range windows (`[5m]`), offsets, `for:` and `interval:`. Names, thresholds and counts stay: no shipped rule
compares a number per second, so "150 in 5m" becomes "150 in 10s" at a factor of 30, and the expressions are otherwise
the same. What is measured in seconds (a handshake, a certificate's life) is not scaled.
"""

import re
import sys

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION = r"(\d+)(ms|s|m|h|d)"
PLACES = [rf"(\[){DURATION}(\])", rf"(\boffset ){DURATION}(\b)", rf"(^ *(?:for|interval): ){DURATION}($)"]


def shorter(number, unit, factor):
    """A duration divided by the factor, in whole milliseconds."""
    return f"{round(int(number) * UNITS[unit] / factor)}ms"


def scale(text, factor):
    """The rules with all their times divided by the factor."""
    lines = []
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            for place in PLACES:
                line = re.sub(place, lambda m: m[1] + shorter(m[2], m[3], factor) + m[4], line)
        lines.append(line)
    return "\n".join(lines) + "\n"


def main():
    factor, source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    with open(target, "w", encoding="utf-8") as file:
        file.write(scale(text, float(factor)))


if __name__ == "__main__":
    main()
