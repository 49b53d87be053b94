"""Comparing: the sites, roles and counts in which two models, or two target sets, differ."""

from __future__ import annotations

from lora_probe.comparing.differences import diff
from lora_probe.comparing.records import Change, Difference, Facts, RoleDifference, SiteDifference

__all__ = ["Change", "Difference", "Facts", "RoleDifference", "SiteDifference", "diff"]
