"""Configuration: TOML and environment become frozen values; each key, default and check is written once."""
