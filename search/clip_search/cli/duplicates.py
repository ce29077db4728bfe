"""``search duplicates``: groups of pictures that are nearly the same."""

import argparse
import json

from clip_client.counting import counted
from clip_client.progress_bars import say
from clip_client.search import Group, Hit, Search
from clip_client.terminal import print_table
from clip_search.cli import hit_output
from clip_search.cli.commands import client

_PAGE = 200  # groups of a request, at most


def duplicates(arguments: argparse.Namespace) -> int:
    """Print groups, the largest first, or the paths of what each has beside its first picture."""
    with client(arguments) as search:
        groups, checked, more = _groups(search, arguments)
    others = [hit for group in groups for hit in group.hits[1:]]
    if arguments.json:
        listed = [{"size": group.size, "rows": [vars(hit) for hit in group.hits]} for group in groups]
        print(json.dumps({"groups": listed, "more": more, "checked": checked}))
    elif arguments.null or arguments.files_only:
        hit_output.show_paths(_spare(groups), null=arguments.null)
    elif groups:
        rows = [(str(n), *hit_output.cells(hit)) for n, group in enumerate(groups, 1) for hit in group.hits]
        print_table(("group", *hit_output.HEADING), rows, figures=("group", "score"))
    _sum_up(groups, others, checked, more)
    return 0


def _groups(search: Search, arguments: argparse.Namespace) -> tuple[list[Group], int, bool]:
    """Return as many groups as are wanted, the number of pictures that were compared, and if there are more groups."""
    groups: list[Group] = []
    while True:
        limit = _PAGE if arguments.limit is None else min(_PAGE, arguments.limit - len(groups))
        page = search.duplicates(
            arguments.collection,
            threshold=arguments.threshold,
            where=arguments.filter,
            limit=limit,
            offset=len(groups),
        )
        groups += page.groups
        if not page.more or not page.groups or len(groups) == arguments.limit:
            return groups, page.checked, page.more


def _spare(groups: list[Group]) -> list[Hit]:
    """Return what groups have beside their first pictures, each file once; a second row of the first's own file isn't spare."""
    spare: dict[str, Hit] = {}
    for group in groups:
        kept, *others = group.hits
        spare |= {hit.source or hit.id: hit for hit in others if not hit.source or hit.source != kept.source}
    return [*spare.values()]


def _sum_up(groups: list[Group], others: list[Hit], checked: int, more: bool) -> None:
    """Print what was compared and found, and what isn't listed, on standard error."""
    found = counted(len(groups), "group") if groups else "no two are as near"
    follow = "; more groups follow: raise --limit" if more else ""
    say(f"{counted(checked, 'picture')} compared: {found}{follow}")
    if hidden := sum(group.size - 1 for group in groups) - len(others):
        say(f"{counted(hidden, 'picture')} of large groups not listed: delete some of those that are, and ask again")
