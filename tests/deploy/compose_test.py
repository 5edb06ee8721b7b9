"""deploy/compose.yaml: valid by the Compose specification, and in agreement with the server and with itself."""

import os
import pathlib
import re
import subprocess

import compose_spec
import manifests
import pytest
import yaml
from manifests import flags_of, port_of, seconds

SERVER = pathlib.Path(os.environ["ADAMOE_BUILD_DIR"]) / "server" / "adamoe_server"
DEPLOY = manifests.SOURCE / "deploy"
# ${NAME:-default} as without the variable.
TEXT = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(TEXT)["services"]


def test_it_fits_the_specification():
    compose_spec.PyCompose.from_yaml(TEXT).validate()


@pytest.mark.parametrize("good, bad", [("read_only", "readonly"), ("retries", "tries"), ("40s", "soon")])
def test_the_specification_refuses_what_is_wrong(good, bad):
    assert good in TEXT
    with pytest.raises(ValueError):
        compose_spec.PyCompose.from_yaml(TEXT.replace(good, bad)).validate()


def test_the_server_takes_its_flags(services):
    command = services["server"]["command"]
    flags = flags_of(command)
    run = subprocess.run([SERVER, *command], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and flags["model"] in run.stderr, run.stderr  # nothing but that there is no such folder
    assert seconds(services["server"]["stop_grace_period"]) >= seconds(flags["drain_timeout"]) + 3 + 5
    target = f"--target=127.0.0.1:{port_of(flags['listen'])}"
    assert target in services["server"]["healthcheck"]["test"]
    published = {port.split(":")[-1] for port in services["server"]["ports"]}
    assert published == {str(port_of(flags[name])) for name in ("listen", "http_listen", "metrics_listen")}


def test_only_this_machine_reaches_it(services):
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_images_are_pinned(services):
    for service in services.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), service["image"]
    version = re.search(r"project\(adamoe VERSION (\S+)", (manifests.SOURCE / "CMakeLists.txt").read_text())[1]
    assert services["server"]["image"].endswith(f":{version}")


def test_what_is_mounted_is_there(services):
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source


def test_prometheus_scrapes_the_server(services):
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = [target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]]
    assert f"server:{port_of(flags_of(services['server']['command'])['metrics_listen'])}" in targets
    folder = next(volume.split(":")[1] for volume in services["prometheus"]["volumes"] if volume.startswith("./prometheus/rules"))
    assert f"{folder.rsplit('/', 1)[1]}/*.yml" in config["rule_files"]


def test_grafana_finds_its_dashboards(services):
    mounted = {volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    (provider,) = (DEPLOY / "grafana" / "provisioning" / "dashboards").glob("*.yml")
    for item in yaml.safe_load(provider.read_text())["providers"]:
        assert item["options"]["path"] in mounted
