"""Pilots: candidate target sets compared by short fine-tunes on one shared base.

A pure protocol decides what is trained next from what has been measured (`protocol`), engines train it
(`engine`), a log that survives keeps it (`log`), and an analysis speaks the verdict (`analysis`).
"""

from __future__ import annotations
