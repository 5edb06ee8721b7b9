#!/usr/bin/env python3
"""Writes dashboards/*.json, which Grafana provisions. Run it after a change here, and commit both:

    ~/.cache/adamoe/observe/bin/python deploy/grafana/generate.py           # deploy/install_deps.sh observe made that python
    ~/.cache/adamoe/observe/bin/python deploy/grafana/generate.py --check   # only says whether they are current
"""

import argparse
import pathlib
import sys

import experts
import service
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER = pathlib.Path(__file__).resolve().parent / "dashboards"


def generate():
    """File name -> text."""
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    return {f"{module.__name__}.json": encoder.encode(module.make()) + "\n" for module in (service, experts)}


def main():
    parser = argparse.ArgumentParser(description="Writes the dashboards.")
    parser.add_argument("--check", action="store_true", help="writes nothing; fails when a file is not current")
    check = parser.parse_args().check
    files = generate()
    stale = {path.name for path in FOLDER.glob("*.json")} ^ files.keys()
    for name, text in files.items():
        path = FOLDER / name
        if path.exists() and path.read_text() == text:
            continue
        stale.add(name)
        if not check:
            path.write_text(text)
            print(f"wrote {path}")
    if check and stale:
        print(f"not current: {', '.join(sorted(stale))}; run {__file__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
