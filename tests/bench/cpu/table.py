"""Medians of what was measured, as a table for people."""
from statistics import median as middle

from cpu import models, ours


def median(runs):
    """{measure: median over the runs that have it}."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: middle(run[key] for run in runs if run.get(key) is not None) for key in keys
            if any(run.get(key) is not None for run in runs)}


def speed_rows(medians):
    names = [name for name in ("top-2", "adamoe", "llama.cpp", "transformers") if name in medians]
    if not names:
        return []
    peers = [name for name in names[1:] if name in ("llama.cpp", "transformers") and "top-2" in names]
    lines = ["tokens per second     " + "".join(f"{name:>14}" for name in names) + "".join(f"{'x ' + name:>15}" for name in peers)]
    for key, label in [("prefill", f"prefill {ours.PREFILL_TOKENS}")] + [(f"decode_{n}", f"decode, {n} streams") for n in ours.STREAMS]:
        cells = [medians[name].get(key) for name in names]
        line = f"{label:<22}" + "".join(f"{'-' if cell is None else f'{cell:.1f}':>14}" for cell in cells)
        for name in peers:
            peer = medians[name].get(key)
            line += f"{'-' if peer is None else format(medians['top-2'][key] / peer, '.2f'):>15}"
        lines.append(line)
    return lines


def roof_rows(medians):
    """One stream against the memory's roof: every weight byte that a token needs, read once."""
    read = medians["machine"]["read_gb_per_second"] * 1e9
    lines = []
    for name in ("top-2", "adamoe"):
        if name in medians:
            load = medians[name]["decode_1_experts"]
            needed = models.decode_bytes(load)
            lines.append(f"{name}: {load:.2f} experts, {needed / 1e9:.3f} GB a token, roof {read / needed:.1f} tok/s, "
                         f"reached {100 * medians[name]['decode_1'] * needed / read:.0f} %")
    return lines


def null_expert_rows(medians):
    """Time saved by null experts, as bytes and FLOPs predict it and as measured."""
    if "top-2" not in medians or "adamoe" not in medians:
        return []
    two, ada = medians["top-2"], medians["adamoe"]
    cases = [("decode, 1 stream", "decode_1", models.decode_bytes(ada["decode_1_experts"]) / models.decode_bytes(2)),
             ("prefill", "prefill", models.prefill_flops(ada["prefill_experts"], ours.PREFILL_TOKENS) /
              models.prefill_flops(2, ours.PREFILL_TOKENS))]
    lines = []
    for label, key, predicted in cases:
        saved = 1 - two[key] / ada[key]
        lines.append(f"null experts, {label}: predicted {100 * (1 - predicted):.1f} % less time, measured {100 * saved:.1f} % "
                     f"({100 * saved / (1 - predicted):.0f} % of it)")
    return lines


def text(medians, processor, threads):
    lines = [f"{processor}, {threads} threads, reads {medians['machine']['read_gb_per_second']:.1f} GB/s", "", *speed_rows(medians), "",
             *roof_rows(medians), *null_expert_rows(medians)]
    for name in ("top-2", "adamoe"):
        if name in medians:
            lines.append(f"start of {name}: {medians[name]['start_seconds']:.2f} s")
    if "overhead" in medians:
        over = medians["overhead"]
        lines.append(f"model of almost no cost, 32 streams: {over['tokens_per_second']:.0f} tokens/s, a step "
                     f"{1e6 * over['step_seconds']:.0f} us")
    return "\n".join(lines)
