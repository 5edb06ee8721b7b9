#!/usr/bin/env python3
"""Prints what the rules have recorded, as a person wants to read it.

    deploy/prometheus/summary.py HOST:PORT    # of a Prometheus with this folder's rules, and one server
"""

import sys

from local import Api, PrometheusError


def seconds(value):
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def percent(value):
    return f"{100 * value:.1f} %"


class Recorded:
    """Values of recorded series, by name; of several servers the first."""

    def __init__(self, prometheus):
        self.prometheus = prometheus

    def series(self, name):
        found = self.prometheus.query(name)
        if not found:
            raise PrometheusError(f"no value of {name}: was there any load in the last five minutes?")
        return found

    def __getitem__(self, name):
        return self.series(name)[0][1]

    def quantiles(self, name):
        values = {labels["quantile"]: value for labels, value in self.series(name)}
        return ", ".join(f"p{100 * float(q):g} {seconds(value)}" for q, value in sorted(values.items()))


def hottest(recorded):
    found = recorded.prometheus.query("instance_layer:adamoe_expert_tokens:max_over_mean_rate5m")
    if not found:
        return "not exported (--per_expert_metrics)"
    labels, value = max(found, key=lambda series: series[1])
    return f"{value:.2f} times its layer's mean, in layer {labels['layer']}"


def alerts(prometheus):
    rules = [rule for group in prometheus.get("/api/v1/rules", type="alert")["groups"] for rule in group["rules"]]
    stirred = [f"{rule['name']} is {rule['state']}" for rule in rules if rule["state"] != "inactive"]
    return ", ".join(stirred) or f"none of {len(rules)}"


def lines(prometheus):
    recorded = Recorded(prometheus)
    model = prometheus.query("adamoe_model_info")[0][0]
    yield "model", f"{model['model_name']}, {model['num_experts']} experts and {model['num_null_experts']} null ones"
    yield "tokens generated", f"{300 * recorded['instance:adamoe_generated_tokens:rate5m']:.0f} in the last five minutes"
    per_token = recorded["instance:adamoe_experts_per_token:rate5m"]
    yield "experts per token", f"{per_token:.2f} per layer, of {model['experts_per_token']} picks"
    yield "null picks", percent(recorded["instance:adamoe_null_slots:ratio_rate5m"])
    yield "expert FLOPs saved", percent(recorded["instance:adamoe_expert_flops_saved:ratio_rate5m"]) + " against the top-2 model"
    yield "model FLOPs saved", percent(recorded["instance:adamoe_model_flops_saved:ratio_rate5m"])
    yield "busiest expert", hottest(recorded)
    yield "first token", recorded.quantiles("instance:adamoe_time_to_first_token_seconds:quantile_rate5m")
    yield "next token", recorded.quantiles("instance:adamoe_inter_token_latency_seconds:quantile_rate5m")
    yield "within 1 s", percent(recorded["instance:adamoe_goodput:ratio_rate5m"]) + " of first tokens"
    yield "alerts", alerts(prometheus)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        for name, value in lines(Api(sys.argv[1])):
            print(f"{name:<20}{value}")
    except (PrometheusError, OSError) as error:
        print(f"summary.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
