"""Tests of lora-probe, with the tools that write its reports (``python -m tests.census.report``, …)."""
