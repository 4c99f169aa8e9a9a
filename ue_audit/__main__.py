"""`python -m ue_audit`."""

import sys

from ue_audit.cli import main

sys.exit(main())
