"""Who read what while modules were preloaded: environment, files, native libraries.

Knows `session.command` and nothing else of the launcher; runs inside the fork server. Begin with
`audit` (the hook, and names), then `looks` and `sightings` (files), `stack` (on whose behalf),
`policy` (which names can never be warm); `calls`, `native` and `elf` are for C code, `lookout` for
questions about files that no hook hears.
"""
