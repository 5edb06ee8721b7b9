"""The dashboards' files: current, laid out without overlap, and complete: units, descriptions, legends, variables."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

GRAFANA = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
PANELS = {
    f"{name}: {panel['title']}": panel
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
}
COLUMNS = 24


def test_they_are_what_the_generator_writes():
    done = subprocess.run([sys.executable, GRAFANA / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_are_two():
    assert list(DASHBOARDS) == ["experts", "service"]
    uids = {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    assert uids == {"adamoe-experts", "adamoe-service"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_cover_the_grid_once(name):
    taken = {}
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["w"] > 0 and at["h"] > 0 and at["x"] >= 0 and at["x"] + at["w"] <= COLUMNS
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies over {taken[cell]}"
            taken[cell] = panel["title"]
    height = 1 + max(y for _, y in taken)
    assert len(taken) == COLUMNS * height, "there are holes"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_identifiers_are_unique(name):
    panels = DASHBOARDS[name]["panels"]
    for key in ("id", "title"):
        values = [panel[key] for panel in panels if panel["type"] != "row"]
        assert len(values) == len(set(values))
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_variables_choose_source_model_and_instance(name):
    variables = {variable["name"]: variable for variable in DASHBOARDS[name]["templating"]["list"]}
    assert list(variables) == ["datasource", "model", "instance"]
    assert variables["datasource"]["query"] == "prometheus"
    for variable in (variables["model"], variables["instance"]):
        assert variable["multi"] and variable["includeAll"] and variable["label"]
    assert 'model_name=~"$model"' in variables["instance"]["query"]


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS.keys())
def test_a_panel_explains_itself(panel):
    assert len(panel["description"]) > 20 and panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    if panel["type"] == "heatmap":
        assert panel["options"]["cellValues"]["unit"] and panel["options"]["yAxis"]["unit"]
    elif panel["type"] == "xychart":
        units = [p for o in panel["fieldConfig"]["overrides"] for p in o["properties"] if p["id"] == "unit"]
        assert len(units) == 2
    else:
        assert defaults["unit"]
    if panel["type"] == "stat":
        assert defaults["thresholds"]["steps"]
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS.keys())
def test_a_panels_queries_are_of_the_chosen_servers(panel):
    assert panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(refs) == len(set(refs))
    for target in panel["targets"]:
        # Every selector of a metric is held to the chosen instances.
        metrics = re.findall(r"\b(?:adamoe_\w+|instance:[\w:]+)(\{[^}]*\})?", target["expr"])
        assert metrics
        assert all('instance=~"$instance"' in selector for selector in metrics), target["expr"]
        if panel["type"] in ("timeseries", "heatmap"):
            assert target["legendFormat"] != "__auto"


def test_grafana_is_told_where_they_are():
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert [(s["type"], s["url"]) for s in source] == [("prometheus", "http://prometheus:9090")]
    scrape = yaml.safe_load((GRAFANA.parent / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source[0]["jsonData"]["timeInterval"] == scrape
    providers = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "adamoe.yml").read_text())["providers"]
    assert [(p["type"], p["options"]["path"]) for p in providers] == [
        ("file", "/var/lib/grafana/dashboards/adamoe")
    ]


def test_the_pictures_are_there_and_small():
    named = re.findall(r"\]\((pictures/\S+\.png)\)", (GRAFANA / "README.md").read_text())
    assert sorted(named) == sorted(f"pictures/{path.name}" for path in (GRAFANA / "pictures").glob("*.png"))
    assert len(named) == 4
    for path in named:
        assert (GRAFANA / path).stat().st_size <= 300_000


@pytest.mark.parametrize(
    "value, unit, expected",
    [
        (0.0123, "s", "12.3 ms"),
        (2, "s", "2 s"),
        (0, "s", "0"),
        (0.2567, "percentunit", "25.7 %"),
        (0, "percentunit", "0 %"),
        (1234, "reqps", "1.23k req/s"),
        (5e9, "flops", "5 GFLOP/s"),
        (12, "suffix: tok/s", "12 tok/s"),
        (2.5, "suffix: ×", "2.5 ×"),
        (0.2, "suffix: /s", "0.2 /s"),
        (1500, "short", "1.5k"),
        (999.7, "short", "1000"),
    ],
)
def test_pictures_write_numbers_as_people_do(value, unit, expected):
    sys.path.insert(0, str(GRAFANA / "pictures"))
    import units

    assert units.text(value, unit) == expected
