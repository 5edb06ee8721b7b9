"""Medians of what was measured, as a table for people."""
from statistics import median as middle

from cpu import models, ours


def median(runs):
    """{measure: median over the runs that have it}."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: middle(run[key] for run in runs if run.get(key) is not None) for key in keys
            if any(run.get(key) is not None for run in runs)}


def speed_rows(medians, dtype):
    """Ours beside the peers' on weights of one type."""
    ours_name = models.subject("top-2", dtype)
    names = [name for name in (ours_name, *(models.subject(name, dtype) for name in ("adamoe", "llama.cpp", "transformers")))
             if name in medians]
    if not names:
        return []
    peers = [name for name in names[1:] if name.startswith(("llama.cpp", "transformers")) and ours_name in names]
    lines = [f"{'tokens per second':<22}" + "".join(f"{name:>15}" for name in names) + "".join(f"{'x ' + name:>17}" for name in peers)]
    for key, label in [("prefill", f"prefill {ours.PREFILL_TOKENS}")] + [(f"decode_{n}", f"decode, {n} streams") for n in ours.STREAMS] + [("served", f"served, {ours.CLIENTS} clients")]:
        cells = [medians[name].get(key) for name in names]
        line = f"{label:<22}" + "".join(f"{'-' if cell is None else f'{cell:.1f}':>15}" for cell in cells)
        for name in peers:
            peer = medians[name].get(key)
            line += f"{'-' if peer is None else format(medians[ours_name][key] / peer, '.2f'):>17}"
        lines.append(line)
    for name in names:
        if (first := medians[name].get("time_to_first_token")) is not None:
            lines.append(f"{ours.CLIENTS} clients of {name}: first token after {first:.2f} s (median)")
    return [*lines, ""]


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


def weight_dtype_rows(medians):
    """One stream on narrower weights against the next wider ones."""
    steps = [(models.subject("top-2", wide), models.subject("top-2", narrow)) for wide, narrow in zip(models.DTYPES, models.DTYPES[1:])]
    return [f"decode, 1 stream: {narrow} {medians[narrow]['decode_1'] / medians[wide]['decode_1']:.2f}x {wide}"
            for wide, narrow in steps if wide in medians and narrow in medians]


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
    lines = [f"{processor}, {threads} threads, reads {medians['machine']['read_gb_per_second']:.1f} GB/s", ""]
    for dtype in models.DTYPES:
        lines += speed_rows(medians, dtype)
    lines += [*roof_rows(medians), *weight_dtype_rows(medians), *null_expert_rows(medians)]
    for name in ("top-2", "top-2 int8", "top-2 int4", "adamoe"):
        if name in medians:
            lines.append(f"start of {name}: {medians[name]['start_seconds']:.2f} s")
    if "overhead" in medians:
        over = medians["overhead"]
        lines.append(f"model of almost no cost, 32 streams: {over['tokens_per_second']:.0f} tokens/s, a step "
                     f"{1e6 * over['step_seconds']:.0f} us, {1e6 * over['overhead_seconds']:.0f} us of it between forward passes")
    return "\n".join(lines)
