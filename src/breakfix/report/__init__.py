"""The report: ledger → one JSON document → terminal table, JSON file, one self-contained HTML file, Markdown, SVG.

    document = build(ledger)                    # plain JSON values; schema: data/report.schema.json
    render(document, Console(), html=path)      # a table, plain text where there is no terminal
    path.write_text(page(document), encoding="utf-8")

How much is shown of what was asked and said is decided in `build`, when the document is made: what is not in the
document can't leak from any file made of it. `facts()` is recorded by whoever starts a run (see facts.py).
"""

from breakfix.report.document import build, schema, to_json
from breakfix.report.facts import facts
from breakfix.report.html import page
from breakfix.report.markdown import markdown
from breakfix.report.picture import picture
from breakfix.report.redaction import Redaction, redacted
from breakfix.report.terminal import render

__all__ = ["Redaction", "build", "facts", "markdown", "page", "picture", "redacted", "render", "schema", "to_json"]
