"""Print the result table that the demo made, and where its recordings and report are."""

import sys
from pathlib import Path

exp = Path(sys.argv[1])
tables = sorted(exp.glob("*/RESULTS.md"), key=lambda path: path.stat().st_mtime)
if not tables:
    sys.exit(f"{exp}: holds no RESULTS.md; run make demo without --stop_stage")
model = tables[-1].parent
print(tables[-1].read_text(encoding="utf-8"))
print(f"Result table    {tables[-1]}")
print(f"All scores      {model / 'scores.csv'}")
print(f"Report          {model / 'report' / 'index.html'}")
for folder in sorted(exp.glob("*/decode_*/*/wavs")):
    print(f"Extracted       {folder}")
