"""From file, environment and command line to `Settings`, or to every fault at once.

Knows the models beside it. Begin with `load`; `yamlfile` and `environment` read, `checks` and
`mapcheck`, `filecheck` and `templatecheck` are the rules between keys, `faults` has the words.
"""
