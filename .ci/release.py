"""One version everywhere, and every file of git in the sdist: `release.py DIST`."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def version() -> str:
    """The one of `keras_en/version.py`, where all others are from."""
    text = (ROOT / "keras_en" / "version.py").read_text("utf-8")
    return re.search(r'"(.+)"', text)[1]


def elsewhere() -> dict[str, str]:
    """The version that files say which pip does not read."""
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    return {
        "CHANGELOG.md": re.search(r"^## (\S+)", changes, re.M)[1],
        "CITATION.cff": re.search(r"^version: (\S+)", citation, re.M)[1],
    }


def missing(sdist: Path) -> list[str]:
    """The files of git that an sdist has not."""
    command = ["git", "-C", str(ROOT), "ls-files"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return [name for name in text.splitlines() if name not in names]


def main(dist: Path) -> None:
    own = version()
    for name, other in elsewhere().items():
        assert other == own, f"{name} says {other}, keras_en/version.py {own}"
    [sdist], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")
    assert sdist.name == f"keras_en-{own}.tar.gz", sdist.name
    assert wheel.name == f"keras_en-{own}-py3-none-any.whl", wheel.name
    assert not missing(sdist), missing(sdist)
    with zipfile.ZipFile(wheel) as archive:
        rooms = {name.partition("/")[0] for name in archive.namelist()}
    assert rooms == {"keras_en", f"keras_en-{own}.dist-info"}, rooms
    print(f"sdist and wheel: {own}, {sdist.stat().st_size >> 10:,} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
