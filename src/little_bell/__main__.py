"""`python -m little_bell` is the console command `little-bell`."""

import sys

from little_bell.cli import main

sys.exit(main())
