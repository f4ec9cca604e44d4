"""What an owner of the weights must do to undo a model's alignment: three probes, each measured before and after.

    gcg         one suffix found on the model's gradients         (gcg.py; the attack: redteam/gcg_suffix.py)
    ablation    the refusal direction taken out of the weights    (ablation.py)
    finetune    10, 50 and 100 harmful rows                       (finetune.py)

Import the module you need; run.py makes them, table.py shows them.
"""

PROBES = ("gcg", "ablation", "finetune")
