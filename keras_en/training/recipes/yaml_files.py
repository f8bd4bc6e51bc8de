"""YAML as recipes have it: safe, without a key twice, with errors in one line."""

from pathlib import Path
from typing import Any

from keras_en.arguments import check_installed, fault, require
from keras_en.text import one_line

_MOST_VALUES = 100_000


def read(path: Path, where: str) -> dict[str, Any]:
    """The mapping that a file holds.

    Args:
        path: `pathlib.Path`.
        where: The first words of an error.

    Raises:
        ValueError: There is no file, or none that can be read; it is no YAML, or no
            mapping from texts.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        what = f"be a YAML file that can be read: {reason}"
        raise fault(where, what, path) from None
    values = parse(text, where)
    kind = type(values).__name__
    require(isinstance(values, dict), where, "be a mapping from keys", kind)
    return values


def parse(text: str, where: str) -> Any:
    """What a text in YAML says.

    Raises:
        ValueError: It is none, or a mapping has a key twice.
    """
    check_installed("A recipe", ["yaml"], "train")
    import yaml

    class Loader(yaml.SafeLoader):
        """`yaml.safe_load`, which takes the last of two values of a key."""

        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(pair[0], deep=True) for pair in node.value]
            for i, name in enumerate(keys):
                if not isinstance(name, str) or name in keys[:i]:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {name!r} is no text, or is there twice",
                        problem_mark=node.value[i][0].start_mark,
                    )
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(text, Loader)
        _check_size(values)
        return values
    except Exception as error:  # A tag with a wrong text raises whatever it meets.
        lines, mark = text.splitlines(), getattr(error, "problem_mark", None)
        reason = one_line(getattr(error, "problem", None) or error, limit=200)
        received = repr(text[:60])
        if mark and mark.line < len(lines):
            received = f"{lines[mark.line][:60]!r}, line {mark.line + 1}"
        raise fault(where, f"be YAML: {reason}", received) from None


def _check_size(values):
    """Raises where aliases make a few lines a mapping without end."""
    count, waiting = 0, [values]
    while waiting:
        value, count = waiting.pop(), count + 1
        if count > _MOST_VALUES:
            raise ValueError(f"aliases make it more than {_MOST_VALUES:,} values")
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value


def dump(values: Any) -> str:
    """The text of a mapping; tuples become lists."""
    check_installed("A recipe", ["yaml"], "train")
    import yaml

    class Dumper(yaml.SafeDumper):
        """Without the marks of a value that is there twice."""

        def ignore_aliases(self, data):
            return True

    return yaml.dump(
        values, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=80
    )
