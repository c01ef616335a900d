"""From an accepted init request to ready, or everything undone.

Knows `lifecycle`, `settings` and `errors`; never the relay or the control plane. Begin with
`transaction`, then `attempt` (one try) and `starter` (the Protocol of every way to start an
upstream). `launched` starts through a launcher, `signalled` wakes a process that runs by itself,
`forward` passes the init on to a server that waits in a mode of its own (`owninit`); `readiness` is
when a start has worked.
"""
