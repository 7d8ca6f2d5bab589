"""Parser events to documents, for the texts that nearly all are: ``Builder.run`` without a note of where everything is."""

from __future__ import annotations

from typing import Protocol

import yaml

from meshlib.pace import take_turns
from meshlib.resources.plain_tree import NotPlain, Plain, PlainTree
from meshlib.resources.yaml_scalars import BadNumberError, plain_scalar


class Events(Protocol):
    """A parser."""

    def get_event(self) -> yaml.Event | None:
        """The next event, None after the last."""
        ...


def read_plain(events: Events, budget: int) -> tuple[list[Plain], int]:
    """The documents of a piece, and how many nodes they have. Raises NotPlain, and what the parser raises."""
    found: list[Plain] = []
    get_event = events.get_event
    tree = PlainTree()
    turn = nodes = 0
    while (event := get_event()) is not None:
        turn += 1
        if not turn & 31:
            take_turns()
        kind = type(event)  # once, for it is asked of every event
        if kind is yaml.ScalarEvent:
            _scalar(event, tree)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            assert isinstance(event, yaml.CollectionStartEvent)
            mark = event.start_mark
            if event.anchor is not None or event.tag is not None or mark is None or nodes + tree.nodes >= budget:
                raise NotPlain
            if kind is yaml.MappingStartEvent:
                tree.open_map(mark.line, mark.column)
            else:
                tree.open_list(mark.line, mark.column)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            tree.close()
        elif kind is yaml.AliasEvent:
            raise NotPlain
        elif kind is yaml.DocumentEndEvent:
            nodes += tree.nodes
            if nodes > budget:
                raise NotPlain
            document = tree.end()
            if document is not None:
                found.append(document)
            tree = PlainTree()
    return found, nodes


def _scalar(event: yaml.Event, tree: PlainTree) -> None:
    assert isinstance(event, yaml.ScalarEvent)
    mark = event.start_mark
    if event.anchor is not None or event.tag is not None or mark is None:
        raise NotPlain
    text, unquoted = event.value, event.implicit[0]
    if tree.fields is None or tree.key is not None:
        tree.add(scalar_of(text) if unquoted else text, mark.line, mark.column)
    else:
        tree.name(text, unquoted=unquoted)


def scalar_of(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar. Raises NotPlain."""
    try:
        return plain_scalar(text)
    except BadNumberError as error:
        raise NotPlain from error
