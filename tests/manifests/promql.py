"""Finds the names in a PromQL expression, with just enough parsing for Seaway's expressions."""

import re

WORDS = {"and", "or", "unless", "offset", "bool", "by", "without", "on", "ignoring", "group_left", "group_right"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)?\s*\{([^}]*)\}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def metrics(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", _GROUPING.sub(" ", _STRING.sub(" ", expression)))
    return {*re.findall(r"(?<![\w.$])([a-zA-Z_:][\w:]*)\b(?!\s*\()", bare)} - WORDS


def matched_labels(expression: str) -> set[tuple[str, str]]:
    """Returns (metric, label) of every matcher in braces."""
    selectors = _SELECTOR.findall(_STRING.sub('""', expression))
    return {(metric, label) for metric, inside in selectors for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)}


def grouped_labels(expression: str) -> set[str]:
    return {label for inside in _GROUPING.findall(expression) for label in re.findall(r"\w+", inside)}
