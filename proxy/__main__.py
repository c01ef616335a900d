"""`python -m proxy`."""

import sys

from proxy.server.early import remember_signals

remember_signals(sys.argv[1:])  # before whatever takes time to import

from proxy.cli import main  # noqa: E402  as the comment says

sys.exit(main())
