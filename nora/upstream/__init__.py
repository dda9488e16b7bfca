"""Other registries: one client for them all, challenges and tokens, routing of names, the chain."""
