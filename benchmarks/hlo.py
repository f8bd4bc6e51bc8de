"""Counts what a compiled program of XLA moves: its kernels, and the bytes of each.

`jax.stages.Compiled.as_text()` is the optimized program: its entry computation is the
sequence of kernels that the device runs. On a GPU nothing else says how many bytes they
move, so operands and results are added up, with these rules:

- A fusion is one kernel. An operand that it only slices counts as its slices, also
  where a cast, a bitcast or arithmetic stands between; an operand twice counts once.
- What is updated in place counts as the update.
- Parameters, tuples and bitcasts cost nothing. A call counts as what it calls, a loop
  as often as it is known to run, a conditional as its largest branch.
- Memory on the chip (a TPU's `S(1)`) is not memory.
"""

import re
from math import prod
from typing import NamedTuple


def words(text):
    return frozenset(text.split())


# No device does anything for them.
FREE = words(
    "parameter constant tuple get-tuple-element bitcast after-all add-dependency "
    "opt-barrier partition-id replica-id domain"
)
# Custom calls that stand for no kernel.
FREE_TARGETS = (
    "AllocateBuffer",
    "AssumeGatherIndicesInBound",
    "ConcatBitcast",
    "Sharding",
)
COLLECTIVES = words(
    "all-reduce all-gather reduce-scatter all-to-all collective-permute "
    "collective-broadcast ragged-all-to-all"
)
SLICES = {"slice", "dynamic-slice", "gather"}
# An element of the result needs one element of each operand.
ELEMENTWISE = words(
    "abs add and bitcast bitcast-convert ceil clamp compare convert copy cosine divide "
    "exponential exponential-minus-one floor log log-plus-one logistic maximum minimum "
    "multiply negate not or power reduce-precision remainder reshape rsqrt select sign "
    "sine sqrt subtract tanh transpose xor"
)
# Libraries ask for working memory as a result of bytes.
LIBRARIES = ("__cudnn", "__cublas")

ARRAY = re.compile(r"(\w+)\[([^\]]*)\](\{[^}]*\})?")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
NAMES = re.compile(r"%([\w.\-]+)")


class Array(NamedTuple):
    elements: int
    bits: int
    on_chip: bool

    @property
    def bytes(self):
        return 0 if self.on_chip else self.elements * self.bits / 8


class Instruction(NamedTuple):
    name: str
    arrays: list  # of the result
    opcode: str
    operands: list
    number: int  # of a parameter
    attributes: str
    is_root: bool

    def called(self, *kinds):
        """The names of the computations that an attribute names."""
        names = []
        for kind in kinds:
            for listed in re.findall(kind + r"=(\{[^}]*\}|%[\w.\-]+)", self.attributes):
                names += NAMES.findall(listed)
        return names

    @property
    def is_slice(self):
        return self.opcode.removesuffix("-start") in SLICES


class Kernel(NamedTuple):
    name: str
    opcode: str
    read: float  # bytes
    written: float
    source: str  # the operation that it was traced from
    frame: int  # its number in the table of stack frames, see `frames.py`

    @property
    def bytes(self):
        return self.read + self.written

    @property
    def is_collective(self):
        return self.opcode.removesuffix("-start") in COLLECTIVES


def arrays(text):
    """The arrays of a type as it is printed: one, or those of a tuple."""
    results = []
    for kind, sizes, layout in ARRAY.findall(text):
        width = re.search(r"\d+", kind)
        bits = 8 if kind == "pred" else int(width[0]) if width else 0
        dimensions = [int(size.lstrip("<=")) for size in sizes.split(",") if size]
        results.append(Array(prod(dimensions), bits, "S(" in layout))
    return results


def closing(text, start):
    """Where the bracket closes that opens at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
    raise ValueError(f"A bracket stays open. Received: {text[:200]}")


def instruction(line):
    """The instruction of a line, or `None`."""
    match = INSTRUCTION.match(re.sub(r"/\*.*?\*/", "", line))
    if not match:
        return None
    root, name, rest = match.groups()
    end = closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].strip()
    opening = rest.index("(")
    end = closing(rest, opening)
    opcode, inside = rest[:opening], rest[opening + 1 : end]
    return Instruction(
        name,
        arrays(kind),
        opcode,
        NAMES.findall(inside) if opcode != "constant" else [],
        int(inside) if opcode == "parameter" else -1,
        rest[end + 1 :],
        bool(root),
    )


class Program:
    """The computations of a program text: `{name: {name: instruction}}`."""

    def __init__(self, text):
        self.computations, self.entry, current = {}, None, None
        for line in text.splitlines():
            head = COMPUTATION.match(line)
            if head:
                current = self.computations.setdefault(head[2], {})
                self.entry = head[2] if head[1] else self.entry
            elif line.startswith("}"):
                current = None
            elif current is not None and (parsed := instruction(line)):
                current[parsed.name] = parsed
        if self.entry is None:
            raise ValueError(f"No ENTRY computation. Received: {text[:200]!r}")
        self.users = {
            name: self._users(instructions)
            for name, instructions in self.computations.items()
        }
        self._parts = {}

    @staticmethod
    def _users(instructions):
        users = {name: [] for name in instructions}
        for user in instructions.values():
            for place, operand in enumerate(user.operands):
                if operand in users:
                    users[operand].append((user, place))
        return users

    def kernels(self, computation=None):
        """Every kernel that a computation runs, in order; loops are unrolled."""
        computation = computation or self.entry
        result = []
        for one in self.computations[computation].values():
            if one.opcode in ("call", "async-start"):
                for name in one.called("to_apply", "calls"):
                    result += self.kernels(name)
            elif one.opcode == "while":
                times = re.search(r'known_trip_count":\{"n":"(\d+)"', one.attributes)
                for name in one.called("body", "condition"):
                    result += self.kernels(name) * (int(times[1]) if times else 1)
            elif one.opcode == "conditional":
                kinds = ("branch_computations", "true_computation", "false_computation")
                branches = [self.kernels(name) for name in one.called(*kinds)]
                result += max(branches, key=lambda x: (sum(k.bytes for k in x), len(x)))
            elif not self._is_free(one):
                result.append(self._kernel(computation, one))
        return result

    @staticmethod
    def _is_free(one):
        if one.opcode == "custom-call":
            return any(f'"{name}"' in one.attributes for name in FREE_TARGETS)
        return one.opcode in FREE or one.opcode.endswith(("-done", "-update"))

    def _kernel(self, computation, one):
        source = re.search(r'op_name="([^"]*)"', one.attributes)
        frame = re.search(r"stack_frame_id=(\d+)", one.attributes)
        return Kernel(
            one.name,
            one.opcode,
            sum(self._read(computation, one, name) for name in set(one.operands)),
            self._written(computation, one),
            source[1] if source else "",
            int(frame[1]) if frame else 0,
        )

    def _read(self, computation, one, name):
        """Bytes of an operand that a kernel reads."""
        operand = self.computations[computation][name]
        whole = sum(array.bytes for array in operand.arrays)
        in_parts = one.opcode in ("fusion", "dynamic-update-slice") or one.is_slice
        if not in_parts or len(operand.arrays) != 1:
            return whole
        parts = {}
        for place, other in enumerate(one.operands):
            if other == name:
                part = self._part(computation, one, place, is_kernel=True)
                if part is None:
                    return whole
                parts |= part
        (array,) = operand.arrays
        return min(whole, array._replace(elements=sum(parts.values())).bytes)

    def _written(self, computation, one):
        """Bytes that a kernel writes."""
        if one.opcode == "dynamic-update-slice":
            return self._bytes(computation, one.operands[1])
        if one.opcode == "fusion":
            return self._written_by_fusion(one)
        results = self._results(computation, one)
        if one.opcode == "custom-call" and any(x in one.attributes for x in LIBRARIES):
            results = results[:1]
        return sum(array.bytes for array in results)

    def _results(self, computation, one):
        if not one.opcode.endswith("-start"):
            return one.arrays
        # It holds its operands as well; what waits for it has the results.
        done = [user for user, _ in self.users[computation][one.name]]
        return [array for user in done for array in user.arrays]

    def _written_by_fusion(self, one):
        (name,) = one.called("calls")
        inner = self.computations[name]
        (root,) = (other for other in inner.values() if other.is_root)
        outputs = root.operands if root.opcode == "tuple" else [root.name]
        if len(outputs) != len(one.arrays):
            return sum(array.bytes for array in one.arrays)
        total = 0
        for output, array in zip(outputs, one.arrays, strict=True):
            update = self._update_of(inner, output)
            if update:
                elements = inner[update].arrays[0].elements
                array = array._replace(elements=elements)
            total += array.bytes
        return total

    @staticmethod
    def _update_of(instructions, name):
        """The update, where a value is its operand updated in place."""
        while instructions[name].opcode == "bitcast":
            (name,) = instructions[name].operands
        one = instructions[name]
        return one.operands[1] if one.opcode == "dynamic-update-slice" else None

    def _bytes(self, computation, name):
        return sum(x.bytes for x in self.computations[computation][name].arrays)

    def _parts_of(self, computation, name):
        """What of a value is read: `{slice: elements}`, or `None` for all of it."""
        key = computation, name
        if key not in self._parts:
            parts = None if self.computations[computation][name].is_root else {}
            for user, place in self.users[computation][name]:
                part = self._part(computation, user, place)
                parts = None if parts is None or part is None else parts | part
            self._parts[key] = parts
        return self._parts[key]

    def _part(self, computation, user, place, is_kernel=False):
        """What a user reads of its operand at `place`, in the form of `_parts_of`."""
        if user.is_slice and place == 0:
            bounds = re.search(r"slice=\{[^}]*\}", user.attributes)
            size = sum(x.elements for x in self._results(computation, user))
            key = (bounds and bounds[0], *user.operands, size)
            return {key: size}
        if user.opcode == "fusion":
            (name,) = user.called("calls")
            for inner in self.computations[name].values():
                if inner.number == place:
                    return self._parts_of(name, inner.name)
        if user.opcode == "dynamic-update-slice" and place == 0:
            return {} if is_kernel or self._is_output(computation, user) else None
        if user.opcode in ELEMENTWISE and not is_kernel:
            return self._parts_of(computation, user.name)
        return None

    def _is_output(self, computation, one):
        """Whether a value is nothing but a result of its computation."""
        users = [user for user, _ in self.users[computation][one.name]]
        return all(
            user.is_root and user.opcode in ("tuple", "bitcast") for user in users
        )


def kernels(text):
    """The kernels of a program text."""
    return Program(text).kernels()
