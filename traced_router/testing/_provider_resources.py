"""What the endpoints around the models answer: images, audio, moderation, rerank, files, batches, vector stores.

The bodies are as small as they can be while clients still parse them. Nothing is kept: whatever
was created can be fetched, under any id. This module must know nothing of HTTP, of streams or of faults.
"""

import json
from collections.abc import Callable
from typing import cast

from traced_router.testing._provider_behaviours import Answer
from traced_router.testing._provider_bodies import CREATED, Body, Call, chat


def images(_call: Call, answer: Answer) -> Body:
    body: dict[str, object] = {"created": CREATED, "data": [{"b64_json": "aGVsbG8="}]}
    if answer.usage:
        body["usage"] = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"text_tokens": answer.input_tokens, "image_tokens": 0},
            "output_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return body


def transcription(_call: Call, answer: Answer) -> Body:
    return {"text": answer.full_text}


def speech(_call: Call, answer: Answer) -> bytes:
    return b"ID3" + answer.full_text.encode()


def moderations(call: Call, answer: Answer) -> Body:
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.01}}
    return {"id": call.new_id("modr"), "model": call.answering_model(answer), "results": [result]}


def rerank(call: Call, answer: Answer) -> Body:
    """Documents in the order in which they came, with scores that fall."""
    asked = call.request.get("documents")
    documents = cast("list[object]", asked) if isinstance(asked, list) else [answer.full_text]
    top = call.request.get("top_n")
    count = min(top, len(documents)) if isinstance(top, int) else len(documents)
    return {
        "id": call.new_id("rerank"),
        "results": [{"index": index, "relevance_score": round(1 / (index + 1), 3)} for index in range(count)],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }


def models(_call: Call, answer: Answer) -> Body:
    model = {"id": answer.response_model or "fake-model", "object": "model", "created": CREATED, "owned_by": "fake"}
    return {"object": "list", "data": [model]}


def file(call: Call, answer: Answer) -> Body:
    return {
        "id": call.new_id("file"),
        "object": "file",
        "bytes": len(answer.full_text),
        "created_at": CREATED,
        "filename": "fake.jsonl",
        "purpose": "batch",
        "status": "processed",
    }


def file_content(call: Call, answer: Answer) -> bytes:
    """A batch's output, for that is the file that clients read without being asked: litellm does, to count its cost."""
    line = {"id": "batch_req_1", "custom_id": "request-1", "error": None}
    return json.dumps(
        {**line, "response": {"status_code": 200, "request_id": "req-1", "body": chat(call, answer)}}
    ).encode()


def batch(call: Call, _answer: Answer) -> Body:
    return {
        "id": call.new_id("batch", "_"),
        "object": "batch",
        "endpoint": call.request.get("endpoint", "/v1/chat/completions"),
        "errors": None,
        "input_file_id": call.request.get("input_file_id", "file-1"),
        "completion_window": call.request.get("completion_window", "24h"),
        "status": "in_progress",  # litellm fetches the output of a batch that is completed, in the background
        "created_at": CREATED,
        "request_counts": {"total": 1, "completed": 0, "failed": 0},
    }


def vector_store(call: Call, _answer: Answer) -> Body:
    return {
        "id": call.new_id("vs", "_"),
        "object": "vector_store",
        "created_at": CREATED,
        "name": call.request.get("name", "fake"),
        "bytes": 0,
        "usage_bytes": 0,
        "status": "completed",
        "file_counts": {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0},
    }


def vector_store_search(call: Call, answer: Answer) -> Body:
    asked = call.request.get("query")
    queries = cast("list[object]", asked) if isinstance(asked, list) else [asked]
    found = {
        "file_id": "file-1",
        "filename": "fake.txt",
        "score": 0.9,
        "attributes": {"source": "fake"},
        "content": [{"type": "text", "text": answer.full_text}],
    }
    return {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": [found],
        "has_more": False,
        "next_page": None,
    }


def deleted(call: Call, _answer: Answer) -> Body:
    return {"id": call.path.rsplit("/", 1)[-1], "object": "deleted", "deleted": True}


def listing(one: Callable[[Call, Answer], Body]) -> Callable[[Call, Answer], Body]:
    """The list endpoint of a resource: a page with one of it."""

    def page(call: Call, answer: Answer) -> Body:
        entry = one(call, answer)
        return {"object": "list", "data": [entry], "first_id": entry["id"], "last_id": entry["id"], "has_more": False}

    return page
