"""Prometheus' rules: valid, each with its test, each alert with its section of the runbook."""

import pathlib
import re
import subprocess

import pytest
import yaml

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS = SOURCE / "deploy" / "prometheus"
TESTS = sorted((pathlib.Path(__file__).parent / "rules").glob("*_test.yml"))
RULES = [
    rule
    for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
CASES = [case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"]]


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def section(anchor):
    """Text of the runbook's section that `#anchor` leads to, or None. GitHub's anchors: lower case."""
    parts = re.split(r"^## (\S+)$", (PROMETHEUS / "RUNBOOK.md").read_text(), flags=re.MULTILINE)
    return {title.lower(): text for title, text in zip(parts[1::2], parts[2::2])}.get(anchor)


def test_the_configuration_is_valid():
    assert f"SUCCESS: {len(list((PROMETHEUS / 'rules').glob('*.yml')))} rule files found" in promtool(
        "check", "config", PROMETHEUS / "prometheus.yml"
    )


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_promtools_tests_of_the_rules_pass(path):
    promtool("test", "rules", path)


def test_the_configuration_names_the_target_of_compose():
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert [(job["job_name"], job["static_configs"]) for job in jobs] == [("adamoe", [{"targets": ["server:9464"]}])]


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_what_whoever_it_wakes_needs(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    path, anchor = alert["annotations"]["runbook_url"].split("#")
    assert path == "deploy/prometheus/RUNBOOK.md"
    assert anchor == name.lower()
    text = section(anchor)
    assert text is not None, f"RUNBOOK.md has no section {name}"
    for part in ("Meaning", "Likely causes", "What to look at", "What to do"):
        match = re.search(rf"^\*\*{part}\.\*\* (\S.+)", text, flags=re.MULTILINE)
        assert match and len(match.group(1)) > 20, f"{name}: no '{part}'"


def test_the_runbook_has_no_section_without_an_alert():
    titles = re.findall(r"^## (\S+)$", (PROMETHEUS / "RUNBOOK.md").read_text(), flags=re.MULTILINE)
    assert sorted(titles) == sorted(ALERTS)


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_has_cases_that_fire_and_cases_that_do_not(name):
    tests = [test for case in CASES for test in case.get("alert_rule_test", []) if test["alertname"] == name]
    assert any(test["exp_alerts"] for test in tests), "no case in which it fires"
    assert any(not test["exp_alerts"] for test in tests), "no case in which it does not"


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recording_rule_has_its_value_checked(name):
    tests = [test for case in CASES for test in case.get("promql_expr_test", []) if name in test["expr"]]
    assert any(test["exp_samples"] for test in tests)
