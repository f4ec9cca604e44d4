"""`python -m breakfix` is `breakfix`."""

import sys

from breakfix.cli import main

if __name__ == "__main__":
    sys.exit(main())
