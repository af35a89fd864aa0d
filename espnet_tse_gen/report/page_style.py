"""Style, script and request policy of the report page, kept in the page so that its folder needs nothing else."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5c6570; --line: #d5dae0; --card: #f5f7f9; --page: #ffffff;
  --accent: #0b62a8; --head: #e9edf1; --shade: #0003; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3adb8; --line: #3a424b; --card: #1e2328;
  --page: #14181b; --accent: #7cbcf5; --head: #262c32; --shade: #fff4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 80rem; padding: 1rem clamp(0.75rem, 3vw, 2rem) 3rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 0.5rem; border-bottom: 1px solid var(--line); padding-bottom: 0.25rem; }
h3 { font-size: 1.1rem; margin: 1.5rem 0 0.5rem; }
h4 { font-size: 0.95rem; margin: 0 0 0.5rem; overflow-wrap: anywhere; }
h5 { font-size: 0.95rem; margin: 1rem 0 0.4rem; font-weight: 600; }
p { margin: 0.4rem 0; max-width: 60rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.soft, .detail { color: var(--soft); font-size: 0.85rem; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 0.5rem; background: var(--page); padding: 0.5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; padding: 0; margin: 0.75rem 0; list-style: none; }
nav a { display: inline-block; padding: 0.35rem 0; }
/* A shadow at an edge beyond which there is more; the first two backgrounds move with the content and cover it. */
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px;
  background: linear-gradient(to right, var(--page) 30%, transparent) left / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--page) 30%, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / 0.9rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / 0.9rem 100% no-repeat scroll; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.4rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody:last-child tr:last-child > * { border-bottom: 0; }
thead th { background: var(--head); vertical-align: bottom; font-weight: 600; }
.label { text-align: left; }
.short { white-space: nowrap; }
tbody .label { font-weight: 400; font-size: 0.85rem; }
tbody .label:not(.short) { min-width: 10.5rem; }
tbody th.group { position: static; text-align: left; font-weight: 600; background: var(--card); }
.group span { position: sticky; left: 0.6rem; }
th:first-child { position: sticky; left: 0; background: var(--page); z-index: 1; }
thead th:first-child { background: var(--head); }
td { white-space: nowrap; }
td .detail { display: block; font-size: 0.75rem; }
.case { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.9rem;
  margin: 0 0 1.25rem; }
.case h4 { font-family: ui-monospace, monospace; font-weight: 600; }
.clips { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0.9rem 0.7rem; }
.clips figcaption { font-size: 0.85rem; line-height: 1.35; }
.clips figcaption .soft { font-size: 0.8rem; }
.listen table { table-layout: fixed; }
.listen th, .listen td { text-align: left; vertical-align: middle; padding: 0.35rem 0.5rem; }
.listen thead th { vertical-align: bottom; overflow-wrap: anywhere; }
.listen thead th:first-child { width: 8.5rem; }
.listen tbody > tr > * { border-bottom: 1px solid var(--line); }
.listen tbody:last-child tr:last-child > *, .listen tbody:last-child td[rowspan] { border-bottom: 0; }
.listen tbody th { font-weight: 400; font-size: 0.85rem; }
.listen tbody .key { position: static; background: var(--card); font-size: 0.9rem; overflow-wrap: anywhere; }
.key a { font-family: ui-monospace, monospace; font-weight: 600; margin-right: 0.5rem; }
.key .soft { display: inline-block; }
.listen audio { display: block; width: 100%; height: 2.25rem; }
/* Room for the time line in narrow places; the device has a volume control. */
audio::-webkit-media-controls-volume-control-container, audio::-webkit-media-controls-mute-button { display: none; }
.name { display: none; }
.case:target { border-color: var(--accent); }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 0.9rem; font-weight: 600; overflow-wrap: anywhere; }
figcaption .soft { font-weight: 400; display: flex; flex-wrap: wrap; gap: 0 0.75rem; min-height: 1.3em; }
figcaption .soft span { white-space: nowrap; }
img { display: block; max-width: 100%; }
.clips img { width: 100%; height: auto; aspect-ratio: 5 / 2; border-radius: 4px 4px 0 0; }
.clips audio { display: block; width: 100%; height: 2.5rem; margin-top: 0.25rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1.5rem 1rem; }
.curves img { height: auto; background: #ffffff; border-radius: 6px; }
details { margin: 0.75rem 0; }
summary { cursor: pointer; padding: 0.35rem 0; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem; margin: 0.5rem 0; font-size: 0.85rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 46rem) {
  .listen { border: 0; background: none; }
  .listen table, .listen tbody, .listen tr, .listen th, .listen td { display: block; width: 100%;
    min-width: 0 !important; border: 0 !important; }
  .listen thead { display: none; }
  .listen tbody { border: 1px solid var(--line); border-radius: 6px; margin-bottom: 1rem; overflow: hidden; }
  .listen th:first-child { position: static; }
  .listen tbody th:not(.key) { font-weight: 600; padding-top: 0.75rem; }
  .listen td { display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 0.5rem; align-items: center;
    white-space: normal; }
  .listen .none { display: none; }
  .name { display: block; font-size: 0.85rem; overflow-wrap: anywhere; }
}
@media (max-width: 34rem) {
  .clips { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 0.4rem; }
  .case { padding: 0.7rem; }
}
@media print { audio, nav { display: none; } .case { break-inside: avoid; } }
"""

# Files beside the page, and nothing from anywhere else; "file:" is for browsers that do not count them as "self".
POLICY = (
    "default-src 'none'; img-src 'self' file: data:; media-src 'self' file:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

# Starting one recording stops the others, and those played long ago are unloaded, so that a page of hundreds
# stays light on a phone. The page works without it.
SCRIPT = """
var recent = [];
document.addEventListener("play", function (event) {
  var now = event.target;
  document.querySelectorAll("audio").forEach(function (audio) { if (audio !== now) { audio.pause(); } });
  recent = recent.filter(function (audio) { return audio !== now; });
  recent.push(now);
  while (recent.length > 16) { recent.shift().load(); }
}, true);
"""
