"""Post-training: SFT, then DPO, through TRL. `run.run` is the stage; nothing heavy loads at import."""
