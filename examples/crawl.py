"""Read every page of a site, each in the way that its kind wants, and add up what was found.

    uv run examples/crawl.py

The map over URLs, the accumulator and the router by which Tensorlake documents its workflows, as
one pipeline of plait.

What to look at:

- `crawl`, the whole job in a few lines. The list that `find_urls` returns becomes one execution a
  URL, four at a time. The reduce folds while the map still runs: the results are never all held.
- `by_kind` takes the route that `kind_of` names. A kind that has none goes to `skip`.
- `whom_to_tell` names one route, or several that are taken at the same time.
- What is printed first: a workflow can say what it is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio
from pydantic import BaseModel

from plait import MapPrimitive, ReducePrimitive, RouterPrimitive, step

SITES = {
    "https://plait.test": {
        "/": ("html", "three strands make a plait"),
        "/logo": ("png", "0101"),
        "/steps": ("html", "a step is a function"),
        "/old": ("missing", ""),
        "/feed": ("rss", "<rss/>"),
    },
    "https://small.test": {"/": ("html", "hello")},
}


@dataclass(frozen=True)
class Page:
    url: str
    kind: str
    body: str


class Totals(BaseModel):
    words: int = 0
    pictures: int = 0
    missing: list[str] = []


@step
def find_urls(site: str) -> list[str]:
    return [site + path for path in SITES[site]]


@step
async def fetch(url: str) -> Page:
    await anyio.sleep(0.02)
    site, path = url[: url.rindex("/")], url[url.rindex("/") :]
    return Page(url, *SITES[site][path])


@step
def count_words(page: Page) -> Totals:
    return Totals(words=len(page.body.split()))


@step
def count_picture(_: Page) -> Totals:
    return Totals(pictures=1)


@step
def note_missing(page: Page) -> Totals:
    return Totals(missing=[page.url])


@step
def skip(_: Page) -> Totals:
    return Totals()


def kind_of(page: Page) -> str:
    return page.kind


def accumulate(totals: Totals, found: Totals) -> Totals:
    totals.words += found.words
    totals.pictures += found.pictures
    totals.missing += found.missing
    return totals


@step
async def write_log(totals: Totals) -> str:
    return f"{totals.words} words, {totals.pictures} pictures"


@step
async def mail_editor(totals: Totals) -> str:
    return f"please look at {', '.join(totals.missing)}"


def whom_to_tell(totals: Totals) -> list[str]:
    return ["log", "editor"] if totals.missing else ["log"]


by_kind = RouterPrimitive(
    {"html": count_words, "png": count_picture, "missing": note_missing, "other": skip},
    kind_of,
    default="other",
)
read_page = (fetch >> by_kind).named("read_page")
crawl = (
    find_urls
    >> MapPrimitive(read_page, max_concurrency=4)
    >> ReducePrimitive(accumulate, Totals())
    >> RouterPrimitive({"log": write_log, "editor": mail_editor}, whom_to_tell)
).named("crawl")


async def main() -> None:
    print(crawl, *crawl.children, by_kind, sep="\n  ", end="\n\n")
    for site in SITES:
        print(f"{site}: {await crawl(site)}")


if __name__ == "__main__":
    anyio.run(main)
