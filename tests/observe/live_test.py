"""A real Prometheus scrapes a real server under load: every query of every panel and rule finds data, what is recorded
agrees with the server's own counters, and no alert speaks up that should not."""

import math
import pathlib
import re
import subprocess
import sys
import time

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(SOURCE / folder) for folder in ("tests/integration", "deploy/prometheus", "deploy/grafana")
]
import harness  # noqa: E402
import local  # noqa: E402
import queries  # noqa: E402

LOAD = 8  # seconds
DEMO = SOURCE / "deploy" / "demo_model"
DASHBOARDS = queries.dashboards()
VARIABLES = [
    (name, variable["query"])
    for name, dashboard in DASHBOARDS.items()
    for variable in dashboard["templating"]["list"]
    if variable["type"] == "query"
]
TARGETS = {
    f"{name}: {panel['title']}, {target['refId']}": target
    for name, dashboard in DASHBOARDS.items()
    for panel in queries.panels(dashboard)
    for target in panel["targets"]
}


class Run:
    """A server that was under load from `begin` to `end`, and the Prometheus that watched."""

    def __init__(self, server, prometheus):
        self.server, self.prometheus = server, prometheus
        # Counters that are first seen at 0, so that Prometheus' increases are the counters themselves.
        self.await_scrape()
        self.begin = time.time()
        bench = subprocess.run(
            [
                harness.BENCH,
                f"--target={server.address}",
                "--concurrency=4",
                "--requests=0",
                f"--duration={LOAD}s",
                "--prompt_tokens=48",
                "--output_tokens=32",
            ],
            capture_output=True,
            text=True,
        )
        assert bench.returncode == 0, bench.stdout + bench.stderr
        self.end = time.time()
        self.metrics = server.idle()
        self.await_scrape()
        self.await_rules()

    def await_scrape(self):
        now = time.time()
        harness.eventually(
            lambda: any(v > now for _, v in self.prometheus.query("timestamp(up) and up == 1")), "a scrape"
        )

    def groups(self):
        return self.prometheus.get("/api/v1/rules")["groups"]

    def rules(self, kind):
        return [rule for group in self.groups() for rule in group["rules"] if rule["type"] == kind]

    def await_rules(self):
        """Two evaluations of every group: rules read what others have recorded."""

        def evaluations():
            return {group["name"]: group["lastEvaluation"] for group in self.groups()}

        for _ in range(2):
            before = evaluations()
            harness.eventually(lambda: all(evaluations()[name] != t for name, t in before.items()), "an evaluation")

    def recorded(self, name):
        """The one series of that name."""
        result = self.prometheus.query(name)
        assert len(result) == 1, f"{name}: {result}"
        return result[0][1]


@pytest.fixture(scope="module")
def run():
    with harness.Server(DEMO, "--per_expert_metrics") as server:
        with local.Prometheus(server.metrics_address, scrape_interval="1s") as prometheus:
            yield Run(server, prometheus)


def finite(samples):
    return [value for value in samples if math.isfinite(value)]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_a_panels_query_finds_data(run, target):
    expr = queries.fill_in(target["expr"], rate_interval="4s", range="60s")
    if target.get("instant"):
        series = [(labels, [value]) for labels, value in run.prometheus.query(expr)]
    else:
        result = run.prometheus.query_range(expr, run.begin + 3, run.end, 1)
        series = [(labels, [value for _, value in samples]) for labels, samples in result]
    assert any(finite(values) for _, values in series), expr
    if target["legendFormat"] != "__auto":
        names = [queries.legend(target, labels) for labels, _ in series]
        assert len(set(names)) == len(names), f"series of the same name: {names}"


@pytest.mark.parametrize("dashboard, variable", VARIABLES, ids=[f"{d}: {v}" for d, v in VARIABLES])
def test_a_variable_has_values(run, dashboard, variable):
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable).groups()
    selector = queries.fill_in(selector, rate_interval="4s", range="60s")
    values = [labels[label] for labels, _ in run.prometheus.query(f"count by ({label}) ({selector})")]
    assert values and all(values)


def test_every_rule_was_evaluated_without_error(run):
    for rule in run.rules("recording") + run.rules("alerting"):
        assert rule["health"] == "ok" and not rule.get("lastError"), rule


def test_every_recording_rule_has_values(run):
    for rule in run.rules("recording"):
        selector = rule["name"] + "{" + ",".join(f'{k}="{v}"' for k, v in rule.get("labels", {}).items()) + "}"
        values = [value for _, value in run.prometheus.query(selector)]
        assert values and len(finite(values)) == len(values), f"{selector}: {values}"


def test_every_metric_that_alerts_read_is_there(run):
    for rule in run.rules("alerting"):
        expr = re.sub(r'"[^"]*"', "", rule["query"])
        names = set(re.findall(r"\b(?:adamoe_\w+|up\b|(?:instance|instance_layer|job):[\w:]+)", expr))
        assert names, expr
        for name in names:
            assert run.prometheus.query(f"count({name})"), f"{rule['name']} reads {name}, which is not there"


def test_no_alert_stirs_under_a_healthy_load(run):
    stirred = {rule["name"]: rule["alerts"] for rule in run.rules("alerting") if rule["state"] != "inactive"}
    assert not stirred


def test_recorded_savings_are_those_of_the_servers_counters(run):
    total = run.metrics.sum
    executed, baseline = total("expert_flops_executed_total"), total("expert_flops_baseline_total")
    other = total("other_flops_total")
    experts = 1 - executed / baseline
    whole = 1 - (executed + other) / (baseline + other)
    assert 0 < whole < experts < 1
    assert run.recorded("instance:adamoe_expert_flops_saved:ratio_rate5m") == pytest.approx(experts, rel=1e-6)
    assert run.recorded("instance:adamoe_model_flops_saved:ratio_rate5m") == pytest.approx(whole, rel=1e-6)


def test_recorded_experts_per_token_are_those_of_the_servers_counters(run):
    total = run.metrics.sum
    positions = run.metrics.get("step_tokens_sum")
    series = run.prometheus.query("instance_layer:adamoe_experts_per_token:rate5m")
    layers = {labels["layer"]: value for labels, value in series}
    assert sorted(layers) == ["0", "1", "2", "3"]
    for layer, value in layers.items():
        true = run.metrics.get("layer_expert_slots_total", layer=layer, kind="true")
        assert value == pytest.approx(true / positions, rel=1e-6)
    mean = total("expert_slots_total", kind="true") / positions / len(layers)
    assert run.recorded("instance:adamoe_experts_per_token:rate5m") == pytest.approx(mean, rel=1e-6)
    null = total("expert_slots_total", kind="null") / total("expert_slots_total")
    assert run.recorded("instance:adamoe_null_slots:ratio_rate5m") == pytest.approx(null, rel=1e-6)


def test_recorded_skew_is_that_of_the_servers_counters(run):
    result = run.prometheus.query("instance_layer:adamoe_expert_tokens:max_over_mean_rate5m")
    assert len(result) == 4
    for labels, value in result:
        rows = [
            count
            for (name, have), count in run.metrics.samples.items()
            if name == "expert_tokens_total" and ("layer", labels["layer"]) in have
        ]
        assert len(rows) == 8
        assert value == pytest.approx(max(rows) / (sum(rows) / len(rows)), rel=1e-6)


def test_recorded_goodput_is_that_of_the_servers_counters(run):
    answered = run.metrics.get("time_to_first_token_seconds_count")
    in_time = run.metrics.get("time_to_first_token_seconds_bucket", le="1")
    assert answered == run.metrics.get("requests_total", outcome="ok") > 0
    assert run.recorded("instance:adamoe_goodput:ratio_rate5m") == pytest.approx(in_time / answered, rel=1e-6)


def test_a_server_that_goes_away_is_noticed(run):
    run.server.terminate()
    assert run.server.wait() == 0

    def states():
        return {rule["name"]: rule["state"] for rule in run.rules("alerting")}

    harness.eventually(lambda: states()["AdamoeTargetDown"] == "pending", "an alert that waits for its minute")
