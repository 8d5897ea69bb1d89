"""What oneDNN says of its operations, and the table of it."""

import pytest
from benchmark.onednn import convolution_seconds, executed, table

CONVOLUTION = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,brg_conv_fwd:avx512_core,forward_training,"
    "src:f32::blocked:acdb::f0 wei:f32:a:blocked:Acdb16a::f0 bia:undef::undef::: dst:f32::blocked:acdb::f0,"
    "attr-scratchpad:user,alg:convolution_direct,mb4_ic16oc32_ih128oh64kh3sh1dh0ph1_iw96ow48kw5sw1dw0pw1,2.5"
)
REORDER = "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32 dst:f32,,,128x128x3x3,0.25"


def test_a_convolution_counts_its_operations():
    """Two for each weight of each output: 4 images of 64x48 pixels, 16 to 32 channels, filters of 3x5."""
    assert executed(CONVOLUTION) == ("convolution, forward training", 2.5, 2 * 4 * 64 * 48 * 16 * 32 * 3 * 5)
    assert executed(REORDER) == ("reorder", 0.25, 0)


def test_the_limit_of_a_step_is_its_convolutions_alone():
    """An activation that is computed as a convolution of 1x1 is none of them; the output's of 1x1 is one."""
    begin, end = CONVOLUTION.rsplit("mb4", 1)[0], "mb4_ic16oc{}_ih128oh128kh1sh1dh0ph0_iw96ow96kw1sw1dw0pw0,1.5"
    identity, output = begin + end.format(16), begin + end.format(1)
    assert convolution_seconds([CONVOLUTION, REORDER, identity, output]) == pytest.approx(0.004)
    with pytest.raises(ValueError):
        convolution_seconds([REORDER])


@pytest.mark.parametrize("line", ["", "begin", "onednn_verbose,v1,info,cpu,isa:Intel AVX-512", "step,exec,1,2,3"])
def test_other_lines_are_left_out(line):
    assert executed(line) == ("", 0.0, 0)


def test_the_table_has_the_rest_of_the_time():
    rows = [{"operation": "reorder", "calls": 2.0, "milliseconds": 4.0, "gflops": None}]
    text = table({("training", "float32"): {"milliseconds": 16.0, "rows": rows}})
    assert text.splitlines()[2:] == [
        "| training | float32 | reorder | 2 | 4.0 | 25 % |  |",
        "| training | float32 | outside of oneDNN |  | 12.0 | 75 % |  |",
        "| training | float32 | all |  | 16.0 | 100 % |  |",
    ]
