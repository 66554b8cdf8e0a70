"""Prints the members of each room, live, and recovers after a lost connection.

A small client of docs/protocol.md ("A complete client"), for the demo:

    python rooms.py [hub] [token URL]

Needs Python 3.11 or newer and the package `websockets`.
"""

import json
import random
import sys
import time
from urllib.request import urlopen

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

# After these close codes, reconnecting would fail again until somebody changes something.
STAY_AWAY = {1000, 1002, 1003, 1007, 1008, 1009, 4400, 4403}
QUIET_S, PONG_S = 25, 10
BACKOFF_S, BACKOFF_MAX_S = 0.5, 15


class Gap(Exception):
    """A frame is missing, so the next one cannot be applied."""


class Guild:
    """One guild in this client's view: its rooms, and the position that they belong to."""

    def __init__(self):
        self.rooms = {}  # channelId -> {"name": …, "members": {userId: name}}
        self.position = None
        self.number = None  # `n` of the newest frame. None: a snapshot must come first
        self.parts = []
        self.gateway = "unknown"
        self.wait = None  # id of the unanswered `subscribe`: frames before its answer are ignored

    def subscribed(self, frame):
        if self.wait not in (None, frame.get("re")):
            return
        self.wait = None
        self.parts, self.gateway = [], "unknown"
        self.position = frame["pos"]
        self.number = 0 if frame["recovered"] else None

    def event(self, frame):
        """Applies an event. Raises Gap if one before it is missing."""
        name, payload = frame["event"], frame["payload"]
        if self.wait is not None:
            return
        if name == "gateway.state":
            self.gateway = payload["state"]
        elif name == "guild.snapshot":
            self.snapshot(frame, payload)
        elif "n" in frame:
            if self.number is None or self.parts or frame["n"] != self.number + 1:
                raise Gap(f"event {frame['n']} after {self.number}")
            self.change(name, payload)
            self.number, self.position = frame["n"], frame["pos"]

    def snapshot(self, frame, payload):
        part, of = payload.get("part", 1), payload.get("of", 1)
        if part == 1:
            self.parts = []
        elif part != len(self.parts) + 1:
            raise Gap(f"part {part} after {len(self.parts)}")
        self.parts.append(payload["rooms"])
        self.position, self.gateway = frame["pos"], payload["gateway"]["state"]
        if part < of:
            return
        self.rooms = {}
        for room in (room for rooms in self.parts for room in rooms):
            known = self.rooms.setdefault(room["channelId"], {"name": room["name"], "members": {}})
            known["members"] |= {voice["userId"]: name_of(voice) for voice in room["members"]}
        self.parts, self.number = [], 0

    def change(self, name, payload):
        channel, user = payload.get("channelId"), payload.get("userId")
        if name in ("room.created", "room.updated"):
            members = self.rooms.get(channel, {}).get("members", {})
            self.rooms[channel] = {"name": payload["name"], "members": members}
        elif name == "room.deleted":
            self.rooms.pop(channel, None)
        elif name in ("voice.joined", "voice.state_changed"):
            if channel not in self.rooms:
                raise Gap(f"{name} in an unknown room")
            for room in self.rooms.values():
                room["members"].pop(user, None)
            self.rooms[channel]["members"][user] = name_of(payload)
        elif name == "voice.left" and channel in self.rooms:
            self.rooms[channel]["members"].pop(user, None)

    def __str__(self):
        rooms = (
            f"{room['name']}: {', '.join(sorted(room['members'].values())) or '-'}"
            for room in self.rooms.values()
        )
        return " | ".join(sorted(rooms)) + ("" if self.gateway == "live" else f"  (stale: {self.gateway})")


def name_of(voice):
    return voice.get("member", {}).get("displayName") or voice["userId"]


class Client:
    def __init__(self, hub, token_url):
        self.address = hub.replace("http", "ws", 1).rstrip("/") + "/api/ws"
        self.token_url = token_url
        self.guilds = {}
        self.attempt = self.asked = 0
        self.retry_after_s = self.reconnect_after_s = 0

    def run(self):
        """Returns when reconnecting would fail again."""
        while True:
            self.retry_after_s = self.reconnect_after_s = 0
            code = self.connection()
            if code in STAY_AWAY:
                return code
            # Full jitter: clients that lost their hub do not reconnect in one moment.
            ceiling = min(BACKOFF_MAX_S, BACKOFF_S * 2 ** min(self.attempt, 10))
            wait = max(random.uniform(0, ceiling), self.retry_after_s)
            if code in (1001, 1012):
                wait = max(wait, self.reconnect_after_s)
            self.attempt += 1
            print(f"lost ({code}), again in {wait:.1f} s", flush=True)
            time.sleep(wait)

    def connection(self):
        """One connection, from its token to its end. Returns its close code; 1006 for a lost network."""
        try:
            with urlopen(self.token_url, timeout=10) as response:
                token = response.read().decode().strip()
            with connect(self.address, open_timeout=10, max_size=2**20) as socket:
                self.authenticate(socket, token)
                while True:
                    self.frame(socket, json.loads(self.receive(socket)))
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006
        except InvalidStatus as refusal:
            # Before the upgrade: 503 is a hub that is full or drains. All others would fail again.
            if refusal.response.status_code != 503:
                return 4403
            self.retry_after_s = float(refusal.response.headers.get("retry-after", 1))
            return 1006
        except (OSError, TimeoutError, WebSocketException) as error:
            print(f"network: {error}", flush=True)
            return 1006

    def authenticate(self, socket, token):
        recover = {id: guild.position for id, guild in self.guilds.items() if guild.rooms and guild.position}
        socket.send(json.dumps({"type": "auth", "token": token, "recover": recover}))

    def receive(self, socket):
        try:
            return socket.recv(timeout=QUIET_S)
        except TimeoutError:
            socket.send('{"type":"ping"}')
            return socket.recv(timeout=PONG_S)

    def frame(self, socket, frame):
        """Applies one frame. Unknown frames are from a newer hub, and are ignored."""
        kind, event = frame["type"], frame.get("event")
        id, guild = frame.get("guildId"), self.guilds.get(frame.get("guildId"))
        if kind == "event" and guild:
            self.attempt = 0
            try:
                guild.event(frame)
                print(guild, flush=True)
            except Gap as gap:
                print(f"gap: {gap}", flush=True)
                self.ask(socket, id)
        elif event == "auth.ok":
            self.guilds = {id: self.guilds.get(id) or Guild() for id in frame["guilds"]}
            for guild in self.guilds.values():
                guild.wait = None
        elif event == "subscribed" and guild:
            guild.subscribed(frame)
            print("continued" if frame["recovered"] else "from a snapshot", flush=True)
        elif event == "unsubscribed":
            self.guilds.pop(id, None)
        elif event == "draining":
            self.reconnect_after_s = frame["reconnectAfterMs"] / 1000
        elif kind == "error":
            self.retry_after_s = frame["error"].get("retryAfterMs", 0) / 1000
            print(f"error: {frame['error']['message']}", flush=True)
            if "re" in frame:
                # A refused `subscribe`: a new connection tries again, after its backoff.
                socket.close(4000)

    def ask(self, socket, id):
        """Asks for a snapshot of one guild."""
        self.asked += 1
        self.guilds[id] = Guild()
        self.guilds[id].wait = self.asked
        socket.send(json.dumps({"type": "subscribe", "guildId": id, "id": self.asked}))


if __name__ == "__main__":
    hub = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000"
    token_url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:3901/token?sub=ada"
    try:
        code = Client(hub, token_url).run()
        sys.exit(f"the hub ended the connection for good ({code})")
    except KeyboardInterrupt:
        pass
