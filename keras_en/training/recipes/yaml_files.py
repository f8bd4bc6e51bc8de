"""YAML as recipes have it: safe, without a key twice, with errors in one line."""

from pathlib import Path
from typing import Any

from keras_en.arguments import check_installed
from keras_en.text import one_line


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
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ValueError(
            f"{where} must be a YAML file that can be read: {reason}. Received: {path}"
        ) from None
    values = parse(text, where)
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise ValueError(f"{where} must be a mapping from keys. Received: {kind}")
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
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = one_line(getattr(error, "problem", None) or error, limit=200)
        raise ValueError(
            f"{where} must be YAML: {reason}. "
            f"Received: {text.splitlines()[mark.line][:60]!r}{place}"
            if mark and mark.line < len(text.splitlines())
            else f"{where} must be YAML: {reason}. Received: {text[:60]!r}"
        ) from None


def dump(values: Any) -> str:
    """The text of a mapping; tuples become lists."""
    check_installed("A recipe", ["yaml"], "train")
    import yaml

    class Dumper(yaml.SafeDumper):
        """Without the marks of a value that is there twice."""

        def ignore_aliases(self, data):
            return True

    def as_list(dumper, value):
        return dumper.represent_list(list(value))

    Dumper.add_representer(tuple, as_list)
    return yaml.dump(
        values, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=80
    )
