"""Settings that all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A first import of pandas or torch inside an example is no slowness of the code under test.
settings.register_profile("lora-probe", deadline=None)
settings.load_profile("lora-probe")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep scans of the tests out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORA_PROBE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
