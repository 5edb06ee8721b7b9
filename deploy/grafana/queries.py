"""The queries of dashboards/*.json as Grafana would send them, for whoever runs them without Grafana: the tests and
pictures/draw.py. Standard library only."""

import json
import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parent / "dashboards"


def dashboards():
    """Name -> dashboard, as the file has it."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard):
    """Without the rows' titles."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def fill_in(text, *, rate_interval, range, instance=".+", model=".+"):
    """A query's text with its variables' values; durations as Prometheus writes them."""
    values = {"__rate_interval": rate_interval, "__range": range, "instance": instance, "model": model}
    filled = re.sub(r"\$\{?(\w+)\}?", lambda found: values[found.group(1)], text)
    assert "$" not in filled, filled
    return filled


def legend(target, labels):
    """A series' name; LookupError when the legend names a label that it has not."""
    return re.sub(r"{{(\w+)}}", lambda found: labels[found.group(1)], target["legendFormat"])
