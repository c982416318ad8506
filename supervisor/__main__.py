"""`python -m supervisor`: the same as the command `supervisor`."""

import sys

from supervisor.cli import main

sys.exit(main())
