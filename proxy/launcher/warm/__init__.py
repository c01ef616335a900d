"""The fork server as the launcher sees it: a child that is started, asked and ended.

Knows `upstream`, `session` and `kernel`. Begin with `zygote`; `birth` is its command line.
"""
