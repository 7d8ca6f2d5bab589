"""The product page as HTML: no script, no external resource, everything from outside escaped."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from meshlib.demo.bookinfo.services.hop import Hop
from meshlib.demo.bookinfo.services.style import CSS

FLAG_TEXT = {
    "UH": "no healthy endpoint",
    "UF": "connection failed",
    "UO": "overflow: a pool limit was reached",
    "UT": "the route's timeout passed",
    "UC": "connection broken",
    "URX": "retries used up",
    "NR": "no route matched",
    "NC": "no such destination",
    "DI": "delay injected",
    "FI": "fault injected",
    "DC": "the caller's own timeout passed",
    "UPE": "the answer was not HTTP",
}

STARS_NOTE = {
    "v1": "reviews v1 asks nobody for ratings: no stars",
    "v2": "reviews v2 asks ratings: black stars",
    "v3": "reviews v3 asks ratings: red stars",
}


@dataclass(frozen=True, slots=True)
class PageData:
    """What one page shows: the two answers (None: failed) and how each was come by."""

    product: dict[str, Any]
    user: str
    pod: str
    version: str
    details: dict[str, Any] | None
    details_hops: list[Hop]
    reviews: dict[str, Any] | None
    reviews_hops: list[Hop]


def render(data: PageData) -> str:
    """The whole document."""
    title = escape(data.product["title"])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Bookinfo</title>
<link rel="icon" href="data:,">
<style>{CSS}</style>
</head>
<body>
<header class="top">
  <a class="brand" href="/productpage"><span class="mark" aria-hidden="true"></span>Bookinfo</a>
  {_session(data.user)}
</header>
<main>
  <section class="hero">
    <div class="cover" aria-hidden="true">
      <span class="cover-title">The<br>Comedy<br>of Errors</span>
      <span class="cover-twins"><i></i><i></i></span>
      <span class="cover-author">Shakespeare</span>
    </div>
    <div class="about">
      <p class="kicker">Book of the day</p>
      <h1>{title}</h1>
      <p class="summary">{escape(data.product["description"])}</p>
      {_details(data)}
    </div>
  </section>
  <div class="columns">
    <section class="reviews">
      <h2>Reviews {_version_badge(data.reviews)}</h2>
      {_reviews(data)}
    </section>
    <aside>
      <h2>How this page was served</h2>
      <ol class="hops">
        <li><b>productpage</b> <span class="pill">{escape(data.version)}</span>
          <small>pod {escape(data.pod)}{_for_user(data.user)}</small></li>
        {_hop_items(data)}
      </ol>
      <p class="hint">Reload to see the routes at work. Every call above went through meshlib, in process,
      as the YAML of the mesh says.</p>
    </aside>
  </div>
</main>
</body>
</html>
"""


def _session(user: str) -> str:
    if user:
        return (
            f'<form class="session" method="post" action="/logout"><span>Signed in as <b>{escape(user)}</b></span>'
            '<button type="submit">Sign out</button></form>'
        )
    return (
        '<form class="session" method="post" action="/login">'
        '<label class="sr" for="username">User name</label>'
        '<input id="username" name="username" placeholder="try jason" required maxlength="40"'
        ' pattern="[A-Za-z0-9][A-Za-z0-9._@\\-]*" autocomplete="username">'
        '<button type="submit">Sign in</button></form>'
    )


def _for_user(user: str) -> str:
    return f", header <code>end-user: {escape(user)}</code>" if user else ", nobody signed in"


def _details(data: PageData) -> str:
    if data.details is None:
        return _unavailable("Product details are currently unavailable.", data.details_hops)
    names = (
        ("author", "Author"),
        ("year", "Year"),
        ("type", "Binding"),
        ("pages", "Pages"),
        ("publisher", "Publisher"),
        ("language", "Language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    )
    items = "".join(
        f"<div><dt>{label}</dt><dd>{escape(str(data.details.get(key, '–')))}</dd></div>" for key, label in names
    )
    return f'<dl class="facts">{items}</dl>'


def _version_badge(reviews: dict[str, Any] | None) -> str:
    if reviews is None:
        return ""
    version = escape(str(reviews.get("version", "")))
    return f'<span class="pill {version}">reviews {version}</span>'


def _reviews(data: PageData) -> str:
    if data.reviews is None:
        return _unavailable("Product reviews are currently unavailable for this book.", data.reviews_hops)
    cards = "".join(_card(review) for review in data.reviews.get("reviews", []))
    version = str(data.reviews.get("version", ""))
    note = escape(STARS_NOTE.get(version, ""))
    lost = ""
    hop = data.reviews.get("mesh")
    if isinstance(hop, dict) and (hop.get("status") != 200 or hop.get("error")):
        lost = _box("Ratings service is currently unavailable", [_reason(hop)], mild=True)
    pod = escape(str(data.reviews.get("podname", "")))
    return f'{lost}{cards}<p class="served">Served by pod <b>{pod}</b>. {note}.</p>'


def _card(review: dict[str, Any]) -> str:
    who = escape(str(review.get("reviewer", "")))
    text = escape(str(review.get("text", "")))
    return (
        f'<article class="card"><p class="quote">{text}</p>'
        f"<footer><b>{who}</b>{_stars(review.get('rating'))}</footer></article>"
    )


def _stars(rating: Any) -> str:
    if not isinstance(rating, dict):
        return ""
    if "stars" not in rating:
        return f'<span class="lost">{escape(str(rating.get("error", "")))}</span>'
    full = max(0, min(5, int(rating["stars"])))
    color = "red" if rating.get("color") == "red" else "black"
    empty = f'<span class="empty">{"★" * (5 - full)}</span>' if full < 5 else ""
    return f'<span class="stars {color}" role="img" aria-label="{full} of 5 {color} stars">{"★" * full}{empty}</span>'


def _unavailable(what: str, hops: list[Hop]) -> str:
    return _box(what, [_reason(hop.to_dict()) for hop in hops])


def _box(title: str, reasons: list[str], mild: bool = False) -> str:
    lines = "".join(f"<li>{reason}</li>" for reason in reasons)
    kind = "box mild" if mild else "box"
    return f'<div class="{kind}" role="status"><p><b>{escape(title)}</b></p><ul>{lines}</ul></div>'


def _reason(hop: dict[str, Any]) -> str:
    """Why a call failed, in the mesh's words: status, flags spelled out, the rule that was followed."""
    status = hop.get("status")
    flags = [f for f in str(hop.get("flags") or "").split(",") if f]
    spelled = ", ".join(f"{flag} ({FLAG_TEXT[flag]})" if flag in FLAG_TEXT else flag for flag in flags)
    parts = [f"answered {status}" if status else f"no answer after {float(hop.get('ms') or 0) / 1000:.1f} s", spelled]
    if not spelled:
        parts.append(str(hop.get("error") or ""))
    parts.append(_rule(hop))
    text = "; ".join(part for part in parts if part)
    return f"<b>{escape(str(hop.get('service', '')))}</b> {escape(text)}"


def _rule(hop: dict[str, Any]) -> str:
    resource = str(hop.get("resource") or "")
    rule = hop.get("rule")
    if not resource:
        return "default route" if rule is not None else ""
    return resource if rule is None else f"{resource} http[{rule}]"


def _hop_items(data: PageData) -> str:
    hops = [hop.to_dict() for hop in (*data.details_hops, *data.reviews_hops)]
    items = "".join(_hop_item(hop) for hop in hops)
    inner = (data.reviews or {}).get("mesh")
    return items + (_hop_item(inner, nested=True) if isinstance(inner, dict) else "")


def _hop_item(hop: dict[str, Any], nested: bool = False) -> str:
    ok = hop.get("status") == 200 and not hop.get("error")
    kind = ("nested " if nested else "") + ("ok" if ok else "bad")
    subset = str(hop.get("subset") or "")
    status = str(hop.get("status") or "no answer")
    facts = [_rule(hop), str(hop.get("endpoint") or "")]
    if (hop.get("attempts") or 0) > 1:
        facts.append(f"{hop['attempts']} attempts")
    if hop.get("flags"):
        facts.append(f"flags {hop['flags']}")
    facts.append(f"{float(hop.get('ms') or 0):,.0f} ms")
    pill = f' <span class="pill {escape(subset)}">{escape(subset)}</span>' if subset else ""
    return (
        f'<li class="{kind}"><b>{escape(str(hop.get("service", "")))}</b>{pill}'
        f' <span class="code">{escape(status)}</span><small>{escape(" · ".join(f for f in facts if f))}</small></li>'
    )
