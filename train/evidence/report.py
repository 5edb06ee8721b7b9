"""Writes RESULTS.md from the runs' evaluations. Sentences that judge are computed from the numbers they stand beside."""
from collections import defaultdict
from statistics import mean

import plot
import runs

TABLE_NAMES = {"router": "the same pretraining", "low-alpha": "a weaker router loss", "longer": "longer fine-tuning",
               "longest": "longest fine-tuning"}
LOSS_NAMES = {"null": "ℓ_null", "balance": "balance", "none": "none"}


def grouped(all_runs, results, group):
    """{(router, router loss): [results of the seeds]} of a group, in order of the runs."""
    rows = defaultdict(list)
    for run in all_runs:
        if run.group == group and run.name in results:
            rows[runs.label(run), run.router_loss].append(results[run.name])
    return rows


def average(results, key):
    return mean(result[key] for result in results)


def spread(results, key):
    values = [result[key] for result in results]
    return f" ± {(max(values) - min(values)) / 2:.4f}" if len(values) > 1 else ""


def saved(ratio):
    return f"{100 * (1 - ratio):.1f} %"


def row_values(results, key, digits=4):
    return f"{average(results, key):.{digits}f}{spread(results, key)}"


def router_name(label, loss):
    if label.startswith("top-") and loss == "null":
        return label  # without nulls, ℓ_null is the balance loss that such models are trained with
    return f"{label}, {LOSS_NAMES[loss]}"


def text_table(rows):
    lines = ["| router | seeds | held-out loss | bits per byte | load | expert FLOPs saved | model FLOPs saved |",
             "|---|---|---|---|---|---|---|"]
    for (label, loss), results in rows.items():
        lines.append(f"| {router_name(label, loss)} | {len(results)} | {row_values(results, 'loss')} | "
                     f"{average(results, 'bits_per_byte'):.4f} | {average(results, 'load'):.3f} | "
                     f"{saved(average(results, 'expert_flops_ratio'))} | {saved(average(results, 'model_flops_ratio'))} |")
    return lines


def choice_table(rows):
    lines = ["| router | seeds | accuracy | per byte | loss of the right answer | load | expert FLOPs saved | model FLOPs saved |",
             "|---|---|---|---|---|---|---|---|"]
    for (label, loss), results in rows.items():
        lines.append(f"| {router_name(label, loss)} | {len(results)} | {row_values(results, 'accuracy')} | "
                     f"{row_values(results, 'accuracy_normalized')} | {average(results, 'loss'):.4f} | "
                     f"{average(results, 'load'):.3f} | {saved(average(results, 'expert_flops_ratio'))} | "
                     f"{saved(average(results, 'model_flops_ratio'))} |")
    return lines


def verdict(rows, noise):
    """One sentence for each router that is not top-2, against the same table's top-2 of the same router loss, if it has one."""
    lines = []
    for (label, loss), results in rows.items():
        top_two = ("top-2", loss) if ("top-2", loss) in rows else ("top-2", "null")
        if label == "top-2" or top_two not in rows:
            continue
        difference = average(results, "loss") - average(rows[top_two], "loss")
        judged = "within the seeds' noise" if abs(difference) <= noise else "better" if difference < 0 else "worse"
        lines.append(f"- {router_name(label, loss)}: {difference:+.4f} nats against {router_name(*top_two)} ({judged}), "
                     f"{saved(average(results, 'model_flops_ratio'))} of the model's FLOPs saved.")
    return lines


def noise_of(rows):
    values = [result["loss"] for result in rows.get(("top-2", "null"), [])]
    return max(values) - min(values) if len(values) > 1 else 0.0


def curve(rows):
    """(model FLOPs ratio, loss) of AdaMoE under its own loss, by FLOPs."""
    points = [(average(results, "model_flops_ratio"), average(results, "loss"), label)
              for (label, loss), results in rows.items() if loss == "null" and not label.startswith("top-")]
    return sorted(points)


def crossing(points, loss):
    """The FLOPs ratio at which the curve falls to `loss`, between two points; None where it does not."""
    for (x0, y0, _), (x1, y1, _) in zip(points, points[1:]):
        if y0 > loss >= y1:
            return x0 + (x1 - x0) * (y0 - loss) / (y0 - y1)
    return None


def crossing_sentence(rows):
    points, base = curve(rows), rows.get(("top-2", "null"))
    if not base or len(points) < 2:
        return ""
    loss = average(base, "loss")
    at = crossing(points, loss)
    if at is not None:
        return (f"The curve of AdaMoE (ℓ_null) falls to top-2's loss of {loss:.4f} at {100 * at:.1f} % of top-2's model "
                f"FLOPs ({saved(at)} saved).")
    if points[0][1] <= loss:
        return f"Every point of AdaMoE's curve lies at or below top-2's loss of {loss:.4f}, from {100 * points[0][0]:.1f} % of its FLOPs on."
    best = min(points, key=lambda point: point[1])
    return (f"AdaMoE's curve does not reach top-2's loss of {loss:.4f} in this range; its lowest point is {best[2]} with "
            f"{best[1]:.4f} at {100 * best[0]:.1f} % of top-2's model FLOPs.")


def line_sentence(rows):
    """Where (8,3) stands against the straight line between top-1 and top-2."""
    try:
        one, two, ada = (rows[key] for key in (("top-1", "null"), ("top-2", "null"), ("(8,3)", "null")))
    except KeyError:
        return ""
    share = average(ada, "load") - 1
    expected = average(one, "loss") + share * (average(two, "loss") - average(one, "loss"))
    gain = expected - average(ada, "loss")
    side = "below" if gain > 0 else "above"
    return (f"At its load of {1 + share:.3f}, the straight line between top-1 and top-2 has loss {expected:.4f}; (8,3) lies "
            f"{abs(gain):.4f} {side} it.")


def remedies(tables):
    """(8,3) against top-2 of the same training, for each thing that was tried."""
    tried = [("by default", "router", "null"), ("a tenth of α", "low-alpha", "null"), ("3 times the steps", "longer", "null"),
             ("nulls from the start of pretraining", "from-start", "null"), ("no router loss", "router", "none"),
             ("no router loss, 3 times the steps", "longer", "none"), ("no router loss, 9 times the steps", "longest", "none")]
    parts = []
    for name, group, loss in tried:
        base = tables["router" if group == "from-start" else group].get(("top-2", loss))
        ada = tables[group].get(("(8,3)", loss))
        if base and ada:
            parts.append(f"{name} {average(ada, 'loss') - average(base, 'loss'):+.4f} while saving {saved(average(ada, 'model_flops_ratio'))}")
    return ["- What closes the gap of (8,3): " + "; ".join(parts) + "."] if parts else []


def best_saving(tables, noise):
    """(saved share of the model's FLOPs, router, loss, table) of the largest saving within the noise of its top-2; None."""
    found = []
    for name in ("router", "low-alpha", "longer", "longest"):
        rows = tables[name]
        for (label, loss), results in rows.items():
            top_two = rows.get(("top-2", loss))
            if top_two and not label.startswith("top-") and average(results, "loss") - average(top_two, "loss") <= noise:
                found.append((1 - average(results, "model_flops_ratio"), router_name(label, loss), name))
    return max(found, default=None)


def conclusion(tables, noise):
    """Where AdaMoE wins and where it does not, in short."""
    rows = tables["router"]
    lines = ["## In short", ""]
    ada, top_two, top_one = (rows.get(key) for key in (("(8,3)", "null"), ("top-2", "null"), ("top-1", "null")))
    if ada and top_two and top_one:
        lines.append(f"- With the default ℓ_null, (8,3) saves {saved(average(ada, 'model_flops_ratio'))} of the model's FLOPs and "
                     f"ends {average(ada, 'loss') - average(top_two, 'loss'):+.4f} nats from top-2; top-1 saves "
                     f"{saved(average(top_one, 'model_flops_ratio'))} and ends {average(top_one, 'loss') - average(top_two, 'loss'):+.4f}.")
    none = [(k, rows[k, "none"]) for k in ("(8,3)", "(16,4)", "(32,6)") if (k, "none") in rows]
    base = rows.get(("top-2", "none"))
    if none and base:
        lines.append("- Without any router loss: " + ", ".join(
            f"{label} {average(results, 'loss') - average(base, 'loss'):+.4f} while saving {saved(average(results, 'model_flops_ratio'))}"
            for label, results in none) + ", against top-2 without one.")
    lines += remedies(tables)
    best = best_saving(tables, noise)
    if best:
        lines.append(f"- The largest saving at top-2's loss (within the noise of {noise:.4f}) is {100 * best[0]:.1f} % of the model's "
                     f"FLOPs: {best[1]}, {TABLE_NAMES[best[2]]}. The paper saves 14.5 % of Mixtral-8x7B's.")
    else:
        lines.append("- No AdaMoE model of the text tables reaches top-2's loss within the seeds' noise.")
    return lines


def at_chance(rows):
    if any(average(results, "accuracy") > 0.38 for results in rows.values()):
        return ""
    return " All are close to that, so accuracy decides nothing here; the loss of the right answers does."


def write(folder, all_runs, results, processor):
    tables = {group: grouped(all_runs, results, group) for group in ("router", "low-alpha", "longer", "longest", "from-start", "choices", "molora")}
    noise = noise_of(tables["router"])
    minutes = sum(result["seconds"] for result in results.values()) / 60
    steps = {run.name: run.steps for run in all_runs}
    tokens = runs.WINDOW * runs.BATCH
    lines = [
        "# What null experts buy: measured on small models", "",
        f"Written by `train/evidence/run.py` from {len(results)} trainings ({minutes:.0f} minutes on {processor}, two cores). "
        "Model: hidden 128, 4 layers, 8 experts of 256, vocabulary 2048, from scratch; every fine-tuning starts from the same "
        "model and sees the same batches for a given seed. Held-out text: six whole books never trained on, every token "
        "predicted once. Top-1 and top-2 have no nulls, so ℓ_null is the balance loss there. FLOPs are counted rows of the experts and all linear layers, against top-2. ± is half the range over seeds.",
        "", *conclusion(tables, noise), "",
        f"## The same {steps.get('base', 0) * tokens / 1e6:.1f} M tokens of pretraining, then {runs.FINETUNE_STEPS * tokens / 1e6:.2f} M tokens of full fine-tuning", "",
        *text_table(tables["router"]), "", "![Held-out loss and accuracy against load and FLOPs](results.svg)", "",
        crossing_sentence(tables["router"]), "", line_sentence(tables["router"]), "",
        f"The three seeds of top-2 span {noise:.4f} nats; a smaller difference says nothing.", "",
        *verdict(tables["router"], noise), "",
        "## What closes the gap: a weaker router loss", "",
        "Like the first table, with a tenth of the default α: 0.002 falling to 0.00001.", "",
        *text_table(tables["low-alpha"]), "", *verdict(tables["low-alpha"], noise), "",
        f"## What closes the gap: {3 * runs.FINETUNE_STEPS * tokens / 1e6:.2f} M tokens of fine-tuning", "",
        *text_table(tables["longer"]), "", *verdict(tables["longer"], noise), "",
        f"## What closes the gap: {9 * runs.FINETUNE_STEPS * tokens / 1e6:.2f} M tokens of fine-tuning without a router loss", "",
        *text_table(tables["longest"]), "", *verdict(tables["longest"], noise), "",
        "## What closes the gap: nulls from the start of pretraining", "",
        "Pretrained with m = 8, k = 3 and ℓ_null instead of top-2, then fine-tuned like the rest; the top-2 to compare with is the first table's.", "",
        *text_table(tables["from-start"]), "",
        *from_start_verdict(tables, noise), "",
        f"## Multiple-choice tuning: SocialIQA, {runs.CHOICE_STEPS} steps of {runs.BATCH} questions, loss on the answer", "",
        "Three choices: guessing gives 0.333." + at_chance(tables["choices"]), "",
        *choice_table(tables["choices"]), "",
        f"## Mo-LoRA: a dense model whose linear layers get 8 LoRA experts (r = 8) and m nulls each, {runs.MOLORA_STEPS * tokens / 1e6:.2f} M tokens", "",
        "FLOPs are the LoRA experts' against two of them per token and, for the model, with the dense layers on both sides.", "",
        *text_table(tables["molora"]), "", *verdict(tables["molora"], noise), "",
    ]
    (folder / "RESULTS.md").write_text("\n".join(lines))
    plot.write(folder / "results.svg", tables["router"], tables["choices"])


def from_start_verdict(tables, noise):
    rows = dict(tables["from-start"])
    if ("top-2", "null") in tables["router"]:
        rows["top-2", "null"] = tables["router"]["top-2", "null"]
    return verdict(rows, noise)
