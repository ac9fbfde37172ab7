"""`python -m bida`, for where no command `bida` is on the path."""

import sys

from bida.cli.parser import main

sys.exit(main())
