"""HTTP: the endpoints of the registry, response bodies, health, metrics. It alone knows requests of ours."""
