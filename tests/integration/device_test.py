"""Which device runs the model: what the server says when a GPU, its driver or the plugin is missing, and that it serves
through a plugin. The driver and the plugin are stand-ins (tests/fakes): no GPU is needed, or used."""

import subprocess

import grpc
import harness
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

DRIVER = harness.BUILD / "tests" / "fakes" / "fake_driver"
PLUGIN = harness.BUILD / "tests" / "fakes" / "libfake_device_plugin.so"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """No driver, and no plugin but those a test names: whatever this machine has."""
    for name in ("ADAMOE_CUDA_PLUGIN", "FAKE_CUDA_DEVICES", "FAKE_CUDA_INIT", "FAKE_PLUGIN_BUILD", "FAKE_PLUGIN_LAYOUT"):
        monkeypatch.delenv(name, raising=False)
    broken = tmp_path / "libcuda.so.1"
    broken.write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    yield
    broken.unlink()


@pytest.fixture
def driver(monkeypatch):
    """A driver with two GPUs; the second will do."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(DRIVER))
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "8.0 9.0")


def refused(models, *flags):
    """The last line of standard error of a server that must not start."""
    command = [harness.SERVER, f"--model={models['small']}", "--listen=127.0.0.1:0", "--metrics_listen=", *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert "listening on" not in result.stdout
    return result.stderr.strip().splitlines()[-1]


def info(server):
    with server.client() as client:
        return client.call("GetModelInfo")


def test_without_a_driver_cuda_is_refused(models):
    error = refused(models, "--device=cuda")
    assert "--device=cuda" in error and "no NVIDIA driver" in error and "libcuda.so.1" in error


def test_without_a_driver_auto_runs_on_the_cpu_and_says_why(models):
    with harness.Server(models["small"], "--activation_dtype=auto") as server:
        assert info(server).device == "cpu"
        reasons = [line for line in server.log().splitlines() if "runs on the CPU" in line]
        assert len(reasons) == 1 and "no NVIDIA driver" in reasons[0]


def test_cpu_asks_no_driver(models):
    with harness.Server(models["small"], "--device=cpu") as server:
        assert info(server).device == "cpu"
        assert "driver" not in server.log()


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"FAKE_CUDA_DEVICES": ""}, "shows no GPU"),
        ({"FAKE_CUDA_DEVICES": "8.0 8.9"}, "compute capability 9.0"),
        ({"FAKE_CUDA_DEVICES": "10.0"}, "Fake GPU has 10.0"),
        ({"FAKE_CUDA_INIT": "999"}, "cuInit: CUDA_ERROR_UNKNOWN (999)"),
    ],
)
def test_a_driver_without_a_usable_gpu(models, driver, monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert words in refused(models, "--device=cuda", f"--device_plugin={PLUGIN}")


def test_a_missing_plugin_is_named(models, driver, tmp_path):
    assert f"{harness.SERVER.parent}/libadamoe_cuda.so: there is no such file" in refused(models, "--device=cuda")
    assert "nowhere.so: there is no such file" in refused(models, "--device=cuda", f"--device_plugin={tmp_path}/nowhere.so")


def test_the_plugin_of_the_environment_is_named(models, driver, monkeypatch):
    monkeypatch.setenv("ADAMOE_CUDA_PLUGIN", "/no/plugin.so")
    assert "/no/plugin.so" in refused(models, "--device=cuda")


def test_a_file_that_is_no_plugin_is_refused(models, driver, tmp_path):
    text = tmp_path / "text.so"
    text.write_text("not a library")
    assert "does not load" in refused(models, "--device=cuda", f"--device_plugin={text}")
    text.unlink()
    assert "is no device plugin" in refused(models, "--device=cuda", f"--device_plugin={DRIVER}/libcuda.so.1")


def test_a_plugin_of_another_build_is_refused(models, driver, monkeypatch):
    monkeypatch.setenv("FAKE_PLUGIN_LAYOUT", "7")
    assert "built from other sources" in refused(models, "--device=cuda", f"--device_plugin={PLUGIN}")
    monkeypatch.setenv("FAKE_PLUGIN_BUILD", "of another day")
    error = refused(models, "--device=cuda", f"--device_plugin={PLUGIN}")
    assert "'of another day'" in error and "this server as 'adamoe device plugin" in error


@pytest.mark.parametrize("flag", ["--weight_dtype=int8", "--weight_dtype=int4", "--activation_dtype=float32"])
def test_types_that_cuda_does_not_serve(models, driver, flag):
    assert flag in refused(models, "--device=cuda", f"--device_plugin={PLUGIN}", flag)
    with harness.Server(models["small"], "--activation_dtype=auto", f"--device_plugin={PLUGIN}", flag) as server:
        assert info(server).device == "cpu"
        assert f"runs on the CPU: {flag}" in server.log()


def test_an_error_of_the_plugin_ends_the_server(models, driver, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "9.0")  # the plugin wants another one
    assert "the fake device is number 1" in refused(models, "--device=cuda", f"--device_plugin={PLUGIN}")
    assert "the fake device is number 1" in refused(models, "--device=auto", f"--device_plugin={PLUGIN}")


def tokens(server, ids):
    with server.client() as client:
        sampling = dict(temperature=0, max_tokens=20, ignore_eos=True)
        return client.generate(prompt_tokens=dict(ids=ids), sampling=sampling).ids


def test_a_plugin_serves(models, driver):
    prompt = list(range(5, 30))
    with harness.Server(models["small"]) as server:
        expected = tokens(server, prompt)
    for device in ("auto", "cuda"):
        flags = ("--activation_dtype=auto", f"--device={device}", f"--device_plugin={PLUGIN}")
        with harness.Server(models["small"], *flags) as server:
            answer = info(server)
            assert (answer.device, answer.weight_dtype) == ("cuda", "bfloat16")
            assert server.metrics().sum("model_info", device="cuda") == 1
            assert tokens(server, prompt) == expected


def test_a_lost_device_is_not_serving(models, driver):
    flags = ("--activation_dtype=auto", "--device=cuda", f"--device_plugin={PLUGIN}")
    with harness.Server(models["small"], *flags) as server, server.client() as client:
        health = health_pb2_grpc.HealthStub(client.channel)

        def status():
            return health.Check(health_pb2.HealthCheckRequest(service=harness.SERVICE)).status

        assert status() == health_pb2.HealthCheckResponse.SERVING
        for ids in ([7] * 7, [1, 2, 3]):
            with pytest.raises(grpc.RpcError) as error:
                tokens(server, ids)
            assert error.value.code() == grpc.StatusCode.INTERNAL
            assert "the fake device" in error.value.details()
        harness.eventually(lambda: status() == health_pb2.HealthCheckResponse.NOT_SERVING, "health turns")
