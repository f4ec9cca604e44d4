"""breakfix suites: what a model can be measured with, and whether it can be had here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from breakfix.cli import output
from breakfix.cli.commands import Arguments

if TYPE_CHECKING:
    from breakfix.suites import SuiteSpec


def overview(arguments: Arguments) -> int:
    """breakfix suites"""
    from breakfix.suites import SUITES, harness

    rows = [_row(spec) for spec in SUITES.values()]
    if arguments.json:
        output.as_json(rows)
        return 0
    output.table(
        ("name", "n", "split", "here", "what; how it is measured; whose, and under what licence"),
        [(r["name"], str(r["n"]), r["split"], "yes" if r["offline"] else "no", "\n".join(_words(r))) for r in rows],
    )
    print("also: a file of your own, by name and path")
    print("also: lm-eval/TASK" + ("" if harness.available() else " (the extra `lm-eval` is not installed)"))
    return 0


def _words(row: dict[str, Any]) -> list[str]:
    needs = [f"from {', '.join(row['needs'])}"] if row["needs"] else []
    return [row["what"], "; ".join([row["measure"], row["source"], row["licence"], *needs])]


def _row(spec: SuiteSpec) -> dict[str, Any]:
    """`offline`: it needs nothing that is not on this machine; `needs`: else what, a package or a hub id."""
    from breakfix import assets

    known = assets.catalogue()
    missing = [known[name] for name in spec.files or {} if not _found(known[name])]
    needs = [f"package {a.package}" for a in missing if a.package]
    needs += [f"hub {a.hub.id}" for a in missing if a.hub and not a.package]
    return {
        "name": spec.name,
        "what": spec.doc,
        "n": spec.n,
        "split": spec.split.value,
        "measure": spec.measure,
        "source": spec.source,
        "licence": spec.licence,
        "offline": not missing,
        "needs": list(dict.fromkeys(needs)),
    }


def _found(asset: Any) -> bool:
    from breakfix import assets
    from breakfix.errors import AssetError

    try:
        assets.resolve_asset(asset, offline=True, progress=False)
    except AssetError:
        return False
    return True
