"""The rules of what a start needs of an init: places of templates, and required fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings.mapping import INIT_FIELDS, KINDS
from proxy.settings.reading.faults import Fault, did_you_mean
from proxy.settings.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.mapping import MappingSettings
    from proxy.settings.reading.faults import Path
    from proxy.settings.template import Place
    from proxy.settings.tree import Settings


def named_fields(settings: Settings) -> frozenset[str]:
    """Those that templates have places for."""
    templates = settings.upstream.templates
    return frozenset(place.name for _, template in templates for place in template.places)


def check_needs(settings: Settings) -> Iterator[Fault]:
    upstream = settings.upstream
    mapping = upstream.fields_and_files
    about: tuple[Path, ...] = (("upstream", "mapping"), ("upstream", "profile"))
    for below, template in upstream.templates:
        path = ("upstream", *below)
        for place in template.places:
            fault = _place(path, place, mapping)
            made = place.name in mapping.fields and mapping.fields[place.name].generate
            lacking = place.default is None and not made and not settings.deferred_init
            if fault is None and lacking:
                problem = f"needs {place}, and without deferred_init nothing is delivered"
                fault = Fault(path, problem, "give a default, as {name:-text}")
            if fault is not None:
                yield Fault(
                    path, fault.problem, fault.hint, about=(path, ("deferred_init",), *about)
                )
    for index, argument in enumerate(upstream.command):
        for place in Template(argument).places:
            meant = did_you_mean(place.name, mapping.fields)
            if place.variable is None and place.name not in mapping.fields and meant:
                path = ("upstream", "command", index)
                problem = f"has a place for {place.name}, which is no mapped field"
                yield Fault(path, problem, meant, about=(path, *about))
    for name, field in mapping.fields.items():
        if field.required and not settings.deferred_init:
            where = ("upstream", "mapping", "fields", name, "required")
            yield Fault(
                where,
                "cannot be met without deferred_init: nothing is delivered",
                about=(where, ("deferred_init",)),
            )


def _place(path: Path, place: Place, mapping: MappingSettings) -> Fault | None:
    """What is wrong with it."""
    if place.variable is not None:
        return None
    field = mapping.fields.get(place.name)
    if field is None or place.name == "env":
        hint = did_you_mean(place.name, mapping.fields) or (
            f"map the field, or write {{{{{place}}}}} where text in braces is meant"
        )
        return Fault(path, f"has a place for {place.name}, which is no mapped field", hint)
    kind = KINDS[field.type] if field.type is not None else INIT_FIELDS.get(place.name)
    if place.item is not None and kind != "texts":
        return Fault(path, f"has a place for {place}, and {place.name} is no list of texts")
    return None
