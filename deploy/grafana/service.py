"""The dashboard of the service: traffic, errors, latency, saturation."""

from grafana_foundation_sdk.models import common
from panels import (
    RATE,
    TARGET,
    build,
    histogram_heat,
    lines,
    number,
    quantile,
    quantiles,
    query,
    rate,
    steps,
)

OBJECTIVE = 1  # seconds to the first token, for 99 % of requests: deploy/prometheus/rules/recording.yml
TTFT, ITL = "adamoe_time_to_first_token_seconds", "adamoe_inter_token_latency_seconds"
IN_TIME = 'le=~"1|1.0"'  # Prometheus 3 writes the bound as 1.0
BAD, OURS = 'outcome=~"rejected|deadline|error"', 'outcome!~"invalid|cancelled"'
NORMAL = common.StackingMode.NORMAL


def recorded(name):
    return f"{name}{{{TARGET}}}"


def at_a_glance():
    within = (
        f"{rate(TTFT + '_bucket', labels=IN_TIME)} / "
        f"({rate(TTFT + '_count')} + {rate('adamoe_requests_total', labels=BAD)})"
    )
    return [
        number(
            "Requests",
            "Generate and Score requests that ended, however they did, per second.",
            rate("adamoe_requests_total"),
            unit="reqps",
            decimals=1,
            thresholds=steps("blue"),
        ),
        number(
            "Generated tokens",
            "Tokens generated per second, by all chosen servers together.",
            rate("adamoe_generated_tokens_total"),
            unit="suffix: tok/s",
            decimals=0,
            thresholds=steps("blue"),
        ),
        number(
            "First token, p99",
            "99 % of requests had their first token this soon after they were submitted. The objective is a second.",
            quantile(0.99, TTFT),
            unit="s",
            thresholds=steps("green", OBJECTIVE, "orange", 2.5 * OBJECTIVE, "red"),
        ),
        number(
            "Next token, p99",
            "99 % of later tokens came this soon after the one before.",
            quantile(0.99, ITL),
            unit="s",
            thresholds=steps("green", 0.1, "orange", 0.25, "red"),
        ),
        number(
            "Goodput",
            "Share of Generate requests whose first token came within a second, of those that got one, were rejected, ran into "
            "their deadline or failed.",
            within,
            unit="percentunit",
            decimals=1,
            thresholds=steps("red", 0.95, "orange", 0.99, "green"),
        ),
        number(
            "Fullest KV cache",
            "The fullest of the chosen servers. Blocks kept only for the prefix cache count as free.",
            f"max(adamoe_kv_cache_usage_ratio{{{TARGET}}})",
            unit="percentunit",
            decimals=0,
            thresholds=steps("green", 0.8, "orange", 0.95, "red"),
        ),
    ]


def traffic():
    return [
        lines(
            "Requests by outcome",
            "Every Generate and Score request once, when it ends. rejected: the queue was full or the server closing; invalid: the "
            "request was at fault; deadline and cancelled: as its client wanted.",
            [query(rate("adamoe_requests_total", "outcome"), "{{outcome}}")],
            unit="reqps",
            stacked=NORMAL,
            width=8,
        ),
        lines(
            "Tokens",
            "prompt: taken in, those from the prefix cache included; from the prefix cache: not run again; "
            "generated: handed out.",
            [
                query(rate("adamoe_prompt_tokens_total"), "prompt"),
                query(rate("adamoe_cached_prompt_tokens_total"), "from the prefix cache"),
                query(rate("adamoe_generated_tokens_total"), "generated"),
            ],
            unit="suffix: tok/s",
            width=8,
        ),
        lines(
            "Size of requests",
            "Prompt and generated tokens of the requests that ended.",
            [
                query(quantile(0.5, "adamoe_request_prompt_tokens"), "prompt, p50"),
                query(quantile(0.9, "adamoe_request_prompt_tokens"), "prompt, p90"),
                query(quantile(0.5, "adamoe_request_generated_tokens"), "generated, p50"),
                query(quantile(0.9, "adamoe_request_generated_tokens"), "generated, p90"),
            ],
            unit="suffix: tok",
            width=8,
        ),
    ]


def errors():
    answered = rate("adamoe_requests_total", labels=OURS)
    return [
        lines(
            "Share of requests that ended badly",
            "error: the server failed it; rejected: it turned it away; deadline: it was not done in time. Of the requests that were "
            "neither at fault nor given up by their client.",
            [
                query(
                    f"{rate('adamoe_requests_total', 'outcome', labels=BAD)}"
                    f" / on () group_left () {answered}",
                    "{{outcome}}",
                )
            ],
            unit="percentunit",
            thresholds=steps("transparent", 0.01, "red"),
        ),
        lines(
            "Within the objectives",
            "Recorded over five minutes. goodput: first token within a second, of all requests that were to be answered; next tokens: "
            "within a tenth of a second of the one before.",
            [
                query(f"min({recorded('instance:adamoe_goodput:ratio_rate5m')})", "goodput"),
                query(
                    f"min({recorded('instance:adamoe_inter_token_latency_within_objective:ratio_rate5m')})",
                    "next tokens",
                ),
            ],
            unit="percentunit",
            floor=None,
            ceiling=1,
            thresholds=steps("red", 0.99, "green"),
        ),
    ]


def latency():
    return [
        lines(
            "Time to first token",
            "From a request's submission to its first token: waiting, and running the prompt. Dashed: the objective.",
            quantiles(TTFT),
            unit="s",
            width=8,
            thresholds=steps("transparent", OBJECTIVE, "red"),
        ),
        lines(
            "Inter-token latency",
            "From one token of a request to the next: what a reader of the stream feels.",
            quantiles(ITL),
            unit="s",
            width=8,
        ),
        lines(
            "Time in the queue",
            "From a request's submission to being scheduled. When this rises and steps take no longer, requests are "
            "too many.",
            quantiles("adamoe_request_queue_time_seconds"),
            unit="s",
            width=8,
        ),
        histogram_heat(
            "Time to first token, all requests",
            "How many requests a second had their first token after that long.",
            TTFT,
            y_unit="s",
            y_label="",
        ),
        lines(
            "Duration of requests",
            "From a request's arrival to its end, Generate and Score alike. Follows the number of tokens asked for.",
            quantiles("adamoe_request_duration_seconds"),
            unit="s",
        ),
    ]


def saturation():
    return [
        lines(
            "Running and waiting requests",
            "Of each server. Waiting requests with a batch that does not grow: --max_running_requests or the KV "
            "cache is the limit.",
            [
                query(f"adamoe_requests_running{{{TARGET}}}", "running, {{instance}}"),
                query(f"adamoe_requests_waiting{{{TARGET}}}", "waiting, {{instance}}"),
            ],
            unit="short",
            width=8,
        ),
        lines(
            "KV cache in use",
            "Share of blocks that belong to running requests. Near 100 % requests wait for blocks, or take them from "
            "each other.",
            [query(f"adamoe_kv_cache_usage_ratio{{{TARGET}}}", "{{instance}}")],
            unit="percentunit",
            ceiling=1,
            width=8,
            thresholds=steps("transparent", 0.95, "red"),
        ),
        lines(
            "Preemptions",
            "Times a second that a running request gave its KV blocks up and is recomputed later: work done twice.",
            [query(f"rate(adamoe_preemptions_total{{{TARGET}}}[{RATE}])", "{{instance}}")],
            unit="cps",
            width=8,
        ),
        lines(
            "Duration of a step, p90",
            "A step runs one position of every request that generates, and pieces of prompts. prefill: only prompts; "
            "mixed: both.",
            [query(quantile(0.9, "adamoe_step_duration_seconds", by=("phase",)), "{{phase}}")],
            unit="s",
            width=8,
        ),
        lines(
            "Positions per step",
            "How full the batch is. The most is --max_batch_tokens.",
            [
                query(f"{rate('adamoe_step_tokens_sum')} / {rate('adamoe_step_tokens_count')}", "mean"),
                query(quantile(0.99, "adamoe_step_tokens"), "p99"),
            ],
            unit="short",
            width=8,
        ),
        lines(
            "Between two steps",
            "Planning, sampling and handing tokens over: time in which no kernel runs.",
            quantiles("adamoe_step_overhead_seconds"),
            unit="s",
            width=8,
        ),
    ]


def make():
    return build(
        "adamoe-service",
        "AdaMoE: service",
        "Traffic, errors, latency and saturation of AdaMoE inference servers.",
        [
            ("At a glance", at_a_glance()),
            ("Traffic", traffic()),
            ("Errors and objectives", errors()),
            ("Latency", latency()),
            ("Saturation", saturation()),
        ],
    )
