"""The counter of compiled programs, on small programs counted by hand."""

import subprocess
import sys

import pytest

from benchmarks.frames import Frames
from benchmarks.hlo import kernels

SCALED = """HloModule jit_f, is_scheduled=true

%fused (param_0: f32[4,8], param_1: f32[8]) -> f32[4,8] {
  %param_0 = f32[4,8]{1,0} parameter(0)
  %param_1 = f32[8]{0} parameter(1)
  %b = f32[4,8]{1,0} broadcast(%param_1), dimensions={1}
  ROOT %m = f32[4,8]{1,0} multiply(%param_0, %b)
}

ENTRY %main (x: f32[4,8], s: f32[8]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0), sharding={replicated}
  %s = f32[8]{0} parameter(1)
  ROOT %scaled = f32[4,8]{1,0} fusion(%x, %s), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/mul" stack_frame_id=3}
}
"""  # noqa: E501


def entry(body, before=""):
    """The text of a program whose entry computation has these instructions."""
    return f"HloModule m\n\n{before}\nENTRY %main () -> f32[] {{\n{body}\n}}\n"


def moved(text):
    """`[(name, bytes read, bytes written)]`."""
    return [(k.name, k.read, k.written) for k in kernels(text)]


def test_a_fusion_reads_its_operands_and_writes_its_result():
    (kernel,) = kernels(SCALED)
    assert (kernel.name, kernel.opcode) == ("scaled", "fusion")
    assert (kernel.read, kernel.written) == (4 * 8 * 4 + 8 * 4, 4 * 8 * 4)
    assert kernel.bytes == 128 + 32 + 128
    assert (kernel.source, kernel.frame) == ("jit(f)/mul", 3)
    assert not kernel.is_collective


@pytest.mark.parametrize(
    "kind, size",
    [
        ("f32[3,5]", 60),
        ("bf16[3,5]", 30),
        ("f64[]", 8),
        ("pred[7]", 7),
        ("s4[6]", 3),
        ("f8e4m3fn[6]", 6),
        ("c64[2]", 16),
        ("f32[<=4,2]", 32),
        ("token[]", 0),
        ("f32[0,3]", 0),
        ("(f32[2], bf16[3]{0}, /*index=2*/pred[])", 8 + 6 + 1),
        ("f32[4,8]{1,0:T(8,128)(2,1)}", 128),
        # On the chip of a TPU.
        ("f32[4,8]{1,0:T(8,128)S(1)}", 0),
    ],
)
def test_bytes_of_a_type(kind, size):
    assert moved(entry(f"  ROOT %r = {kind} rng-bit-generator()")) == [("r", 0, size)]


def test_what_costs_nothing():
    text = entry("""
  %p = (f32[4]{0}, f32[4]{0}) parameter(0)
  %c = f32[] constant(1)
  %g = f32[4]{0} get-tuple-element(%p), index=0
  %b = f32[2,2]{1,0} bitcast(%g)
  %a = u8[100]{0} custom-call(), custom_call_target="AllocateBuffer"
  ROOT %t = (f32[2,2]{1,0}, f32[]) tuple(%b, %c)""")
    assert moved(text) == []


FUSED = """
%fused (p0: bf16[100,10]) -> f32[10] {{
  %p0 = bf16[100,10]{{1,0}} parameter(0)
{}
}}
"""
CALL = """  %x = bf16[100,10]{1,0} parameter(0)
  ROOT %y = f32[10]{0} fusion(%x), kind=kLoop, calls=%fused"""
# The operations of a fusion, and how many of the 1,000 elements it reads.
SLICED = {
    "a slice": (
        "  ROOT %s = bf16[1,10] slice(%p0), slice={[3:4], [0:10]}",
        10,
    ),
    "behind a cast and a bitcast": (
        "  %c = f32[100,10] convert(%p0)\n"
        "  %b = f32[50,20] bitcast(%c)\n"
        "  ROOT %s = f32[2,20] slice(%b), slice={[3:5], [0:20]}",
        40,
    ),
    "behind arithmetic": (
        "  %c = f32[] constant(2)\n"
        "  %b = f32[100,10] broadcast(%c), dimensions={}\n"
        "  %m = f32[100,10] multiply(%p0, %b)\n"
        "  ROOT %s = f32[4,10] slice(%m), slice={[0:8:2], [0:10]}",
        40,
    ),
    "two slices": (
        "  %s = bf16[1,10] slice(%p0), slice={[3:4], [0:10]}\n"
        "  %t = bf16[1,10] slice(%p0), slice={[4:5], [0:10]}\n"
        "  ROOT %a = bf16[1,10] add(%s, %t)",
        20,
    ),
    "a slice twice": (
        "  %s = bf16[1,10] slice(%p0), slice={[3:4], [0:10]}\n"
        "  %t = bf16[1,10] slice(%p0), slice={[3:4], [0:10]}\n"
        "  ROOT %a = bf16[1,10] add(%s, %t)",
        10,
    ),
    "slices that overlap: never more than all of it": (
        "  %s = bf16[90,10] slice(%p0), slice={[0:90], [0:10]}\n"
        "  %t = bf16[90,10] slice(%p0), slice={[10:100], [0:10]}\n"
        "  ROOT %a = bf16[90,10] add(%s, %t)",
        1000,
    ),
    "where the index says": (
        "  %i = s32[] constant(3)\n"
        "  ROOT %s = bf16[1,10] dynamic-slice(%p0, %i, %i), dynamic_slice_sizes={1,10}",
        10,
    ),
    "a slice, and all of it elsewhere": (
        "  %s = bf16[1,10] slice(%p0), slice={[3:4], [0:10]}\n"
        "  %z = bf16[] constant(0)\n"
        "  %r = bf16[10] reduce(%p0, %z), dimensions={0}, to_apply=%sum\n"
        "  ROOT %t = (bf16[1,10], bf16[10]) tuple(%s, %r)",
        1000,
    ),
    "a slice, and all of it as a result": (
        "  %c = f32[100,10] convert(%p0)\n"
        "  %s = f32[1,10] slice(%c), slice={[3:4], [0:10]}\n"
        "  ROOT %t = (f32[1,10], f32[100,10]) tuple(%s, %c)",
        1000,
    ),
    "what a reduction reads is no slice": (
        "  %z = bf16[] constant(0)\n"
        "  %r = bf16[10] reduce(%p0, %z), dimensions={0}, to_apply=%sum\n"
        "  ROOT %s = bf16[1] slice(%r), slice={[3:4]}",
        1000,
    ),
}


@pytest.mark.parametrize("case", SLICED)
def test_an_operand_that_a_fusion_only_slices(case):
    operations, elements = SLICED[case]
    assert moved(entry(CALL, FUSED.format(operations)))[0][1] == elements * 2


def test_a_slice_in_a_fusion_inside_a_fusion():
    inner = """
%inner (q: f32[100,10]) -> f32[1,10] {
  %q = f32[100,10]{1,0} parameter(0)
  ROOT %s = f32[1,10]{1,0} slice(%q), slice={[0:1], [0:10]}
}
"""
    outer = """  %c = f32[100,10] convert(%p0)
  ROOT %f = f32[1,10] fusion(%c), kind=kCustom, calls=%inner"""
    assert moved(entry(CALL, inner + FUSED.format(outer)))[0][1] == 10 * 2


def test_a_slice_that_is_a_kernel_of_its_own():
    text = entry("""  %x = f32[100,10]{1,0} parameter(0)
  %i = s32[] constant(0)
  %s = f32[2,10]{1,0} slice(%x), slice={[0:2], [0:10]}
  ROOT %d = f32[3,10]{1,0} dynamic-slice(%x, %i, %i), dynamic_slice_sizes={3,10}""")
    assert moved(text) == [("s", 80, 80), ("d", 120 + 4, 120)]


def test_an_operand_twice_counts_once():
    text = entry("""  %x = f32[10]{0} parameter(0)
  ROOT %m = f32[10]{0} multiply(%x, %x)""")
    assert moved(text) == [("m", 40, 40)]


def test_what_is_updated_in_place_counts_as_the_update():
    fused = """
%fused (p0: f32[100,10], p1: f32[1,10], p2: s32[]) -> (f32[100,10], f32[1,10]) {
  %p0 = f32[100,10]{1,0} parameter(0)
  %p1 = f32[1,10]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %n = f32[1,10]{1,0} negate(%p1)
  %u = f32[100,10]{1,0} dynamic-update-slice(%p0, %n, %p2, %p2)
  ROOT %t = (f32[100,10]{1,0}, f32[1,10]{1,0}) tuple(%u, %n)
}
"""
    text = entry(
        """  %x = f32[100,10]{1,0} parameter(0)
  %v = f32[1,10]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %f = (f32[100,10]{1,0}, f32[1,10]{1,0}) fusion(%x, %v, %i), kind=kLoop, calls=%fused
  ROOT %d = f32[100,10]{1,0} dynamic-update-slice(%x, %v, %i, %i)""",
        fused,
    )
    assert moved(text) == [("f", 40 + 4, 40 + 40), ("d", 40 + 4, 40)]


CALLED = """
%one (a: f32[10]) -> f32[10] {
  %a = f32[10]{0} parameter(0)
  ROOT %n = f32[10]{0} negate(%a)
}

%two (a: f32[10]) -> f32[10] {
  %a = f32[10]{0} parameter(0)
  %m = f32[10]{0} negate(%a)
  ROOT %n = f32[10]{0} negate(%m)
}

%again (a: f32[10]) -> pred[] {
  %a = f32[10]{0} parameter(0)
  ROOT %p = pred[] custom-call(%a), custom_call_target="compare"
}
"""


@pytest.mark.parametrize(
    "operation, names",
    [
        ("call(%x), to_apply=%two", ["m", "n"]),
        ("while(%x), condition=%again, body=%one", ["n", "p"]),
        (
            "while(%x), condition=%again, body=%one, "
            'backend_config={"known_trip_count":{"n":"3"}}',
            ["n", "n", "n", "p", "p", "p"],
        ),
        (
            "conditional(%i, %x, %x), branch_computations={%one, %two}",
            ["m", "n"],
        ),
        (
            "conditional(%i, %x, %x), true_computation=%two, false_computation=%one",
            ["m", "n"],
        ),
    ],
)
def test_calls_loops_and_conditionals(operation, names):
    text = entry(
        f"""  %x = f32[10]{{0}} parameter(0)
  %i = s32[] parameter(1)
  ROOT %r = f32[10]{{0}} {operation}""",
        CALLED,
    )
    assert [kernel.name for kernel in kernels(text)] == names


def test_what_is_started_and_waited_for_is_one_kernel():
    text = entry(
        """  %x = f32[10]{0} parameter(0)
  %c = (f32[10]{0:S(1)}, f32[10]{0}, u32[]{:S(2)}) copy-start(%x)
  %s = ((f32[10]{0}), f32[2]{0}, s32[]{:S(2)}) slice-start(%x), slice={[0:2]}
  %a = ((f32[10]{0}), f32[10]{0}) async-start(%x), calls=%one
  %r = f32[10]{0} all-reduce-start(%x), to_apply=%sum
  %cd = f32[10]{0:S(1)} copy-done(%c)
  %sd = f32[2]{0} slice-done(%s)
  %ad = f32[10]{0} async-done(%a)
  ROOT %rd = f32[10]{0} all-reduce-done(%r)""",
        CALLED,
    )
    assert moved(text) == [("c", 40, 0), ("s", 8, 8), ("n", 40, 40), ("r", 40, 40)]
    assert [kernel.is_collective for kernel in kernels(text)] == [False] * 3 + [True]


def test_the_working_memory_of_a_library_is_no_result():
    call = """  %x = f32[10]{0} parameter(0)
  ROOT %c = (f32[10]{0}, u8[4096]{0}) custom-call(%x), custom_call_target="%s"
"""
    assert moved(entry(call.replace("%s", "__cudnn$convForward")))[0][2] == 40
    assert moved(entry(call.replace("%s", "mine")))[0][2] == 40 + 4096


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match=r"No ENTRY computation\. Received: 'HloMod"):
        kernels("HloModule m\n")


PROGRAM = """
import jax
x = jax.ShapeDtypeStruct((64, 128), "float32")
print(jax.jit(lambda x: jax.numpy.tanh(x) * 2 + 1).lower(x).compile().as_text())
"""


def test_a_program_of_a_compiler_that_is_here():
    pytest.importorskip("jax", reason="JAX is not installed")
    # In a process of its own: where JAX has run, Python warns of every fork.
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (kernel,) = kernels(done.stdout)
    assert (kernel.read, kernel.written) == (64 * 128 * 4,) * 2


def test_the_function_that_a_kernel_comes_from():
    frames = Frames("""HloModule m

FileNames
1 "/site/jax/numpy.py"
2 "/home/keras_en/ops/spatial.py"
3 "/home/train.py"

FunctionNames
1 "mean"
2 "moments.<locals>.total"
3 "<module>"

FileLocations
1 {file_name_id=3 function_name_id=3 line=1 end_line=1 column=1 end_column=9}
2 {file_name_id=2 function_name_id=2 line=7 end_line=7 column=1 end_column=9}
3 {file_name_id=1 function_name_id=1 line=9 end_line=9 column=1 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}


%fused (param_0: f32[]) -> f32[] {
  ROOT %param_0 = f32[] parameter(0)
}
""")
    assert frames.origin(3, "keras_en") == "spatial.py: moments.total"
    assert frames.origin(3, "jax", "keras_en") == "numpy.py: mean"
    assert frames.origin(1, "keras_en") == frames.origin(0, "keras_en") == ""
    assert Frames(SCALED).origin(3, "keras_en") == ""
