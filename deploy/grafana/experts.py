"""The dashboard of the mixture of experts: what null experts save, where, and what it does to latency."""

from grafana_foundation_sdk.models import common
from panels import (
    TARGET,
    build,
    heat,
    histogram_heat,
    lines,
    matrix,
    number,
    on_right_axis,
    quantile,
    query,
    rate,
    scatter,
    steps,
)

ITL = "adamoe_inter_token_latency_seconds"
PER_EXPERT = " Needs a server with --per_expert_metrics."
TRUE, NULL = 'kind="true"', 'kind="null"'
NORMAL, PERCENT = common.StackingMode.NORMAL, common.StackingMode.PERCENT

EXECUTED = rate("adamoe_expert_flops_executed_total")
SAVED = rate("adamoe_expert_flops_saved_total")
BASELINE = rate("adamoe_expert_flops_baseline_total")
OTHER = rate("adamoe_other_flops_total")
EXPERTS_SAVED = f"1 - {EXECUTED} / {BASELINE}"
MODEL_SAVED = f"1 - ({EXECUTED} + {OTHER}) / ({BASELINE} + {OTHER})"
PER_TOKEN = f"{rate('adamoe_experts_per_token_sum')} / {rate('adamoe_experts_per_token_count')}"
NULL_BY_LAYER = (
    f"{rate('adamoe_layer_expert_slots_total', 'layer', labels=NULL)}"
    f" / {rate('adamoe_layer_expert_slots_total', 'layer')}"
)
BUSIEST = (
    f"max by (layer) ({rate('adamoe_expert_tokens_total', 'layer, expert')})"
    f" / avg by (layer) ({rate('adamoe_expert_tokens_total', 'layer, expert')})"
)


def saved_in(phase):
    of = f'phase="{phase}"'
    executed = rate("adamoe_expert_flops_executed_total", labels=of)
    return f"1 - {executed} / {rate('adamoe_expert_flops_baseline_total', labels=of)}"


def at_a_glance():
    return [
        number(
            "Experts per token",
            "True experts per layer of a generated token, in the mean. The plain model runs two.",
            PER_TOKEN,
            unit="short",
            decimals=2,
            thresholds=steps("blue"),
        ),
        number(
            "Null picks",
            "Share of the router's picks that are null experts: no work at all.",
            f"{rate('adamoe_expert_slots_total', labels=NULL)} / {rate('adamoe_expert_slots_total')}",
            unit="percentunit",
            decimals=1,
            thresholds=steps("blue"),
        ),
        number(
            "Expert FLOPs saved",
            "1 - executed / baseline, the baseline being the plain model with two experts for every token.",
            EXPERTS_SAVED,
            unit="percentunit",
            decimals=1,
            thresholds=steps("orange", 0, "green"),
        ),
        number(
            "Model FLOPs saved",
            "The same for the whole model: attention, router and output head are added to both sides.",
            MODEL_SAVED,
            unit="percentunit",
            decimals=1,
            thresholds=steps("orange", 0, "green"),
        ),
        number(
            "FLOPs executed",
            "Of the experts and everything else, per second.",
            f"{EXECUTED} + {OTHER}",
            unit="flops",
            decimals=1,
            thresholds=steps("blue"),
        ),
        number(
            "Busiest expert",
            "Positions it runs over those of its layer's mean expert, in the most uneven layer; 1 is "
            "even." + PER_EXPERT,
            f"max({BUSIEST})",
            unit="suffix: ×",
            decimals=1,
            thresholds=steps("green", 3, "orange", 4, "red"),
        ),
    ]


def experts_per_token():
    return [
        histogram_heat(
            "Experts of each token",
            "How many generated tokens a second used that many true experts, in the mean over their layers. Each row "
            "ends at its number.",
            "adamoe_experts_per_token",
            y_unit="short",
            y_label="experts per layer",
        ),
        lines(
            "Experts per token, mean and quantiles",
            "Of generated tokens, in the mean over their layers.",
            [
                query(PER_TOKEN, "mean"),
                query(quantile(0.1, "adamoe_experts_per_token"), "p10"),
                query(quantile(0.9, "adamoe_experts_per_token"), "p90"),
            ],
            unit="short",
        ),
        lines(
            "Experts per token, by layer",
            "True experts of a position: prompts and generated tokens alike.",
            [
                query(
                    f"{rate('adamoe_layer_expert_slots_total', 'layer', labels=TRUE)}"
                    f" / on () group_left () {rate('adamoe_step_tokens_sum')}",
                    "layer {{layer}}",
                )
            ],
            unit="short",
        ),
        lines(
            "The router's picks",
            "true: an expert ran; null: nothing to do; dropped: cut by the request's max_experts_per_token.",
            [query(rate("adamoe_expert_slots_total", "kind"), "{{kind}}")],
            unit="cps",
            stacked=PERCENT,
        ),
    ]


def null_experts():
    return [
        heat(
            "Null picks by layer",
            "Share of a layer's picks that are null experts. A change that no change of traffic explains is a reason "
            "to look.",
            query(NULL_BY_LAYER, "{{layer}}"),
            unit="percentunit",
            y_unit="none",
            y_label="layer",
            scheme="Blues",
            lowest=0,
            highest=1,
        ),
        lines(
            "Null picks, last hour and last day",
            "Recorded over five minutes, and its mean over an hour and a day. The alert compares the two means.",
            [
                query(f"instance:adamoe_null_slots:ratio_rate5m{{{TARGET}}}", "5 min, {{instance}}"),
                query(f"instance:adamoe_null_slots:ratio_avg1h{{{TARGET}}}", "1 h, {{instance}}"),
                query(f"instance:adamoe_null_slots:ratio_avg1d{{{TARGET}}}", "1 d, {{instance}}"),
            ],
            unit="percentunit",
            ceiling=1,
        ),
    ]


def flops():
    return [
        lines(
            "Expert FLOPs",
            "executed: of the true picks; saved: what null and dropped picks would have cost; baseline: what the plain model with two "
            "experts costs for the same positions.",
            [query(EXECUTED, "executed"), query(SAVED, "saved"), query(BASELINE, "baseline")],
            unit="flops",
            width=8,
        ),
        lines(
            "FLOPs saved",
            "1 - executed / baseline, for the experts and for the whole model. Below 0 the model does more than the "
            "plain one.",
            [
                query(EXPERTS_SAVED, "experts"),
                query(saved_in("prefill"), "experts, prefill"),
                query(saved_in("decode"), "experts, decode"),
                query(MODEL_SAVED, "whole model"),
            ],
            unit="percentunit",
            floor=None,
            width=8,
        ),
        lines(
            "FLOPs by part",
            "What the servers compute. attention: scores and weighted sums; projections: its q, k, v and o; lm_head: "
            "the output head.",
            [
                query(EXECUTED, "experts"),
                query(rate("adamoe_other_flops_total", "part"), "{{part}}"),
            ],
            unit="flops",
            stacked=NORMAL,
            width=8,
        ),
    ]


def load():
    share = (
        f"{rate('adamoe_expert_tokens_total', 'layer, expert', over='$__range')}"
        f" / on (layer) group_left () {rate('adamoe_expert_tokens_total', 'layer', over='$__range')}"
    )
    return [
        matrix(
            "Load by layer and expert",
            "Share of a layer's true picks that each expert ran, over the time shown." + PER_EXPERT,
            share,
            rows="layer",
            columns="expert",
            unit="percentunit",
            width=12,
        ),
        lines(
            "Busiest expert of each layer",
            "Positions it runs over those of the layer's mean expert; 1 is even." + PER_EXPERT,
            [query(BUSIEST, "layer {{layer}}")],
            unit="suffix: ×",
            width=12,
            thresholds=steps("transparent", 4, "red"),
        ),
    ]


def effect():
    per_position = f"{rate('adamoe_step_duration_seconds_sum')} / {rate('adamoe_step_tokens_sum')}"
    together = lines(
        "Latency and experts over time",
        "Mean time from a token to the next, and the experts each used.",
        [
            query(f"{rate(ITL + '_sum')} / {rate(ITL + '_count')}", "next token, mean"),
            query(PER_TOKEN, "experts per token"),
        ],
        unit="s",
        width=8,
    )
    return [
        on_right_axis(together, "experts per token", unit="short", label="experts per layer"),
        scatter(
            "Latency against experts per token",
            "A point for each moment shown. Null experts pay where it rises to the right; batch size and prompts "
            "scatter it.",
            (PER_TOKEN, "experts per token"),
            (f"{rate(ITL + '_sum')} / {rate(ITL + '_count')}", "next token, mean"),
            x_unit="short",
            y_unit="s",
            width=8,
        ),
        scatter(
            "Time per position against experts per position",
            "Duration of steps over positions run, prompts included: what an expert costs in throughput.",
            (
                f"avg({rate('adamoe_layer_expert_slots_total', 'layer', labels=TRUE)})"
                f" / {rate('adamoe_step_tokens_sum')}",
                "experts per position",
            ),
            (per_position, "time per position"),
            x_unit="short",
            y_unit="s",
            width=8,
        ),
    ]


def make():
    return build(
        "adamoe-experts",
        "AdaMoE: mixture of experts",
        "Experts per token, null experts, FLOPs and the load of each expert of AdaMoE inference servers.",
        [
            ("At a glance", at_a_glance()),
            ("Experts per token", experts_per_token()),
            ("Null experts", null_experts()),
            ("FLOPs", flops()),
            ("Load of the experts", load()),
            ("Effect on latency", effect()),
        ],
    )
