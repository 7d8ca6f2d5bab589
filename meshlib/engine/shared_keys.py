"""Instances that have attributes and no dictionary each.

CPython keeps the attributes of instances of a class side by side, as long as they are among some thirty names, which it learns
from the first few dozen instances. A name that comes later, as what tells how a call ended does where many calls begin at
once, makes a dictionary for each instance that gets it, and all of its attributes slower to reach.
"""

from __future__ import annotations

from types import FunctionType
from typing import TypeVar

_OF_THE_CLASS = (FunctionType, property, classmethod, staticmethod)
T = TypeVar("T")


def share_keys(made: type[T]) -> type[T]:
    """Decorator of a class without slots, whose attributes stand there with what they are at first: have them known before its
    first instance. Changes nothing else."""
    first = made.__new__(made)
    for each in made.__mro__:
        for name, value in vars(each).items():
            if not name.startswith("__") and not isinstance(value, _OF_THE_CLASS):
                setattr(first, name, value)
    return made
