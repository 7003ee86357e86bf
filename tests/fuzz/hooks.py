"""What schemathesis is told beyond the OpenAPI document (tests/openapi-fuzz.test.ts runs it).

Values made up by a generator name nothing that exists, and so would meet nothing but the first refusal. Here most ids, currencies
and references of a request are exchanged for those of accounts, transfers, holds and quotes that were made before.
"""

import itertools
import json
import os
import re
import uuid
import zlib

import schemathesis

with open(os.environ["LEDGERMESH_FUZZ_POOL_FILE"], encoding="utf-8") as pool_file:
    POOL = json.load(pool_file)
REASONS = {}
RUN = uuid.uuid4().hex
COUNTER = itertools.count()
RETRY_AFTER = re.compile(r"[1-9][0-9]*")


def chosen(name, value):
    """One of the pool for three values out of four, always the same for the same value."""
    values = POOL.get(name)
    if not values or not isinstance(value, str):
        return value
    number = zlib.crc32(value.encode("utf-8", "surrogatepass"))
    return value if number % 4 == 0 else values[number // 4 % len(values)]


def exchanged(value, name=""):
    if isinstance(value, dict):
        return {key: exchanged(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [exchanged(inner, name) for inner in value]
    return chosen(name, value)


@schemathesis.hook
def map_path_parameters(ctx, path_parameters):
    return exchanged(path_parameters)


@schemathesis.hook
def map_query(ctx, query):
    return exchanged(query)


@schemathesis.hook
def map_body(ctx, body):
    body = exchanged(body)
    if isinstance(body, dict) and zlib.crc32(repr(body).encode("utf-8", "surrogatepass")) % 8 != 0:
        # The header has the key; another one in the body is refused.
        body.pop("idempotency_key", None)
    return body


@schemathesis.hook
def map_headers(ctx, headers):
    if headers and isinstance(headers.get("Idempotency-Key"), str) and next(COUNTER) % 8 != 0:
        headers["Idempotency-Key"] = f"{RUN}-{next(COUNTER)}"
    return headers


@schemathesis.check
def errors_are_listed(ctx, response, case):
    """Every error has a reason of docs/errors.md with its status, and says when to try again."""
    if response.status_code < 400:
        return
    raw = case.operation.schema.raw_schema
    if not REASONS:
        REASONS.update({row["reason"]: row["http_statuses"] for row in raw["x-ledgermesh-reasons"]})
    reason = json.loads(response.text)["details"][0]["reason"]
    assert reason in REASONS, f"the reason {reason} is not in docs/errors.md"
    assert response.status_code in REASONS[reason], f"{reason} came with {response.status_code}, not {REASONS[reason]}"
    if response.status_code in (429, 503):
        retry_after = response.headers.get("retry-after", [""])[0]
        assert RETRY_AFTER.fullmatch(retry_after), f"{reason} came with Retry-After {retry_after!r}"
