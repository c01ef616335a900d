"""Settings: one typed tree from YAML file, environment and command line."""

from proxy.settings.mapping import FieldMapping, FileMapping, MappingSettings
from proxy.settings.tree import (
    DrainSettings,
    GateSettings,
    InitSettings,
    LimitSettings,
    ListenSettings,
    LogSettings,
    PreloadSettings,
    ReadySettings,
    Settings,
    UpstreamSettings,
)
from proxy.settings.values import ServerUrl, TcpAddress, UnixAddress

__all__ = [
    "DrainSettings",
    "FieldMapping",
    "FileMapping",
    "GateSettings",
    "InitSettings",
    "LimitSettings",
    "ListenSettings",
    "LogSettings",
    "MappingSettings",
    "PreloadSettings",
    "ReadySettings",
    "ServerUrl",
    "Settings",
    "TcpAddress",
    "UnixAddress",
    "UpstreamSettings",
]
