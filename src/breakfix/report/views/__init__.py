"""What the HTML page shows, worked out from the document: tiles, points of charts, rows of tables. No HTML in here."""
