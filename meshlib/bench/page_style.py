"""How the report's page looks, and the little that it does: a tip below the pointer. Nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib

LIGHT = {
    "page": "#f7f7f4", "card": "#ffffff", "ink": "#1b1f23", "soft": "#545c65", "rule": "#d9dcd8", "note": "#fff4d6",
    "t0": "#08775a", "t1": "#2862b4", "t2": "#b4530c", "t3": "#7a49bd", "t4": "#b92f52", "t5": "#0c7688", "t6": "#78592f",
    "t7": "#667079",
}  # fmt: skip
DARK = {
    "page": "#131619", "card": "#1b1f24", "ink": "#e7eaed", "soft": "#a6aeb7", "rule": "#373d44", "note": "#3a3216",
    "t0": "#3fcb98", "t1": "#79aef8", "t2": "#f2a159", "t3": "#bd9cf9", "t4": "#fb8ba2", "t5": "#56c9db", "t6": "#cfae85",
    "t7": "#98a1ab",
}  # fmt: skip
"""Text stands on page, card and note at 4.5 : 1 at least, tones on card at 3 : 1 (WCAG AA); a test computes it."""


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())


_TONES = "".join(f".{n}{{--tone:var(--{n})}}" for n in (f"t{i}" for i in range(8)))

STYLE = (
    f":root{{color-scheme:light dark;{_variables(LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    + _TONES
    + """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink)}
body{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:2.5rem 1.25rem 5rem}
h1{font-size:2.1rem;line-height:1.2;letter-spacing:-.02em;margin:0 0 .4rem}
h2{font-size:1.5rem;letter-spacing:-.01em;margin:3.2rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--rule)}
h3{font-size:1.05rem;margin:0 0 .7rem}
p{margin:.4rem 0 1rem;max-width:46rem}
a{color:var(--t1)}
.soft{color:var(--soft)}
header p{color:var(--soft);margin:0}
nav{margin:1.4rem 0 0;display:flex;flex-wrap:wrap;gap:.4rem 1.2rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:1rem;margin:1.8rem 0}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:1.1rem 1.2rem;min-width:0}
.card .big{font-size:2rem;font-weight:650;line-height:1.15;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.card .big small{font-size:.95rem;font-weight:500;color:var(--soft);letter-spacing:0}
.card ul{list-style:none;margin:.5rem 0 0;padding:0;font-size:.9rem}
.card li{margin:.15rem 0}
.notes{background:var(--note);border:1px solid var(--rule);border-radius:10px;padding:1rem 1.2rem;margin:1.4rem 0}
.notes h2{border:0;padding:0;margin:0 0 .4rem;font-size:1.05rem}
.notes ul{margin:.3rem 0 0;padding-left:1.2rem}
.notes li{margin:.25rem 0;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:.6rem 1.4rem;margin:.8rem 0}
dt{color:var(--soft);font-size:.82rem}
dd{margin:0;font-size:.92rem;overflow-wrap:anywhere}
figure{margin:0 0 1.2rem;background:var(--card);border:1px solid var(--rule);border-radius:10px}
figure{padding:1.1rem 1.2rem;min-width:0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,34rem),1fr));gap:1.2rem;margin:1rem 0}
.figures figure{margin:0}
figcaption{font-weight:600;margin:0 0 .2rem}
figcaption+p{font-size:.88rem;color:var(--soft);margin:0 0 .7rem}
.scroll{overflow-x:auto;outline-offset:2px}
.plot{display:block;width:100%;min-width:26rem;height:auto;font-size:12px}
.plot text{fill:var(--soft);font-family:inherit}
.plot .name,.plot .value{fill:var(--ink)}
.plot .value{font-weight:600;font-variant-numeric:tabular-nums;paint-order:stroke;stroke:var(--card);stroke-width:4px}
.plot .unit{font-size:11.5px}
.grid{stroke:var(--rule);stroke-width:1}
.bar{fill:var(--tone);opacity:.78}
.round{fill:var(--ink);opacity:.45}
.whisker{stroke:var(--ink);stroke-width:1.5}
.line{fill:none;stroke:var(--tone);stroke-width:2;stroke-linejoin:round}
.dashed{stroke-dasharray:6 4}
.fit{fill:none;stroke:var(--tone);stroke-width:1.5;stroke-dasharray:2 3}
.error{stroke:var(--tone);stroke-width:1.5;opacity:.8}
.mark{fill:var(--tone);stroke:var(--card);stroke-width:1}
.t0.line{stroke-width:3}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.6rem 0 0;padding:0;font-size:.86rem}
.legend li{display:flex;align-items:center;gap:.45rem}
.swatch{flex:none}
.fits{list-style:none;margin:.6rem 0 0;padding:0;font-size:.84rem}
.legend~.scroll{margin-top:.8rem}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:0 0 .4rem;font-size:.84rem}
th,td{padding:.34rem .6rem;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap;vertical-align:top}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:13rem;padding-left:0}
td.text,th.text{text-align:left}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom}
tbody th{font-weight:500}
tr.ours th{font-weight:650;color:var(--t0)}
.worse{color:var(--t4)}
.better{color:var(--t0)}
details{margin:1rem 0;border-top:1px solid var(--rule);padding-top:.8rem}
summary{cursor:pointer;font-weight:600}
summary:focus-visible,.scroll:focus-visible,a:focus-visible{outline:2px solid var(--t1)}
#tip{position:fixed;z-index:2;pointer-events:none;background:var(--ink);color:var(--page)}
#tip{font-size:.82rem;line-height:1.35;padding:.35rem .6rem;border-radius:6px;max-width:20rem;visibility:hidden;left:0;top:0}
footer{margin-top:3rem;color:var(--soft);font-size:.88rem}
@media print{body{background:#fff}figure,.card{break-inside:avoid}details:not([open])>*{display:block}}
"""
)
SCRIPT = """
const tip=document.getElementById("tip");
document.addEventListener("pointermove",e=>{
const said=e.target.closest&&e.target.closest("[data-tip]");
if(!said){tip.style.visibility="hidden";return}
tip.textContent=said.dataset.tip;
const box=tip.getBoundingClientRect();
tip.style.left=Math.max(4,Math.min(e.clientX+14,innerWidth-box.width-8))+"px";
tip.style.top=(e.clientY+box.height+24<innerHeight?e.clientY+16:e.clientY-box.height-12)+"px";
tip.style.visibility="visible";
});
document.addEventListener("pointerleave",()=>{tip.style.visibility="hidden"});
"""
"""What a browser may run of the page, and nothing else: the policy names its hash, so that no text of a report can."""


def policy() -> str:
    """The page's Content-Security-Policy: no request goes anywhere."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    allowed = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"{allowed}; base-uri 'none'; form-action 'none'"
