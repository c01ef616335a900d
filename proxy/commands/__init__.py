"""One file a command, imported only when it is asked for; knows every room.

What is shared by the commands of an orchestrator, `init` and `status`, is in `orchestrating`.
"""
