"""Which function of the source a kernel comes from: the tables of a program text."""

import re
from pathlib import PurePath

ENTRY = re.compile(r"^(\d+) (.*)$")
FIELD = re.compile(r"(\w+)=(\d+)")


class Frames:
    """The stack frames of a program text; `stack_frame_id` of a kernel names one."""

    def __init__(self, text):
        tables, current = {}, None
        for line in text.splitlines():
            if entry := ENTRY.match(line):
                current[int(entry[1])] = entry[2]
            elif line and line.isalpha():
                current = tables.setdefault(line, {})
        self.files = self._names(tables.get("FileNames", {}))
        self.functions = self._names(tables.get("FunctionNames", {}))
        self.locations = self._fields(tables.get("FileLocations", {}))
        self.stack = self._fields(tables.get("StackFrames", {}))

    @staticmethod
    def _names(table):
        return {number: text.strip('"') for number, text in table.items()}

    @staticmethod
    def _fields(table):
        return {
            number: {name: int(value) for name, value in FIELD.findall(text)}
            for number, text in table.items()
        }

    def origin(self, frame, *folders):
        """`file: function` of the innermost caller in one of `folders`, or `""`."""
        while frame in self.stack:
            location = self.locations[self.stack[frame]["file_location_id"]]
            path = PurePath(self.files[location["file_name_id"]])
            if any(f"/{folder}/" in str(path) for folder in folders):
                function = self.functions[location["function_name_id"]]
                return f"{path.name}: {function.replace('<locals>.', '')}"
            # Numbers of parents are one too large: 1 stands for none.
            frame = self.stack[frame].get("parent_frame_id", 1) - 1
        return ""
