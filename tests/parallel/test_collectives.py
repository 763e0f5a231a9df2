"""Collectives and cycles in the text of compiled programs, against what is known of small ones."""

import pytest

from jaxdl.parallel.collectives import Collective, holds

GROUPS = "replica_groups=mesh['data'=4,'model'=2] {'data'}"
CYCLES = 'backend_config={"window_config":{"estimated_cycles":"100","iteration_bounds":["1"]}}'

LOOP = f"""HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {{
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}}

%inner_body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {{
  %p = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) parameter(0)
  %g = f32[8,128]{{1,0:T(8,128)}} get-tuple-element(%p), index=1
  %all-reduce.1 = f32[8,128]{{1,0:T(8,128)S(1)}} all-reduce(%g), channel_id=1, {GROUPS}, to_apply=%add
  ROOT %t = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) tuple(%g, %all-reduce.1), {CYCLES}
}}

%inner_condition (p: (s32[], f32[8,128])) -> pred[] {{
  %bound = s32[]{{:T(128)}} constant(6)
  %p = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) parameter(0)
  %i = s32[]{{:T(128)}} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{{:T(512)}} compare(%i, %bound), direction=LT
}}

%outer_body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {{
  %p = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) parameter(0)
  ROOT %while.1 = (s32[], f32[8,128]) while(%p), condition=%inner_condition, body=%inner_body
}}

%condition (p: (s32[], f32[8,128])) -> pred[] {{
  %p = (s32[], f32[8,128]) parameter(0)
  ROOT %less = pred[] custom-call(%p), custom_call_target="WhoKnows"
}}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {{
  %a = f32[8,128]{{1,0:T(8,128)}} parameter(0), metadata={{op_name="all-reduce(a)"}}
  %fusion = f32[8,128]{{1,0:T(8,128)}} fusion(%a), kind=kLoop, calls=%add, {CYCLES}
  %while.2 = (s32[], f32[8,128]) while(%fusion), condition=%condition, body=%outer_body, TRIPS
  ROOT %out = f32[8,128]{{1,0:T(8,128)}} get-tuple-element(%while.2), index=1
}}
"""


def test_what_a_loop_holds_is_counted_as_often_as_it_runs():
    known = holds(LOOP.replace("TRIPS", 'backend_config={"known_trip_count":{"n":"5"}}'), 8)
    each = 8 * 128 * 4
    assert known.collectives == {"all-reduce": Collective(30, 30 * each, 30 * each * 2 * 3 / 4)}  # groups of 4 devices
    assert known.cycles == 100 + 30 * 100
    assert known.unknown_loops == 0


def test_a_loop_of_which_the_text_does_not_say_how_often_it_runs_counts_once_and_is_told():
    unknown = holds(LOOP.replace("TRIPS", "metadata={}"), 8)
    assert unknown.collectives["all-reduce"].count == 6
    assert unknown.unknown_loops == 1


RING = """HloModule m

%windowed_dot_general_body_rs (p: (f32[8,16], u32[])) -> (f32[8,16], u32[]) {
  %p = (f32[8,16]{1,0}, u32[]{:T(128)}) parameter(0)
  %two = u32[]{:T(128)} constant(2)
  %one = u32[]{:T(128)} constant(1)
  %turn = u32[]{:T(128)} get-tuple-element(%p), index=1
  %part = f32[8,16]{1,0} get-tuple-element(%p), index=0
  %send.1 = f32[8,16]{1,0} collective-permute(%part), channel_id=1, source_target_pairs={{0,1},{1,0}}
  %odd = u32[]{:T(128)} add(%turn, %one)
  %send.2 = f32[8,16]{1,0} collective-permute(%send.1), channel_id=2, source_target_pairs={{0,1},{1,0}}
  %next = u32[]{:T(128)} add(%turn, %two)
  ROOT %t = (f32[8,16]{1,0}, /*index=1*/u32[]{:T(128)}) tuple(%send.2, /*index=1*/%next)
}

%windowed_dot_general_cond_rs (p: (f32[8,16], u32[])) -> pred[] {
  %bound = u32[]{:T(128)} constant(4)
  %p = (f32[8,16]{1,0}, u32[]{:T(128)}) parameter(0)
  %turn = u32[]{:T(128)} get-tuple-element(%p), index=1
  ROOT %less = pred[]{:T(512)} compare(%turn, %bound), direction=LT
}

ENTRY %main (a: f32[8,16]) -> f32[8,16] {
  %a = f32[8,16]{1,0} parameter(0)
  %while.1 = (f32[8,16]{1,0}, u32[]) while(%a), condition=%windowed_dot_general_cond_rs, \
body=%windowed_dot_general_body_rs
  ROOT %out = f32[8,16]{1,0} get-tuple-element(%while.1), index=0
}
"""


def test_a_loop_whose_counter_goes_up_by_two_runs_half_as_often():
    """As the TPU compiler adds up a gradient in a ring, beside what makes it."""
    found = holds(RING, 8)
    assert found.collectives == {"collective-permute": Collective(4, 4 * 512, 4 * 512.0)}
    assert found.unknown_loops == 0


OPERATIONS = """HloModule m

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
"""


@pytest.mark.parametrize(
    ("operation", "kind", "found"),
    [
        (
            "(f32[2048]{0}, f32[]) all-reduce(%a, %b), channel_id=1, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add",
            "all-reduce",
            Collective(1, 8196, 8196 * 2 * 7 / 8),
        ),
        (
            "bf16[1024,16]{1,0} all-gather(%a), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}",
            "all-gather",
            Collective(1, 32768, 32768 * 3 / 4),
        ),
        (
            "(bf16[128,16]{1,0:T(8,128)(2,1)}, bf16[1024,16]{1,0:T(8,128)(2,1)}) all-gather-start(%a), dimensions={0}",
            "all-gather",
            Collective(1, 32768, 32768 * 7 / 8),
        ),
        (
            "f32[128]{0} reduce-scatter(%a), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add",
            "reduce-scatter",
            Collective(1, 1024, 512),
        ),
        ("f32[8,16]{1,0} all-to-all(%a), channel_id=3, dimensions={0}", "all-to-all", Collective(1, 512, 512 * 7 / 8)),
        (
            "(s8[64]{0}, s8[64]{0}, u32[], u32[]) collective-permute-start(%a), source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            Collective(1, 64, 64),
        ),
    ],
)
def test_each_kind_of_collective(operation, kind, found):
    text = f"{OPERATIONS}  %c = {operation}\n  ROOT %d = f32[8] all-gather-done(%c)\n}}\n"
    assert holds(text, 8).collectives == {kind: found}


TPU = """HloModule m

%all-reduce-scatter (input: f32[2048,384]) -> f32[256,384] {
  %input = f32[2048,384]{1,0} parameter(0)
  %all-reduce.6 = f32[2048,384]{1,0} all-reduce(%input), channel_id=6, replica_groups={{0,1,2,3,4,5,6,7}}
  ROOT %dynamic-slice.1 = f32[256,384]{1,0} dynamic-slice(%all-reduce.6, %i, %j), dynamic_slice_sizes={256,384}
}

%begin (a: bf16[16,8]) -> bf16[128,8] {
  %all-gather.1 = bf16[128,8]{1,0} all-gather(%a), channel_id=2, dimensions={0}
  ROOT %start = (bf16[128,8]{1,0}, u32[]) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%end (a: bf16[16,8]) -> bf16[128,8] {
  %all-gather.2 = bf16[128,8]{1,0} all-gather(%a), channel_id=2, dimensions={0}
  ROOT %done = bf16[128,8]{1,0} custom-call(%all-gather.2), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (a: f32[2048,384]) -> f32[256,384] {
  %a = f32[2048,384]{1,0} parameter(0)
  %f.1 = (bf16[128,8]{1,0}, u32[]) fusion(%a), kind=kCustom, calls=%begin
  %f.2 = bf16[128,8]{1,0} fusion(%f.1), kind=kCustom, calls=%end
  ROOT %fusion.2 = f32[256,384]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter
}
"""


def test_what_the_tpu_compiler_makes_of_them():
    """A sum of which a slice is kept is a reduce-scatter; the pieces of one that runs beside others are one."""
    whole = 2048 * 384 * 4
    assert holds(TPU, 8).collectives == {
        "reduce-scatter": Collective(1, whole, whole * 7 / 8),
        "all-gather": Collective(1, 2048, 2048 * 7 / 8),
    }


def test_a_program_without_collectives_holds_none():
    assert holds(OPERATIONS + "  ROOT %b = f32[8,128]{1,0} add(%a, %a)\n}\n", 1).collectives == {}
