#!/usr/bin/env python3
"""Measures what AdaMoE buys: trains small models side by side and writes RESULTS.md and its plot.

  train/evidence/run.py --text_dir=DIR --eval_dir=DIR --work_dir=DIR [--train=build/release/train/adamoe_train]

--text_dir holds kids_train.txt.gz, fairytaleqa_stories.txt.gz, fiction_train.txt.gz and books_valid.txt.gz (measured on, never
trained on); --eval_dir holds socialiqa_train.jsonl.gz and socialiqa_dev.jsonl.gz. What is finished in --work_dir is not
done again, so a stopped script goes on where it was. Under two hours on two cores.
"""
import argparse
import json
import pathlib
import platform
import subprocess
import sys
import time

import report
import runs

HERE = pathlib.Path(__file__).resolve().parent
VALID, TEST_CHOICES = "books_valid.txt.gz", "socialiqa_dev.jsonl.gz"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text_dir", type=pathlib.Path, required=True)
    parser.add_argument("--eval_dir", type=pathlib.Path, required=True)
    parser.add_argument("--work_dir", type=pathlib.Path, required=True)
    parser.add_argument("--train", type=pathlib.Path, default=HERE.parents[1] / "build/release/train/adamoe_train")
    parser.add_argument("--only", default="", help="run nothing but runs whose name contains this")
    parser.add_argument("--report_only", action="store_true", help="write the report from what is finished")
    return parser.parse_args()


class Evidence:
    def __init__(self, options):
        self.options = options
        self.tokenizer = options.work_dir / "tokenizer"

    def train(self, *arguments, log):
        with open(log, "a") as out:
            done = subprocess.run([self.options.train, *map(str, arguments)], stdout=out, stderr=out)
        if done.returncode != 0:
            sys.exit(f"adamoe_train {arguments[0]} failed: see {log}")

    def texts(self):
        names = ("kids_train.txt.gz", "fairytaleqa_stories.txt.gz", "fiction_train.txt.gz:0.25")
        return "--text=" + ",".join(f"{self.options.text_dir}/{name}" for name in names)

    def make_tokenizer(self):
        if not (self.tokenizer / "tokenizer_config.json").exists():
            kids = self.options.text_dir / "kids_train.txt.gz"
            self.train("tokenizer", f"--text={kids}", "--vocab_size=2048", f"--out={self.tokenizer}",
                       "--max_position_embeddings=256", log=self.options.work_dir / "tokenizer.log")

    def data_flags(self, run):
        if run.data == "text":
            return [self.texts()]
        return [f"--choices={self.options.eval_dir}/socialiqa_train.jsonl.gz"]

    def start_folder(self, run):
        """The folder that `run` starts from: another run's model, with the router that `run` asks for."""
        start = self.options.work_dir / run.start
        if run.command == "molora" or run.start == "nulls-from-start" or (run.nulls, run.picks) == (0, 2):
            return start
        converted = self.options.work_dir / f"{run.start}-m{run.nulls}k{run.picks}"
        if not (converted / "config.json").exists():
            self.train("convert", f"--model={start}", f"--out={converted}", f"--num_null_experts={run.nulls}",
                       f"--experts_per_token={run.picks}", log=self.options.work_dir / "convert.log")
        return converted

    def run(self, run):
        out = self.options.work_dir / run.name
        log = self.options.work_dir / f"{run.name}.log"
        flags = [f"--out={out}", f"--max_steps={run.steps}", f"--seed={run.seed}", f"--router_loss={run.router_loss}",
                 f"--window={runs.WINDOW}", f"--batch={runs.BATCH}", "--share=8", *run.flags, *self.data_flags(run)]
        if run.command == "pretrain":
            flags.append(f"--tokenizer={self.tokenizer}")
        else:
            flags.append(f"--model={self.start_folder(run)}")
        if run.command == "molora":
            flags += [f"--num_null_experts={run.nulls}", f"--experts_per_token={run.picks}"]
        if (out / "training.json").exists():
            flags.append("--resume")
        begin = time.monotonic()
        self.train(run.command, *flags, log=log)
        result = self.evaluate(run, out)
        result["seconds"] = time.monotonic() - begin
        return result

    def evaluate(self, run, out):
        model = [f"--model={out}"]
        if run.command == "molora":
            model = [f"--model={self.options.work_dir / run.start}", f"--adapter={out}"]
        data = f"--text={self.options.text_dir / VALID}"
        if run.data == "choices":
            data = f"--choices={self.options.eval_dir / TEST_CHOICES}"
        path = out / "evaluation.json"
        self.train("evaluate", *model, data, f"--json={path}", log=self.options.work_dir / f"{run.name}.log")
        return json.loads(path.read_text())


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    options = parse_arguments()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    evidence = Evidence(options)
    results = {}
    if not options.report_only:
        evidence.make_tokenizer()
    for run in runs.all_runs():
        path = options.work_dir / f"{run.name}.json"
        if not path.exists() and not options.report_only and options.only in run.name:
            path.write_text(json.dumps(evidence.run(run), indent=2))
            print(f"{run.name}: {path.read_text()}", flush=True)
        if path.exists():
            results[run.name] = json.loads(path.read_text())
    report.write(HERE.parent, runs.all_runs(), results, processor())


if __name__ == "__main__":
    main()
