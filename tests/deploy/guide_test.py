"""deploy/README.md against the server and the manifests."""

import os
import pathlib
import re
import subprocess

import manifests

GUIDE = (manifests.SOURCE / "deploy" / "README.md").read_text()
SERVER = pathlib.Path(os.environ["ADAMOE_BUILD_DIR"]) / "server" / "adamoe_server"

# Of other programs.
OTHERS = set(
    "build rm read cap flagfile help tasks model_args async backend concurrency constraint data endpoint extra input output"
    " profile request reset server service streaming synthetic tokenizer url use".split()
)


def test_it_names_every_flag_and_no_other():
    text = subprocess.run([SERVER, "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    known = set(re.findall(r"^  --(\w+)=", text, re.MULTILINE))
    table = GUIDE.split("## Every flag")[1].split("##")[0]
    assert set(re.findall(r"`--(\w+)`", table)) == known
    elsewhere = set(re.findall(r"--(\w+)", GUIDE)) - OTHERS
    assert elsewhere <= known, elsewhere - known


def test_its_metrics_exist():
    source = "".join(path.read_text() for path in (manifests.SOURCE / "server" / "metrics").glob("*.cc"))
    used = set(re.findall(r"`(adamoe_\w+)[`{]", GUIDE)) - {"adamoe_server", "adamoe_client"}
    assert len(used) > 10
    assert used <= set(re.findall(r'"(adamoe_\w+)"', source))


def test_its_numbers_are_the_manifests():
    for name in ("cpu", "gpu"):
        flags = manifests.flags_of(manifests.server_of(manifests.pod_spec(manifests.render(manifests.K8S / "overlays" / name)))["args"])
        assert f"{int(flags['kv_cache_tokens']):,}" in GUIDE
    spec = manifests.pod_spec(manifests.render(manifests.K8S / "base"))
    flags = manifests.flags_of(manifests.server_of(spec)["args"])
    delay, timeout = (int(manifests.seconds(flags[name])) for name in ("drain_delay", "drain_timeout"))
    assert f"say {spec['terminationGracePeriodSeconds']} for {delay} s and {timeout} s" in GUIDE
    assert 2 * 32 * 8 * 128 * 2 == 131072 and 2 * 4 * 4 * 32 * 2 == 2048
    assert "131,072 / 262,144" in GUIDE and "2,048 / 4,096" in GUIDE


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
        assert (manifests.SOURCE / "deploy" / target).exists(), target


def test_it_names_every_component_and_example():
    for kind in ("components", "examples"):
        for path in (manifests.K8S / kind).iterdir():
            assert f"| `{path.name}` |" in GUIDE
