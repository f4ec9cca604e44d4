"""python -m breakfix.cli.fit_judges: fit the judges on embeddings anew, measure them, write weights and cards.

For those who work on breakfix: it writes into the package (data/judges, data/cards). Needs the assets
multilingual-e5-small, uncensorbench and pyrit-*; about ten minutes on two cores.

    NAME ...             these judges alone
    --measure            leave the weights and cards that are there
    --languages LABELS   only this: the refusal classifier on labelled replies, fitted without the language of each
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from breakfix.cycle import open_embedder
from breakfix.errors import UserError
from breakfix.judges import card, fit
from breakfix.judges.labels import load

COMMAND = "python -m breakfix.cli.fit_judges"
FIGURES = ("accuracy", "kappa", "sensitivity", "specificity", "mae", "alpha")


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    today = datetime.now(UTC).date().isoformat()
    if arguments[:1] == ["--languages"]:
        found, labels = fit.rows("refusal-classifier"), load(arguments[1], "refusal")
        show(fit.leave_one_language_out(labels, found, fit.Remembered(open_embedder()), today))
        return 0
    names = [name for name in arguments if name != "--measure"] or list(fit.RECIPES)
    if unknown := [name for name in names if name not in fit.RECIPES]:
        print(f"no judge {unknown[0]!r} on embeddings; known: {', '.join(fit.RECIPES)}", file=sys.stderr)
        return 2
    embedder = fit.Remembered(open_embedder())
    data = Path(str(resources.files("breakfix").joinpath("data")))
    for name in names:
        rows = fit.rows(name)
        if "--measure" not in arguments:
            model = fit.fit(name, rows, embedder)
            model.save(data / "judges" / f"{name}.safetensors")
            print(f"{name}: fitted on {len(rows)} rows ({model.about['rows']})")
        for measured in fit.measure(name, rows, embedder, date=today, command=COMMAND):
            show(measured)
            if "--measure" not in arguments and not measured.judge.startswith("baseline"):
                path = data / "cards" / f"{name}.json"
                path.parent.mkdir(exist_ok=True)
                path.write_text(card.merged(name, measured, path), encoding="utf-8")
    return 0


def show(measured: card.Calibration) -> None:
    found: dict[str, Any] = measured.as_json()
    told = ", ".join(f"{key} {found[key]:.3f}" for key in FIGURES if found.get(key) is not None)
    print(f"  {measured.judge} on {measured.labels} (n {found['n']}, unscored {found['unscored']}): {told}", flush=True)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
