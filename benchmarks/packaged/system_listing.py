"""Writes what `reelseek models list` prints of Reelseek's own systems: src/reelseek/models/systems/listing.json.

Run it after a system was added or changed: python benchmarks/packaged/system_listing.py
"""

import json

from reelseek.cli.models import SYSTEM_LISTING, list_systems


def main() -> None:
    offered, absent = list_systems()
    SYSTEM_LISTING.write_text(json.dumps({"offered": offered, "absent": absent}, indent=1) + "\n", "utf-8")
    print(SYSTEM_LISTING)


if __name__ == "__main__":
    main()
