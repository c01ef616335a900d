"""Who read what while modules were preloaded: environment, files, native libraries.

Knows `session.command` and nothing else of the launcher; runs inside the fork server. Begin with
`audit` (the hook), then `sightings` (what it notes), `stack` (on whose behalf), `policy` (which
names can never be warm); `native` and `elf` are for what no hook sees, `lookout` for files.
"""
