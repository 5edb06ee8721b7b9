"""The built image, once for the tests of a file."""

import pathlib
import sys

import image
import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "integration"))


@pytest.fixture(scope="session")
def built():
    return image.build()


@pytest.fixture(scope="session")
def root(built, tmp_path_factory):
    """The image's root file system, unpacked."""
    return image.unpack(built, tmp_path_factory.mktemp("image") / "root")
