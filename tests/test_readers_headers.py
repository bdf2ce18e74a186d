"""What a provider asks for in its headers."""

from collections.abc import Iterator, Mapping
from email.utils import formatdate

import httpx
import pytest

from traced_router._readers import Ratelimit, ratelimit, retry_after_seconds

NOW = 1_800_000_000.0


class Raising(Mapping[str, str]):
    def __getitem__(self, name: str) -> str:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"RETRY-AFTER": 3}, 3.0),
        (httpx.Headers({"Retry-After": "0"}), 0.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after": formatdate(NOW + 30).removesuffix(" -0000")}, 30.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "-1"}, None),
        ({"retry-after-ms": "-1", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "1500.5"}, 1.5005),
        ({"retry-after-ms": "0", "retry-after": "9"}, 0.0),
        ({"x-ms-retry-after-ms": "750", "retry-after": "1"}, 0.75),
        ({"retry-after-ms": "250", "x-ms-retry-after-ms": "750"}, 0.25),
        ({"llm_provider-retry-after-ms": "40"}, 0.04),
        ({"retry-after-ms": "1e300", "retry-after": "3"}, 3.0),
        ({"retry-after": "+4"}, 4.0),
        ({"retry-after": ".5"}, 0.5),
        ({"retry-after": "007"}, 7.0),
        ({"retry-after": 1e-05}, 1e-05),
        ({"retry-after": str(366 * 86400)}, 31_622_400.0),
        ({"retry-after": str(366 * 86400 + 1)}, None),
        ({"retry-after": str(int(NOW))}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "1,5"}, None),
        ({"retry-after": "0x10"}, None),
        ({"retry-after": "-0.5"}, None),
        ({"retry-after": "20s"}, None),
        ({"retry-after": "1, 2"}, None),
        ({"retry-after": "Friday, 15-Jan-27 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri Jan 15 08:00:30 2027"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 09:00:30 +0100"}, 30.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
        ({"retry-after": "Fri, 42 Jan 2027 08:00:30 GMT"}, None),
        ({"retry-after": "2027-01-15T08:00:30Z"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "12 parsecs"}, None),
        ({"retry-after": None}, None),
        ({"retry-after": b"7"}, None),
        ({1: 2, None: 3}, None),
        ({}, None),
        (None, None),
        ("retry-after: 7", None),
        ([("retry-after", "7")], None),
        (Raising(), None),
    ],
)
def test_retry_after(headers: object, seconds: float | None) -> None:
    found = retry_after_seconds(headers, NOW)
    assert found == seconds
    assert type(found) is type(seconds)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            Ratelimit(59.0, 149984.0, 360.0),
        ),
        ({"llm_provider-x-ratelimit-remaining-requests": 9}, Ratelimit(9.0)),
        ({"X-RateLimit-Reset-Tokens": "20ms"}, Ratelimit(None, None, 0.02)),
        ({"x-ratelimit-reset-tokens": "1d2h3m4.5s"}, Ratelimit(None, None, 93784.5)),
        ({"x-ratelimit-reset-requests": "12"}, Ratelimit(None, None, 12.0)),
        (
            {
                "anthropic-ratelimit-requests-remaining": "5",
                "anthropic-ratelimit-tokens-remaining": "100",
                "anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:30Z",
            },
            Ratelimit(5.0, 100.0, 30.0),
        ),
        ({"x-ratelimit-remaining-requests": "many"}, Ratelimit()),
        ({"x-ratelimit-reset-requests": "soon"}, Ratelimit()),
        ({}, Ratelimit()),
        (None, Ratelimit()),
        (Raising(), Ratelimit()),
    ],
)
def test_ratelimit(headers: object, expected: Ratelimit) -> None:
    assert ratelimit(headers, NOW) == expected
