"""``python -m traced_router.demo demo``."""

import sys

from traced_router.demo import main

sys.exit(main())
