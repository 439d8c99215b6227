"""Print the numbers of the structure of the package."""

from __future__ import annotations

import argparse
import json
from collections import Counter

from .count import numbers, places
from .sources import ROOT, Package


def main(argv=None):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", default=ROOT, help="a checkout; by default this one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--places", action="store_true", help="print every place that is counted")
    asked = parser.parse_args(argv)
    package = Package.at(asked.path)
    found = numbers(package)
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(
            f"{name:<80}{value[0]:>6} in {value[1]} files"
            if isinstance(value, tuple)
            else f"{name:<80}{value:>6}"
        )
    for name, where in places(package).items() if asked.places else ():
        print(f"\n{name}")
        for module, count in sorted(Counter(module for module, _ in where).items()):
            print(f"  {module:<40}{count:>4}:", *sorted(line for m, line in where if m == module))


if __name__ == "__main__":
    main()
