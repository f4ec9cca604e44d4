"""The break-fix cycle, from its order down to what it reads: order, stages, means, loading, content.

Every stage is made once per inputs (`ledger.stage`): what is finished is read back, what was interrupted goes on from
the attempts and checkpoints that it had written. Stages talk only through the ledger.
"""

from breakfix.cycle.content import weights
from breakfix.cycle.loading import Progress, Say, inside, trained
from breakfix.cycle.means import kept_vectors, open_embedder
from breakfix.cycle.order import STAGES, Cycle

__all__ = ["STAGES", "Cycle", "Progress", "Say", "inside", "kept_vectors", "open_embedder", "trained", "weights"]
