"""Programs that read exports with one trainer each, run by tests in processes of their own."""
