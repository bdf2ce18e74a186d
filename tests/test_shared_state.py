"""Bytes there and back, and whatever else may arrive."""

import math
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traced_router.shared_state import MAX_NUMBERS, NodeState, pack, unpack

HEX_ID = "0123456789abcdef" * 4
STATE = NodeState(
    node="router-1",
    group="gpt-4o",
    strategy="least-expected-completion",
    timestamp=1_700_000_000.25,
    candidates={HEX_ID: (3.0, 0.5), "my deployment": (0.0,), "ü": ()},
)


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def test_there_and_back():
    assert unpack(pack(STATE)) == STATE


def test_generated_ids_travel_as_bytes():
    alone = NodeState("n", "g", "s", 0.0, {HEX_ID: (1.0,)})
    assert len(pack(alone)) == 12 + 2 + 3 + 2 + 2 + (1 + 32 + 1 + 4) + 4
    assert unpack(pack(NodeState("n", "g", "s", 0.0, {HEX_ID.upper(): (1.0,)}))) is not None


def test_five_hundred_deployments_fit_into_thirty_kilobytes():
    many = {f"{i:064x}": tuple(map(float, range(5))) for i in range(512)}
    assert len(pack(NodeState("n", "g", "s", 0.0, many))) < 30_000


def test_age():
    assert STATE.age(STATE.timestamp + 1.5) == 1.5
    assert STATE.age(STATE.timestamp - 9.0) == 0.0


def test_what_cannot_be_told_is_left_out_or_cut():
    state = NodeState(
        "n",
        "g",
        "s",
        0.0,
        {
            "nan": (math.nan,),
            "infinite": (1.0, math.inf),
            "long": tuple(map(float, range(20))),
            "large": (1e300, -1e300),
            "x" * 300: (1.0,),
            "lone surrogate \ud800": (1.0,),
        },
    )
    told = unpack(pack(state))
    assert told is not None
    assert set(told.candidates) == {"long", "large", "lone surrogate ?"}
    assert told.candidates["long"] == tuple(map(float, range(MAX_NUMBERS)))
    assert all(math.isfinite(number) for number in told.candidates["large"])


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"node": "n" * 255}, "node must be at most 254 bytes of UTF-8, got 255"),
        ({"strategy": "ü" * 200}, "strategy must be at most 254 bytes of UTF-8, got 400"),
        ({"group": "g" * 70_000}, "group must be at most 65535 bytes of UTF-8, got 70000"),
        ({"timestamp": math.inf}, "timestamp must be finite, got inf"),
    ],
    ids=["node", "strategy", "group", "timestamp"],
)
def test_says_what_is_wrong_with_a_state(known, message):
    state = {"node": "n", "group": "g", "strategy": "s", "timestamp": 0.0, "candidates": {}} | known
    with pytest.raises(ValueError, match=message):
        pack(NodeState(**state))


@given(st.binary(max_size=200))
def test_any_bytes_are_nothing_or_a_state(message):
    assert unpack(message) is None
    unpack(sealed(message))
    unpack(sealed(b"TR\x01\x00" + message))


@given(st.data())
def test_a_damaged_message_is_nothing(data):
    message = bytearray(pack(STATE))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    assert unpack(bytes(message)) is None
    assert unpack(pack(STATE)[: data.draw(st.integers(0, len(message) - 1))]) is None


@pytest.mark.parametrize(
    "body",
    [
        b"XX" + pack(STATE)[2:-4],
        b"TR\x02" + pack(STATE)[3:-4],
        b"TR\x01\x00" + struct.pack("<d", math.nan) + pack(STATE)[12:-4],
        pack(STATE)[:-4] + b"more",
        pack(STATE)[:-6],
        pack(STATE)[:13] + b"\xff" + pack(STATE)[14:-4],
        b"TR",
        b"",
    ],
    ids=["magic", "version", "timestamp", "too long", "too short", "not utf-8", "head only", "nothing"],
)
def test_a_sound_sum_does_not_make_sound_bytes(body):
    assert unpack(sealed(body)) is None


def test_odd_candidates_of_a_peer_are_passed_over():
    head = struct.pack("<2sBBd", b"TR", 1, 0, 0.0) + b"\x01n\x01\x00g\x01s"
    wide = b"\x01w" + bytes([17]) + struct.pack("<17f", *range(17))
    odd = b"\x01o\x01" + struct.pack("<f", math.inf)
    good = b"\x01g\x01" + struct.pack("<f", 2.0)
    told = unpack(sealed(head + b"\x03\x00" + wide + odd + good))
    assert told is not None
    assert told.candidates == {"g": (2.0,)}


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=16).map(tuple),
        max_size=8,
    )
)
def test_any_state_there_and_back(candidates):
    state = NodeState("n", "g", "s", 12.5, candidates)
    assert unpack(pack(state)) == state
