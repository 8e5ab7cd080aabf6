"""YAML as settings need it: plain values, of bounded size and depth, read in bounded time and memory.

Anchors, aliases and tags are refused, since they make a short text a large tree or another type. Dates are text.
"""

from typing import Any, ClassVar, cast

import yaml

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000
MOST_DEPTH = 32
LONGEST_NUMBER = 40  # characters
_SHOWN = 200  # characters of what a parser has to say
_TAGS = "tag:yaml.org,2002:"

# The same in C, where PyYAML was built with it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Dumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Plain(_Loader):  # pyright: ignore[reportGeneralTypeIssues]
    """Keys are text as it stands; the same one twice, of which YAML would silently drop the first, is refused."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAGS}timestamp"]
        for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key is not a single word", key.start_mark)
            if key.value in found:
                raise _refusal(f"the key '{key.value[:_SHOWN]}' stands twice", key.start_mark)
            found[key.value] = self.construct_object(value, deep=True)
        return found

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if len(node.value) > LONGEST_NUMBER:
            raise _refusal(f"a number has {len(node.value):,} characters", node.start_mark)
        read = self.construct_yaml_int if node.tag == f"{_TAGS}int" else self.construct_yaml_float
        return read(node)


for _tag in ("int", "float"):
    _Plain.add_constructor(f"{_TAGS}{_tag}", _Plain.construct_number)


def parse_plain(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: It is not YAML, or more than plain values: says what is wrong and where, in one line.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("it holds characters that are not Unicode") from None
    if size > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes, and at most {MOST_BYTES:,} are read")
    try:
        _check_events(text)
        return yaml.load(text, cast(Any, _Plain))
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ValueError(where + " ".join(str(problem or error).split())[:_SHOWN]) from None
    except (ValueError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())[:_SHOWN]) from None


def _check_events(text: str) -> None:
    """Refuse by the stream of tokens, before anything is built, what is no plain tree of bounded size."""
    depth = values = 0
    for event in yaml.parse(text, cast(Any, _Loader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refusal("anchors and aliases (& and *) are not read: write the value out, or quote it", event)
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags (!) are not read: leave the tag out, or quote the value", event)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.NodeEvent)
        if depth > MOST_DEPTH:
            raise _refusal(f"it is nested more than {MOST_DEPTH} deep", event)
        if values > MOST_VALUES:
            raise _refusal(f"it holds more than {MOST_VALUES:,} values", event)


def _refusal(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=getattr(place, "start_mark", place))
