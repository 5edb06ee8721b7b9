"""The trainings that the evidence consists of, as data: what starts from what, with which flags of adamoe_train."""
from dataclasses import dataclass, field

WINDOW, BATCH = 256, 16
PRETRAIN_STEPS, FINETUNE_STEPS, DENSE_STEPS, MOLORA_STEPS, CHOICE_STEPS = 800, 120, 500, 100, 250
SHAPE = ["--hidden_size=128", "--num_layers=4", "--num_heads=4", "--num_kv_heads=2", "--max_position_embeddings=256"]
MIXTRAL = SHAPE + ["--intermediate_size=256", "--num_experts=8", "--experts_per_token=2"]
DENSE = SHAPE + ["--intermediate_size=512", "--num_experts=1", "--experts_per_token=1"]
# Full fine-tuning of a small model: the paper's 5e-5 belongs to LoRA on Mixtral-8x7B.
FINETUNE = ["--learning_rate=5e-4"]
LOW_ALPHA = ["--first_alpha=0.002", "--last_alpha=0.00001"]  # a tenth of the default, which is the paper's


@dataclass(frozen=True)
class Run:
    name: str  # folder and key of the result
    command: str  # pretrain, finetune or molora
    steps: int
    start: str = ""  # the run whose model is trained further; "" for none
    nulls: int = 0  # m
    picks: int = 2  # k
    seed: int = 1
    router_loss: str = "null"
    data: str = "text"  # text or choices
    flags: tuple = ()
    group: str = field(default="")  # table of the report


def label(run):
    """How tables and plots name a run's router."""
    if run.nulls == 0:
        return f"top-{run.picks}"
    return f"({run.nulls},{run.picks})"


def finetune(start, nulls, picks, seed=1, router_loss="null", steps=FINETUNE_STEPS, group="router", data="text", flags=()):
    name = f"{group}-m{nulls}k{picks}-{router_loss}-s{seed}"
    return Run(name, "finetune", steps, start, nulls, picks, seed, router_loss, data, (*FINETUNE, *flags), group)


def all_runs():
    runs = [
        Run("base", "pretrain", PRETRAIN_STEPS, flags=tuple(MIXTRAL), group="start"),
        Run("dense", "pretrain", DENSE_STEPS, picks=1, flags=tuple(DENSE), group="start"),
        Run("nulls-from-start", "pretrain", PRETRAIN_STEPS, nulls=8, picks=3,
            flags=tuple(MIXTRAL[:-1] + ["--experts_per_token=3", "--num_null_experts=8"]), group="start"),
    ]
    runs += [finetune("base", 0, 2, seed) for seed in (1, 2, 3)]
    runs += [finetune("base", 8, 3, seed) for seed in (1, 2, 3)]
    runs += [finetune("base", 0, 1)]
    runs += [finetune("base", m, k) for m, k in ((16, 4), (32, 6), (6, 3), (16, 6))]
    runs += [finetune("base", m, k, router_loss=loss) for loss in ("balance", "none") for m, k in ((8, 3), (16, 4), (32, 6))]
    runs += [finetune("base", m, k, seed, "none") for m, k in ((0, 2), (8, 3)) for seed in (1, 2, 3) if (m, seed) != (8, 1)]
    # What closes the gap: a weaker router loss, more steps for both, and nulls from the start of pretraining.
    runs += [finetune("base", m, k, group="low-alpha", flags=LOW_ALPHA) for m, k in ((0, 2), (8, 3), (6, 3))]
    runs += [finetune("base", m, k, router_loss=loss, steps=3 * FINETUNE_STEPS, group="longer")
             for loss in ("null", "none") for m, k in ((0, 2), (8, 3), (6, 3))]
    runs += [finetune("base", m, k, router_loss="none", steps=9 * FINETUNE_STEPS, group="longest") for m, k in ((0, 2), (8, 3), (16, 4))]
    runs += [finetune("nulls-from-start", 8, 3, seed, group="from-start") for seed in (1, 2)]
    # Multiple-choice tuning, as in the paper.
    runs += [finetune("base", m, k, seed, steps=CHOICE_STEPS, group="choices", data="choices")
             for m, k in ((0, 2), (8, 3), (0, 1)) for seed in (1, 2)]
    runs += [Run(f"molora-m{m}k{k}", "molora", MOLORA_STEPS, "dense", m, k, 1, "null", "text",
                 ("--num_experts=8", "--lora_r=8", "--lora_alpha=16", "--learning_rate=2e-3"), "molora")
             for m, k in ((0, 1), (0, 2), (5, 4), (7, 4), (9, 4))]
    return runs
