"""`python -m bida.cli`, as `python -m bida`."""

import sys

from bida.cli.parser import main

sys.exit(main())
