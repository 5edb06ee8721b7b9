"""Hugging Face transformers on the same folder, in a Python of its own."""
import json
import pathlib
import subprocess


def transformers(options, model):
    script = pathlib.Path(__file__).with_name("transformers_peer.py")
    out = subprocess.run([options.transformers_python, script, model, str(options.threads)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])
