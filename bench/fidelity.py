"""What a gateway makes of one Messages request and its answer: every check asks for what the wire had, not for what the gateway meant."""
import contextlib, http.client, json, socket, threading, time

# Spaces, escapes and an order of our own, so that a body that was parsed and written anew is another one.
BODY = ('{"model" :"%s", "max_tokens": 64,"temperature":1.0,  "messages":[{"role":"user","content":[{"type":"text","text":"caf\\u00e9 \\/ na\\u00efve"}]}],'
        ' "stream":true, "metadata":{"user_id":"u-1"}, "future_member":{"deep":[1,2.50,3e2]}}')
FRAMES = [
    'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1,"future_count":7}}}\n\n',
    ': a comment\n\n',
    'event: content_block_start\ndata: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}\n\n',
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"caf\\u00e9"}}\n\n',
    'event: future_event\ndata: {"type":"future_event","what":"nobody knows yet"}\n\n',
    'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}\n\n',
    'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]
# What every gateway knows: the checks of the way it goes are made with these.
PLAIN = [frame for frame in FRAMES if "future_event" not in frame and not frame.startswith(":")]
ERROR = b'{"type":"error","error":{"type":"rate_limit_error","message":"word for word"},"request_id":"req_9"}'


class Upstream:
    """Answers each request with the next behaviour, and keeps what came."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.behaviour, self.heads, self.bodies, self.left = "whole", [], [], threading.Event()
        self.go_on = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer_all, args=(connection,), daemon=True).start()

    def answer_all(self, connection):
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                head = {}
                while (field := reader.readline().strip()):
                    name, value = field.decode("latin-1").split(":", 1)
                    head[name.lower()] = value.strip()
                body = b""
                if "content-length" in head:
                    body = reader.read(int(head["content-length"]))
                elif "chunked" in head.get("transfer-encoding", ""):
                    while size := int(reader.readline(), 16):
                        body += reader.read(size)
                        reader.readline()
                    reader.readline()
                if not line.startswith(b"POST") or b"/messages" not in line or b"count_tokens" in line:
                    text = b'{"data":[{"type":"model","id":"claude-haiku-4-5","display_name":"x","created_at":"2026-01-01T00:00:00Z"}],"has_more":false,"first_id":null,"last_id":null}'
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
                    continue
                self.heads.append(head)
                self.bodies.append(body)
                if not self.answer(connection):
                    return

    def answer(self, connection):
        if self.behaviour == "error":
            connection.sendall(b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 37\r\nanthropic-ratelimit-requests-remaining: 0\r\ncontent-length: %d\r\n\r\n%s" % (len(ERROR), ERROR))
            return True
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n")
        send = lambda text: connection.sendall(b"%x\r\n%s\r\n" % (len(text.encode()), text.encode()))
        for number, frame in enumerate(FRAMES if self.behaviour == "whole" else PLAIN):
            if self.behaviour == "cut" and number == 3:
                return False
            if self.behaviour == "held" and number == 3:
                self.go_on.wait(10)
            send(frame)
            if self.behaviour == "endless" and number == 2:
                return self.on_and_on(send)
        connection.sendall(b"0\r\n\r\n")
        return True

    def on_and_on(self, send):
        """Until whoever listens has gone."""
        while self.behaviour == "endless":
            try:
                send(PLAIN[2])
            except OSError:
                self.left.set()
                break
            time.sleep(0.02)
        return False


def member(text, name):
    try:
        return json.loads(text)[name]
    except (ValueError, KeyError):
        return None


def ask(address, path, body, headers, timeout=15):
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    connection.request("POST", path, body.encode(), {"content-type": "application/json", **headers})
    return connection, connection.getresponse()


def fidelity(address, upstream, model, headers, path="/v1/messages"):
    """Each check's name, and whether it holds."""
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "future-beta-2026-01-01", "x-own-header": "kept", **headers}
    body, found = BODY % model, {}

    def whole(behaviour):
        upstream.behaviour = behaviour
        connection, answer = ask(address, path, body, headers)
        try:
            text = answer.read()
            ended = True
        except (http.client.HTTPException, OSError) as error:
            text, ended = getattr(error, "partial", b""), False
        connection.close()
        return answer, text, ended

    upstream.heads.clear(), upstream.bodies.clear()
    _, text, _ = whole("whole")
    sent, head = (upstream.bodies[-1], upstream.heads[-1]) if upstream.bodies else (b"", {})
    found["the request's bytes"] = sent == body.encode()
    found["an unknown member of the request"] = member(sent, "future_member") == {"deep": [1, 2.5, 300]}
    found["`anthropic-beta`"] = "future-beta-2026-01-01" in head.get("anthropic-beta", "")
    found["another header"] = head.get("x-own-header") == "kept"
    found["the answer's bytes"] = text == "".join(FRAMES).encode()
    found["an unknown event"] = b"future_event" in text
    found["an unknown count"] = b"future_count" in text

    def held():
        upstream.go_on.clear()
        connection, answer = ask(address, path, body, headers, timeout=3)
        early = b""
        while b"message_start" not in early and (piece := answer.read1(4096)):
            early += piece
        connection.close()
        return b"message_start" in early

    def cut():
        answer, text, ended = whole("cut")
        return answer.status >= 400 or not ended or b'"error"' in text

    def endless():
        upstream.left.clear()
        connection, answer = ask(address, path, body, headers)
        answer.read1(16)
        answer.close(), connection.close()
        return upstream.left.wait(2)

    for name, behaviour, holds in (("a frame leaves before the next one comes", "held", held), ("a cut answer does not look whole", "cut", cut), ("who leaves stops the upstream in 2 s", "endless", endless)):
        upstream.behaviour = behaviour
        try:
            found[name] = holds()
        except (http.client.HTTPException, OSError):
            found[name] = False
        upstream.go_on.set()

    answer, text, _ = whole("error")
    found["an error's status and words"] = answer.status == 429 and b"word for word" in text
    found["`retry-after`"] = answer.getheader("retry-after") == "37"
    upstream.behaviour = "whole"
    return found
