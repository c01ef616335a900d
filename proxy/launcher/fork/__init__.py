"""Inside the fork server: import, freeze, fork, and become the upstream.

Knows `audit`, `session` and `kernel`. Begin with `forkserver` (its messages, its main line), then
`child_of_fork` (from fork to the upstream's first line) and `entry` (as if the interpreter had been
started with the command). `trial` reports instead of serving: a recording's.
"""
