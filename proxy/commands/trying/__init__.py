"""What the command `try` does.

Begin with `look` (the server by itself), then `claim` (behind a proxy, cold and warm), then
`printed` (the settings). `listening` reads the kernel's tables.
"""
