"""Every exception that breakfix raises on purpose.

    BreakfixError                     base; never raised itself
    ├── UserError                     the user's mistake: one plain line, exit code 2
    │   ├── ConfigError               a key, type or value in the YAML
    │   ├── DataError                 a row or file of data (file, line, what is wrong)
    │   ├── AssetError                a model or data set that no source could serve (what was tried)
    │   ├── LedgerError               a ledger of another version, a run folder that is not one
    │   ├── RunBusy                   the run folder is in use by another process
    │   ├── BudgetSpent               a remote model's budget; what was paid for is recorded
    │   └── DiskFull                  no room left; nothing was corrupted
    └── ModelError                    the world's failure (endpoint down, out of memory): recorded, the run goes on

Everything else that escapes is our bug, and shows a traceback (exit code 1).
"""


class BreakfixError(Exception):
    """Base of the tree above."""


class UserError(BreakfixError):
    """A mistake that the user can mend. `str(e)` is one line: the value, what was expected, what to do next."""


class ConfigError(UserError):
    """The configuration is not valid."""


class DataError(UserError):
    """A data file or row is not valid."""


class AssetError(UserError):
    """No source could serve a model or data set."""


class LedgerError(UserError):
    """The run's ledger can't be used."""


class RunBusy(UserError):
    """Another process holds the run folder."""


class BudgetSpent(UserError):
    """A remote model has used up what may be spent on it."""


class DiskFull(UserError):
    """The disk is full."""


class ModelError(BreakfixError):
    """A model or endpoint failed. Recorded against the attempt; the run goes on."""
