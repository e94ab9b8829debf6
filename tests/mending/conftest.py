"""What has learnt rows and forgotten the rest, made once for all tests."""

import pytest

import tiny_harmed


@pytest.fixture(scope="session")
def harmed(tmp_path_factory):
    return tiny_harmed.build(tmp_path_factory.mktemp("harmed"))
