"""`python -m examples.loans`: see `demo.py`."""

import sys

from examples.loans.demo import main

sys.exit(main())
