"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# A first import of pandas or torch inside an example is no slowness of the code under test.
settings.register_profile("lora-probe", deadline=None)
settings.load_profile("lora-probe")
