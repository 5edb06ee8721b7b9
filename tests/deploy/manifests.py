"""Kubernetes manifests as kubectl renders them, and what is in them."""

import os
import pathlib
import re
import subprocess

import yaml

SOURCE = pathlib.Path(__file__).resolve().parents[2]
DEPS = pathlib.Path(os.environ.get("ADAMOE_DEPS_DIR", pathlib.Path.home() / ".cache" / "adamoe"))
K8S = SOURCE / "deploy" / "k8s"
OLD_KUBECTL = DEPS / "kubectl" / "debian" / "kubectl"  # 1.20: kustomize 2.0.3
KUBECTL = DEPS / "kubectl" / "wheel" / "kubectl"  # 1.33: kustomize 5.6


def render(folder, kubectl=KUBECTL):
    """The objects of a kustomization."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": "/dev/null"}
    run = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, env=environment, timeout=60)
    assert run.returncode == 0, f"{kubectl} kustomize {folder}: {run.stderr}"
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def compose(folder, overlay, components):
    """The objects of an overlay with components, put together in an empty folder."""
    relative = lambda path: os.path.relpath(K8S / path, folder)  # noqa: E731
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative(f"overlays/{overlay}")],
        "components": [relative(f"components/{name}") for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(folder)


def of_kind(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def only(objects, kind):
    found = of_kind(objects, kind)
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def pod_spec(objects):
    return only(objects, "Deployment")["spec"]["template"]["spec"]


def server_of(spec):
    """The server's container in a pod's spec."""
    return next(item for item in spec["containers"] if item["name"] in ("server", "kserve-container"))


def flags_of(arguments):
    """--name=value of a command line, as a dict; a bare --name is 'true'. None may come twice."""
    flags = {}
    for argument in arguments:
        match = re.fullmatch(r"--(\w+)(?:=(.*))?", argument)
        assert match, f"'{argument}' is not a flag"
        assert match[1] not in flags, f"--{match[1]} comes twice"
        flags[match[1]] = "true" if match[2] is None else match[2]
    return flags


def seconds(duration):
    """Of a duration as Abseil and Go write them: 1m30s."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", duration)
    assert "".join(number + unit for number, unit in parts) == duration, f"'{duration}' is not a duration"
    return sum(float(number) * units[unit] for number, unit in parts)


def quantity(text):
    """A Kubernetes quantity as a number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", str(text))
    assert match, f"'{text}' is not a quantity"
    units = {None: 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(match[1]) * units[match[2]]


def port_of(address):
    return int(address.rsplit(":", 1)[1])
