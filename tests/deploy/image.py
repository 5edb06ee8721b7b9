"""Builds the image for real, with buildah, on a Debian that debootstrap makes. What it made before is used again."""

import fcntl
import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
DEPS = pathlib.Path(os.environ.get("ADAMOE_DEPS_DIR", pathlib.Path.home() / ".cache" / "adamoe"))
STORE = DEPS / "containers"
BASE = "localhost/adamoe-base:bookworm"
IMAGE = "localhost/adamoe-server:test"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
MAX_IMAGES = 100  # layers of past builds among them
ENVIRONMENT = os.environ | {"BUILDAH_ISOLATION": "chroot"}


def run_buildah(driver, *arguments):
    command = ["buildah", "--root", STORE / driver, "--runroot", STORE / "run", "--storage-driver", driver, *arguments]
    return subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=False)


@functools.cache
def storage_driver():
    """overlay where the kernel lets us; vfs, which copies each layer, where not."""
    STORE.mkdir(parents=True, exist_ok=True)
    return "overlay" if run_buildah("overlay", "images").returncode == 0 else "vfs"


def buildah(*arguments):
    run = run_buildah(storage_driver(), *arguments)
    assert run.returncode == 0, f"buildah {arguments[0]}: {run.stdout[-4000:]}{run.stderr[-4000:]}"
    return run.stdout.strip()


def have(image):
    return image in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()


def make_base():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "root"
        # With certificates, since the builder mounts the machine's over them.
        subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root], check=True, stdout=subprocess.DEVNULL)
        for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / cache)
            (root / cache / "partial").mkdir(parents=True)
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, root, "/")
        buildah("commit", "--quiet", container, BASE)
        buildah("rm", container)


def compiler_cache():
    folder = pathlib.Path(os.environ.get("CCACHE_DIR", pathlib.Path.home() / ".cache" / "ccache"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build():
    """The image's name. A build with nothing to do takes seconds."""
    STORE.mkdir(parents=True, exist_ok=True)
    with open(STORE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if len(buildah("images", "--all", "--quiet").split()) > MAX_IMAGES:
            buildah("rmi", "--all", "--force")
        if not have(BASE):
            make_base()
        buildah(
            "build", "--layers", "--build-arg", f"BASE={BASE}", "-v", f"{CERTIFICATES}:{CERTIFICATES}:ro",
            "-v", f"{compiler_cache()}:/root/.cache/ccache", "-t", IMAGE, SOURCE,
        )  # fmt: skip
    return IMAGE


def configuration(image):
    """The image's own: user, labels, entry point."""
    return json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]


def unpack(image, folder):
    """The image's root file system in a new folder; mounts in it need their targets made."""
    container = buildah("from", "--pull-never", image)
    try:
        mounted = buildah("mount", container)
        subprocess.run(["cp", "-a", mounted, folder], check=True)
    finally:
        buildah("rm", container)
    return folder
