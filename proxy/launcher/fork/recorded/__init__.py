"""What lives in an upstream while it is being recorded, and tells of it.

Knows `audit` and what of `fork` looks at a process. Begin with `reporter`; `imports` is who needs
whom.
"""
