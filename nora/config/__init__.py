"""Configuration: TOML and environment become frozen values; each key, default and check is written once."""

from nora.config.access import AccessConfig, RuleConfig
from nora.config.auth import AuthConfig, TokenConfig
from nora.config.docker import DockerConfig
from nora.config.mistakes import ConfigError, Mistake
from nora.config.reading import find_path, load
from nora.config.restart import needs_restart, taken_over
from nora.config.secret import Secret
from nora.config.upstream import UpstreamConfig
from nora.config.values import AuditConfig, Config, LogConfig, ServerConfig, StorageConfig
from nora.config.writing import dump

__all__ = [
    "AccessConfig",
    "AuditConfig",
    "AuthConfig",
    "Config",
    "ConfigError",
    "DockerConfig",
    "LogConfig",
    "Mistake",
    "RuleConfig",
    "Secret",
    "ServerConfig",
    "StorageConfig",
    "TokenConfig",
    "UpstreamConfig",
    "dump",
    "find_path",
    "load",
    "needs_restart",
    "taken_over",
]
