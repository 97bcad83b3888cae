"""`python -m verifier` is the command `tightcert`."""

import sys

from verifier.cli import main

sys.exit(main())
