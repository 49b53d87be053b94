"""What a target set costs: elements, bytes and the rank that fits a limit."""
