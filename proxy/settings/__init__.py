"""Settings: one typed tree from YAML file, environment and command line."""

from proxy.settings.addresses import ServerUrl, TcpAddress, UnixAddress
from proxy.settings.mapping import (
    Destination,
    FieldMapping,
    FieldType,
    FileMapping,
    MappingSettings,
    NativeSettings,
)
from proxy.settings.probing import ReadySettings
from proxy.settings.reading.load import load_settings
from proxy.settings.standby import RequestSettings, StandbySettings
from proxy.settings.template import Place
from proxy.settings.tree import (
    ControlSettings,
    DrainSettings,
    GateSettings,
    InitSettings,
    KeepaliveSettings,
    LimitSettings,
    ListenSettings,
    LogSettings,
    Settings,
    UnixSettings,
)
from proxy.settings.upstream import (
    PreloadSettings,
    RestartSettings,
    UpstreamSettings,
)

__all__ = [
    "ControlSettings",
    "Destination",
    "DrainSettings",
    "FieldMapping",
    "FieldType",
    "FileMapping",
    "GateSettings",
    "InitSettings",
    "KeepaliveSettings",
    "LimitSettings",
    "ListenSettings",
    "LogSettings",
    "MappingSettings",
    "NativeSettings",
    "Place",
    "PreloadSettings",
    "ReadySettings",
    "RequestSettings",
    "RestartSettings",
    "ServerUrl",
    "Settings",
    "StandbySettings",
    "TcpAddress",
    "UnixAddress",
    "UnixSettings",
    "UpstreamSettings",
    "load_settings",
]
