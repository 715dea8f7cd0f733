"""Left and right are told by name."""

import pytest

from rnade_lightning.datamodules.motion.sides import sides_of

LEFT = [
    "LeftArm", "mixamorig:LeftArm", "mixamorig:Left_Arm", "mixamorigLeftArm", "left_hip", "LEFTARM",
    "leftarm", "L_Arm", "l_arm", "Arm_L", "arm_l", "upperarm_l", "thigh.l", "Thigh.L", "hand.L.001",
    "Bip01 L Hand", "Bip01_L_Hand", "ValveBiped.Bip01_L_Hand", "J_Bip_L_UpperArm", "lShldr", "LHip",
    "HandLeft", "HandL", "S:LHip", "l", "L", "Hand-L", "LHipJoint", "LThumb", "left_index3",
    "ForearmL:Marker3", "L_Shank:1",
]  # fmt: skip
PAIRED = ["LASI", "LKNE", "S:LFHD", "L5", "Hand_L2", "Arm2_L", "LFIN", "D:STERL"]
MIDDLE = [
    "Root",
    "ROOT",
    "LowerBack",
    "Lumbar",
    "lowerback",
    "RIBS",
    "Hips",
    "Spine1",
    "Neck",
    "L5",
]
MIDDLE += ["Upright", "Bright", "Skull", "Tail", "root", "pelvis", "Model", "Reference", "L4_L5"]


def mirrored(name: str) -> str:
    for left, right in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
        if left in name:
            return name.replace(left, right)
    table = str.maketrans("Ll", "Rr")
    for part in ("lShldr", "L:", "L_", "l_", "_L", "_l", ".l", ".L", " L ", "-L", "LH", "LT", "dL"):
        if part in name:
            return name.replace(part, part.translate(table) if part != "lShldr" else "rShldr", 1)
    return name.translate(table) if len(name) == 1 else name.replace("L", "R", 1)


@pytest.mark.parametrize("name", LEFT)
def test_a_side_is_told_by_one_name(name: str) -> None:
    assert sides_of([name]) == ["left"]
    assert sides_of([mirrored(name)]) == ["right"], mirrored(name)


@pytest.mark.parametrize("name", PAIRED)
def test_capitals_and_numbers_tell_a_side_where_the_other_is_there(name: str) -> None:
    pair = [name, name.replace("L", "R", 1)]
    assert sides_of(pair) == ["left", "right"]


@pytest.mark.parametrize("name", MIDDLE)
def test_other_names_tell_none(name: str) -> None:
    assert sides_of([name]) == ["middle"]
    assert sides_of([*MIDDLE])[MIDDLE.index(name)] == "middle"
