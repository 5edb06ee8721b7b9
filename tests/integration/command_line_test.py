"""What stands on the server's command line, and in the folders it names, is checked before it serves."""

import json
import shutil
import subprocess

import harness
import pytest


def refused(*flags):
    """The standard error of a server that must not start."""
    flags = ["--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", *map(str, flags)]
    result = subprocess.run([harness.SERVER, *flags], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert "listening on" not in result.stdout
    assert len(result.stderr.strip().splitlines()[-1]) < 1000
    return result.stderr


def test_help_explains_every_flag():
    result = subprocess.run([harness.SERVER, "--help"], capture_output=True, text=True, timeout=30)
    assert result.returncode == 0
    for flag in (
        "model", "adapter", "experts_per_token", "listen", "metrics_listen", "device", "activation_dtype",
        "kv_cache_tokens", "max_batch_tokens", "max_running_requests", "max_queued_requests", "drain_delay", "drain_timeout",
        "threads", "http_listen", "baseline_experts_per_token", "per_expert_metrics", "insecure", "tls_cert_file",
        "tls_key_file", "tls_client_ca_file", "auth_tokens_file", "max_running_requests_per_token", "health_listen",
        "log_format", "log_requests", "log_prompts",
    ):
        assert f"--{flag}" in result.stdout


@pytest.mark.parametrize(
    "flag",
    [
        "listen=nowhere", "listen=127.0.0.1:70000", "metrics_listen=::::", "device=abacus", "activation_dtype=int3",
        "kv_cache_tokens=-1", "max_batch_tokens=0", "max_running_requests=0", "max_queued_requests=-4",
        "drain_timeout=-5s", "drain_delay=-1s", "drain_delay=25h", "threads=-1", "experts_per_token=-1", "experts_per_token=100", "http_listen=127.0.0.1",
        "log_level=shout", "max_batch_tokens=many", "no_such_flag=1",
    ],
)
def test_a_bad_flag_is_named(models, flag):
    assert flag.split("=")[0] in refused(f"--model={models['small']}", f"--{flag}")


def test_a_model_is_required():
    assert "model" in refused()


@pytest.fixture
def folder(models, tmp_path):
    """A copy of a model folder, to spoil; gone after the test."""
    copy = tmp_path / "model"
    shutil.copytree(models["small"], copy)
    yield copy
    shutil.rmtree(copy)


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps(config))


def weights(folder):
    return next(folder.glob("*.safetensors"))


def rewrite_header(folder, change):
    path = weights(folder)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name in refused(f"--model={folder}")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00" * 9, b"[]", b"\xff" * 8 + b"{}"])
def test_a_spoilt_file_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    assert name in refused(f"--model={folder}")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert "no-such-folder" in refused(f"--model={tmp_path / 'no-such-folder'}")


def test_a_truncated_weight_file_is_named(folder):
    path = weights(folder)
    path.write_bytes(path.read_bytes()[:-100])
    assert path.name in refused(f"--model={folder}")


def test_a_missing_tensor_is_named(folder):
    def change(header):
        header["model.other.weight"] = header.pop("model.norm.weight")

    rewrite_header(folder, change)
    assert "model.norm.weight" in refused(f"--model={folder}")


def test_a_tensor_of_the_wrong_shape_is_named(folder):
    def change(header):
        tensor = header["model.layers.1.block_sparse_moe.experts.2.w2.weight"]
        tensor["shape"] = tensor["shape"][::-1]

    rewrite_header(folder, change)
    assert "model.layers.1.block_sparse_moe.experts.2.w2.weight" in refused(f"--model={folder}")


def test_a_tensor_outside_the_file_is_named(folder):
    def change(header):
        begin, end = header["lm_head.weight"]["data_offsets"]
        header["lm_head.weight"]["data_offsets"] = [begin + 2**40, end + 2**40]

    rewrite_header(folder, change)
    assert weights(folder).name in refused(f"--model={folder}")


@pytest.mark.parametrize(
    "key, value",
    [
        ("hidden_size", 0), ("hidden_size", "wide"), ("num_hidden_layers", -1), ("num_hidden_layers", 10**9),
        ("num_attention_heads", 3), ("num_experts_per_tok", 0), ("num_experts_per_tok", 99), ("vocab_size", 2**40),
        ("rms_norm_eps", "small"), ("num_local_experts", None),
    ],
)
def test_a_bad_config_value_is_named(folder, key, value):
    edit_config(folder, **{key: value})
    errors = refused(f"--model={folder}")
    assert key in errors or "config.json" in errors


def test_another_architecture_is_refused(folder):
    edit_config(folder, architectures=["GPT2LMHeadModel"], model_type="gpt2")
    assert "config.json" in refused(f"--model={folder}")


def test_an_adapter_folder_that_is_not_there_is_named(models, tmp_path):
    assert "no-adapter" in refused(f"--model={models['small']}", f"--adapter={tmp_path / 'no-adapter'}")


def test_an_address_in_use_is_named(models):
    with harness.Server(models["small"]) as server:
        assert server.address in refused(f"--model={models['small']}", f"--listen={server.address}")
        errors = refused(f"--model={models['small']}", f"--metrics_listen={server.metrics_address}")
        assert server.metrics_address in errors


def test_a_flagfile_works(models, tmp_path):
    flags = tmp_path / "flags"
    flags.write_text("--max_running_requests=0\n")
    assert "max_running_requests" in refused(f"--model={models['small']}", f"--flagfile={flags}")
    flags.unlink()
