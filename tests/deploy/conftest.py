"""The image that the test deploy_image_build has made."""

import pathlib
import sys

import image
import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "integration"))


@pytest.fixture(scope="session")
def built():
    assert image.have(image.IMAGE), "the test deploy_image_build makes it"
    return image.IMAGE


@pytest.fixture(scope="session")
def root(built, tmp_path_factory):
    """The image's root file system, unpacked."""
    return image.unpack(built, tmp_path_factory.mktemp("image") / "root")
