"""A server on this machine that speaks OpenAI's chat completions, its errors too."""

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RATE_LIMITED = {
    "error": {
        "message": "Rate limit reached for gpt-4o-mini in organization org-1 on requests per min "
        "(RPM): Limit 3, Used 3, Requested 1. Please try again in 7s.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
}
NO_KEY = {
    "error": {
        "message": "Incorrect API key provided: sk-1.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
}
BROKEN = {
    "error": {
        "message": "The server had an error while processing your request. Sorry about that!",
        "type": "server_error",
        "param": None,
        "code": None,
    }
}


def completion(content=None, tool_calls=(), *, tokens=(12, 5)):
    """An answer as the API gives it."""
    message = {"role": "assistant", "content": content, "refusal": None}
    if tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for number, (name, arguments) in enumerate(tool_calls, 1)
        ]
    prompt, answer = tokens
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls" if tool_calls else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def chunks(*texts):
    """The same, streamed as server-sent events."""
    base = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "gpt-4o-mini-2024-07-18",
    }
    deltas = [{"role": "assistant", "content": ""}, *({"content": text} for text in texts)]
    lines = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    lines.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    lines.append({**base, "choices": [], "usage": usage})
    events = [f"data: {json.dumps(line)}\n\n" for line in lines]
    return "".join([*events, "data: [DONE]\n\n"]).encode()


class ModelServer:
    """Gives the answers that it was told to give, one a request, the last one ever after."""

    def __init__(self):
        self.requests = []
        self._answers = [(200, {}, completion("hello"))]
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                server.requests.append(json.loads(self.rfile.read(length)))
                server.answer(self)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    @property
    def url(self):
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def will_answer(self, *answers):
        """Say what comes next: bodies, or tuples of status, headers and body."""
        self._answers = [it if isinstance(it, tuple) else (200, {}, it) for it in answers]

    def answer(self, handler):
        answers = self._answers
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if body == "stall":
            time.sleep(0.5)
            body = completion("late")
        kind = "application/json" if isinstance(body, dict) else "text/event-stream"
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        with suppress(ConnectionError):
            handler.send_response(status)
            for name, value in {"Content-Type": kind, **headers}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(raw)))
            handler.end_headers()
            handler.wfile.write(raw)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
