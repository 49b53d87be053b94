"""Pilots whose right answer is known: models changed in known modules, and data drawn from them."""
