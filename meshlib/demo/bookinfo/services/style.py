"""The page's style sheet, inline so that the page needs nothing but itself."""

from __future__ import annotations

CSS = """
:root{--ink:#1d2733;--soft:#5c6875;--line:#e4dfd5;--paper:#faf7f1;--card:#fff;--accent:#7a2e3a;--teal:#0f6b66;--red:#c8102e}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 ui-sans-serif,system-ui,"Segoe UI",Roboto,
"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
h1,h2,.cover,.quote{font-family:"Iowan Old Style","Palatino Linotype",Palatino,Georgia,"DejaVu Serif",serif}
h1{font-size:2.7rem;line-height:1.08;margin:.1em 0 .35em;letter-spacing:-.01em}
h2{font-size:1.35rem;margin:0 0 .9rem;display:flex;align-items:center;gap:.6rem}
.top{display:flex;justify-content:space-between;align-items:center;gap:1rem;flex-wrap:wrap;padding:.8rem clamp(1rem,4vw,3rem);
background:#fff;border-bottom:1px solid var(--line)}
.brand{display:flex;align-items:center;gap:.6rem;color:var(--ink);font-weight:700;text-decoration:none;font-size:1.1rem}
.mark{width:1.15rem;height:1.4rem;border-radius:2px 5px 5px 2px;background:linear-gradient(90deg,#51202a 18%,var(--accent) 18%)}
.session{display:flex;gap:.5rem;align-items:center;font-size:.94rem;color:var(--soft)}
.session b{color:var(--ink)}
input{font:inherit;padding:.38rem .7rem;border:1px solid #cfc8ba;border-radius:8px;width:9.5rem;background:#fff}
button{font:inherit;font-weight:600;padding:.38rem .95rem;border:0;border-radius:8px;
background:var(--ink);color:#fff;cursor:pointer}
button:hover{background:#33414f}
input:focus-visible,button:focus-visible,a:focus-visible{outline:3px solid #d9a441;outline-offset:2px}
main{max-width:1120px;margin:0 auto;padding:2.2rem clamp(1rem,4vw,2rem) 3rem}
.hero{display:grid;grid-template-columns:210px 1fr;gap:2.4rem;align-items:start;margin-bottom:2.4rem}
.cover{position:relative;aspect-ratio:5/7.4;border-radius:4px 10px 10px 4px;color:#f7ead7;padding:1.4rem 1.2rem 1.1rem 1.7rem;
display:flex;flex-direction:column;justify-content:space-between;
background:linear-gradient(90deg,rgba(0,0,0,.34) 0 5px,rgba(255,255,255,.12) 5px 8px,transparent 8px),
linear-gradient(150deg,#8d3745,#5a1f2b);box-shadow:0 18px 34px -14px rgba(60,20,28,.6),0 2px 4px rgba(0,0,0,.14)}
.cover-title{font-size:1.62rem;line-height:1.12}
.cover-twins{display:flex;justify-content:center;gap:0}
.cover-twins i{width:4.1rem;height:4.1rem;border-radius:50%;border:2px solid #e9c98f}
.cover-twins i+i{margin-left:-1.5rem;background:rgba(233,201,143,.2)}
.cover-author{font-size:.86rem;letter-spacing:.14em;text-transform:uppercase;color:#e9c98f}
.kicker{margin:0;color:var(--accent);font-weight:700;font-size:.8rem;letter-spacing:.12em;text-transform:uppercase}
.summary{margin:0 0 1.3rem;font-size:1.06rem;max-width:62ch;color:#36424f}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:0 1.2rem;margin:0;
border-top:1px solid var(--line)}
.facts div{padding:.55rem 0;border-bottom:1px solid var(--line)}
dt{font-size:.76rem;color:var(--soft);text-transform:uppercase;letter-spacing:.06em}
dd{margin:0;font-weight:600}
.columns{display:grid;grid-template-columns:minmax(0,1fr) 350px;gap:2rem;align-items:start}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.25rem 1.4rem;margin-bottom:1rem;
box-shadow:0 1px 2px rgba(30,25,15,.05)}
.quote{margin:0 0 .9rem;font-size:1.13rem}
.quote::before{content:"\\201C"}.quote::after{content:"\\201D"}
.card footer{display:flex;justify-content:space-between;align-items:center;gap:1rem;color:var(--soft);flex-wrap:wrap}
.stars{font-size:1.75rem;line-height:1;letter-spacing:.08em}
.stars.black{color:#111}.stars.red{color:var(--red)}.stars .empty{color:#ddd7ca}
.lost{font-size:.9rem;color:#8a5a00}
.pill{font:600 .78rem/1 ui-sans-serif,system-ui,"DejaVu Sans",sans-serif;background:#ece7dc;color:#47515c;border-radius:99px;
padding:.32em .75em;white-space:nowrap}
.pill.v2{background:#1d2733;color:#fff}.pill.v3{background:var(--red);color:#fff}
.served{color:var(--soft);font-size:.94rem;margin:.2rem 0 0}
.box{background:#fdecec;border:1px solid #efb9b9;border-left:5px solid var(--red);border-radius:10px;padding:.9rem 1.1rem;
margin:0 0 1rem}
.box.mild{background:#fff6e0;border-color:#ecd79c;border-left-color:#d79b14}
.box p{margin:0}.box ul{margin:.35rem 0 0;padding-left:1.1rem;font-size:.93rem;color:#4b4038;overflow-wrap:anywhere}
aside{background:#fff;border:1px solid var(--line);border-radius:14px;padding:1.25rem 1.3rem}
aside h2{font-size:1.1rem}
.hops{list-style:none;margin:0;padding:0 0 0 1.1rem;border-left:2px solid var(--line)}
.hops li{position:relative;padding:0 0 .95rem}
.hops li::before{content:"";position:absolute;left:-1.5rem;top:.45rem;width:.62rem;height:.62rem;border-radius:50%;
background:#b9b2a3;border:2px solid #fff}
.hops li.ok::before{background:var(--teal)}.hops li.bad::before{background:var(--red)}
.hops li.nested{margin-left:1.1rem}.hops li.nested::before{left:-1.25rem}
.hops small{display:block;color:var(--soft);overflow-wrap:anywhere;line-height:1.4}
.code{font-size:.82rem;font-weight:600;color:var(--teal)}.bad .code{color:var(--red)}
code{font-size:.92em}
.hint{margin:.3rem 0 0;font-size:.88rem;color:var(--soft)}
.sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
@media(max-width:860px){.columns{grid-template-columns:1fr}.hero{grid-template-columns:130px 1fr;gap:1.3rem}
.cover{padding:.8rem .6rem .7rem 1rem}.cover-title{font-size:1.05rem}.cover-twins i{width:2.4rem;height:2.4rem}
.cover-author{font-size:.6rem}h1{font-size:2rem}}
@media(max-width:560px){.hero{grid-template-columns:1fr}.cover{width:150px}}
"""
