"""A pod that is harmed at random, and one user's bytes that are looked for in the next one's pod.

`witness` is the upstream, `pod` the processes around it, `harm` what is done to them, `verdict`
what must be true afterwards, `scan` finds bytes in processes and files.
"""
