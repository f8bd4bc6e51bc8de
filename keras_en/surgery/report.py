"""What became of the layers of a network."""

from typing import NamedTuple


class Report(NamedTuple):
    """What became of the layers of a network; keys are paths of names.

    >>> print(Report({"block/bn": "A -> B"}, {"conv": 2}, {}, {}, {}))
    1 layers replaced, 1 copied, 0 normalizations left
      replaced block/bn: A -> B

    - `replaced`: from each normalization that was replaced, to what, and what of it
      could not be carried over.
    - `copied`: the layers whose weights were copied, and their number.
    - `skipped`: from each normalization that was left, to the reason.
    - `rebuilt_by_code`: from each new normalization that no `.keras` file keeps, since
      code makes the old one again in a call, to the class name of its layer or model.
    - `plain`: from each functional model or `Sequential` that became one of Keras's
      own, to the class that it was. Its graph is the same; other methods are gone.
    """

    replaced: dict[str, str]
    copied: dict[str, int]
    skipped: dict[str, str]
    rebuilt_by_code: dict[str, str]
    plain: dict[str, str]

    def __str__(self) -> str:
        lines = [
            f"{len(self.replaced)} layers replaced, {len(self.copied)} copied, "
            f"{len(self.skipped)} normalizations left"
        ]
        for path, text in self.replaced.items():
            if path in self.rebuilt_by_code:
                text += ", which no .keras file keeps: it is made by the code of "
                text += self.rebuilt_by_code[path]
            lines.append(f"  replaced {path}: {text}")
        lines += [f"  skipped {path}: {text}" for path, text in self.skipped.items()]
        lines += [
            f"  {path}: {kind} -> a plain model of the same graph"
            for path, kind in self.plain.items()
        ]
        return "\n".join(lines)
