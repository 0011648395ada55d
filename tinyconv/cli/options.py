"""What the options of all verbs share: rules of their values, and what to say of a wrong one."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from typing import Any

from tinyconv.arguments import Number, Rule
from tinyconv.messages import hint
from tinyconv.spellings import OTHER_ARGUMENTS

WHOLE = Number(whole=True)
PLACE, COUNT = Number(whole=True, least=0), Number(whole=True, least=1)


@dataclass
class Verbs:
    """What a verb adds itself to."""

    actions: Any  #: argparse's
    shared: argparse.ArgumentParser  #: the options that all have

    def add(
        self, name: str, run: Callable[[argparse.Namespace], int], help: str, about: str = ""
    ) -> Any:
        """Return the parser of a verb, which then gets its arguments; ``run`` says what it does."""
        about = about or run.__doc__ or help
        verb = self.actions.add_parser(name, parents=[self.shared], help=help, description=about)
        verb.set_defaults(run=run)
        return verb


def taken_by(rule: Rule) -> Callable[[str], Any]:
    """Return what argparse makes of the text of an option that a rule is to take.

    >>> taken_by(Number(whole=True, least=1))("0")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: '0', expected an integer of at least 1
    """

    def take(text: str) -> Any:
        try:
            return rule.take(_number(text) if isinstance(rule, Number) else text)
        except ValueError as more:
            raise argparse.ArgumentTypeError(f"{text!r}, expected {rule.expected}{more}") from None

    return take


def _number(text: str) -> float:
    """Return the number that a text is, NaN for none."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return nan


class Parser(argparse.ArgumentParser):
    """Names the verb or the option that a wrong one was probably meant to be."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is unknown here, where it is known what is not."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [name.strip("-") for name in self._option_string_actions]
            wanted = unknown[0].partition("=")[0].strip("-").replace("-", "_")
            ours = [name for name in OTHER_ARGUMENTS.get(wanted, ()) if name in known]
            near = f"; it is called --{ours[0]} here" if ours else hint(wanted, known)
            self.error(f"there is no argument {unknown[0]}{near}")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += hint(value, map(str, action.choices or ()))
            raise
