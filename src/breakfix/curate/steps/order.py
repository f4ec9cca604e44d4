"""The steps of a round, in their order, by the settings of `curate`.

What may not be learnt from goes first (licences); then texts are mended (personal data) and what is bad is dropped
(language, quality), so that of two alike rows a good one stays; then duplicates, from exact to alike; labels; caps; and
last decontamination, by words and by meaning, on what would be learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from breakfix import assets
from breakfix.config import Curate
from breakfix.core import Case, Dropped, Example, Step
from breakfix.curate.caps import Caps
from breakfix.curate.steps.decontaminate import SHOWN, Decontaminate
from breakfix.curate.steps.exact import Exact
from breakfix.curate.steps.labels import LabelErrors
from breakfix.curate.steps.language import Language
from breakfix.curate.steps.licence import Licence
from breakfix.curate.steps.meaning import Meaning
from breakfix.curate.steps.near import Copies, Family, Near
from breakfix.curate.steps.personal import Personal
from breakfix.curate.steps.quality import Quality
from breakfix.curate.steps.vectors import Vectors
from breakfix.errors import AssetError

SAID = "its model says nearly the same in enough other rows"
EMBEDDER = "multilingual-e5-small"


class Order:
    """`steps` take the pool of prompts; `minted()` takes rows once they have their replies; `report()`: what they say.

    `resolve` gives the folder of the embedding model; where it can't, what needs it is left out, and `report` says why.
    """

    def __init__(
        self,
        curate: Curate,
        walls: Sequence[Case],
        clean: Decontaminate,
        *,
        resolve: Callable[[str], Path],
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self.clean, self.why_not = clean, ""
        self.personal = Personal(curate.personal_data)
        self.quality = None if curate.quality is None else Quality(curate.quality)
        self.labels: LabelErrors | None = None
        self.meaning: Meaning | None = None
        if curate.embedding is not None or curate.label_errors != "off":
            try:
                vectors = vectors_of(resolve(EMBEDDER), threads)
            except AssetError as error:
                self.why_not = str(error)
            else:
                if curate.label_errors != "off":
                    self.labels = LabelErrors(vectors, drop=curate.label_errors == "drop", seed=seed)
                if curate.embedding is not None:
                    self.meaning = Meaning(walls, vectors, curate.embedding)
        found: list[Step | None] = [
            Licence(
                allow_unknown=curate.allow_unknown_licence,
                accepted=[s.name for s in curate.sources if s.accept_licence],
            ),
            self.personal,
            Language() if curate.check_language else None,
            self.quality,
            Exact(),
            Near(curate.near_duplicate),
            Family(curate.per_family) if curate.per_family is not None else None,
            self.labels,
            Caps(curate.per_hazard, seed=seed) if curate.per_hazard is not None else None,
            clean,
            self.meaning,
        ]
        self.steps = [step for step in found if step is not None]
        most = curate.reply_copies
        self._copies = None if most is None else said_again(curate.near_duplicate, most)

    def minted(self) -> Callable[[Sequence[Example]], tuple[list[Example], list[Dropped]]]:
        """For minted rows of one kind, batch by batch: personal data that a model wrote, and what it says again."""
        copies = self._copies
        look = copies.looker() if copies is not None else None

        def sifted(rows: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
            kept, dropped = self.personal(rows)
            if copies is None or look is None:
                return kept, dropped
            reasons = look(kept)
            dropped += [Dropped(row, copies.name, why) for row, why in zip(kept, reasons, strict=True) if why]
            return [row for row, why in zip(kept, reasons, strict=True) if not why], dropped

        return sifted

    def fine(self, earlier: Example) -> bool:
        """Whether a row of an earlier round may be replayed."""
        return self.quality is None or self.quality.fine(earlier)

    def report(self) -> dict[str, Any]:
        """For the stage's record; the meaning's findings go into decontamination's report."""
        if self.meaning is not None and self.meaning.report:
            self._with_meaning(self.meaning.report)
        elif self.why_not:
            self.clean.report["embedding"] = f"not looked for: {self.why_not}"
        return {
            "steps": [step.name for step in self.steps if step is not self.personal or self.personal.mode != "keep"],
            "personal": dict(sorted(self.personal.found.items())),
            "labels": None if self.labels is None else self.labels.report,
        }

    def _with_meaning(self, found: dict[str, Any]) -> None:
        report = self.clean.report
        walls = {**report.get("by_wall", {})}
        for source, n in found["by_wall"].items():
            walls[source] = walls.get(source, 0) + n
        pairs = [{"row": p["row"], "wall": p["wall"], "rule": f"meaning {p['cosine']:.2f}"} for p in found["pairs"]]
        report |= {
            "dropped": report["dropped"] + found["dropped"],
            "by_rule": {**report["by_rule"], **({"meaning": found["dropped"]} if found["dropped"] else {})},
            "by_wall": dict(sorted(walls.items())),
            "pairs": [*report["pairs"], *pairs][: 2 * SHOWN],
            "embedding": f"cosine {found['threshold']} or more to {found['walls']} walls, by {found['embedder']}",
        }


def said_again(threshold: float, most: int) -> Copies:
    """Of minted rows: what the model itself says there (rejected of a harmful row, the reply of a harmless one) is said
    in `most` rows at most. The composed side is drawn from few texts, on purpose."""
    return Copies(
        "replies",
        threshold,
        SAID,
        most=most,
        text=lambda row: (row.rejected or "") if row.kind == "harmful" else row.reply,
        group=lambda row: row.kind == "harmful",
    )


def vectors_of(folder: Path, threads: int | None = None) -> Vectors:
    """Embeddings by the model in this folder, kept in the cache folder. It is loaded when a text is not known yet."""
    from breakfix.models.identity import weights_id

    def load() -> Any:
        from breakfix.models.embed import Embedder

        return Embedder.load(folder, threads=threads)

    return Vectors(weights_id(folder), load, assets.default_cache() / "vectors")
