"""Two network namespaces, a node's and the world's, joined by one wire on which every frame is counted.

The world answers at every address: TCP that nobody expects is accepted and read, DNS says what the attacker wants. So a
byte that the node would send anywhere has a peer that takes it, and a zero is no artefact of a missing listener.
"""

import ctypes
import itertools
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from homeplate.clock import WallClock, perf_ns

NODE_ADDRESS = "10.66.0.2"
WORLD_ADDRESS = "10.66.0.1"
NODE_ADDRESS6, WORLD_ADDRESS6 = "fd66::2", "fd66::1"
BROKER_ADDRESS = "198.51.100.10"  # TEST-NET-2: the good agency's
OTHER_ADDRESS = "203.0.113.10"  # TEST-NET-3: another state's broker, as real as the good one
TRAP_ADDRESS = "203.0.113.66"
PORT = 8883
TRAP_PORT = 7777
ANY = "0.0.0.0"  # noqa: S104 - in a namespace of its own, where every address is a trap

_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_PACKET_STATISTICS = 6
_SOL_PACKET = 263
_SO_RCVBUFFORCE = 33
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
# Neighbour discovery and multicast listener reports: the kernel's own, without a byte of any process.
_ICMP6_HOUSEKEEPING = frozenset({130, 131, 132, 133, 134, 135, 136, 143})
_MARKER_PORT = 9

Peer = tuple[str, str, int]
"""Protocol, destination address, destination port."""


def why_not():
    """Return why namespaces cannot be had here; None where they can."""
    for program, package in (("ip", "iproute2"), ("nft", "nftables"), ("mosquitto", "mosquitto")):
        if find(program) is None:
            return f"{program} is not installed: apt install {package}"
    if os.geteuid() != 0:
        return "network namespaces need root here"
    try:
        with named("probe") as namespace, inside(namespace):
            pass
    except (subprocess.CalledProcessError, OSError) as error:
        return f"network namespaces are not allowed here: {error}"
    return None


def find(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def call(*words, text=None):
    done = subprocess.run([find(words[0]), *words[1:]], check=False, capture_output=True, text=True, input=text)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr.strip())
    return done.stdout


@contextmanager
def named(name):
    """Have a network namespace while the context lasts; its name is this process's own."""
    full = f"hp-{name}-{os.getpid()}"
    call("ip", "netns", "add", full)
    try:
        yield full
    finally:
        call("ip", "netns", "delete", full)


@contextmanager
def inside(namespace):
    """Let this thread's sockets and child processes be of `namespace`; those made before stay where they are."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as before, Path(f"/run/netns/{namespace}").open("rb") as wanted:
        _enter(libc, wanted.fileno())
        try:
            yield
        finally:
            _enter(libc, before.fileno())


def _enter(libc, descriptor):
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass
class Seen:
    """What the wire carried since the last look: packets and payload bytes a peer, payload bytes with their time."""

    packets: Counter = field(default_factory=Counter)
    payload: Counter = field(default_factory=Counter)
    times: list = field(default_factory=list)

    def bytes_to_others(self, named_peers):
        return sum(count for peer, count in self.payload.items() if peer not in named_peers)

    def packets_to_others(self, named_peers):
        return sum(count for peer, count in self.packets.items() if peer not in named_peers)


class Capture:
    """Counts every frame that leaves the node, on the world's end of the wire."""

    def __init__(self, world, device):
        with inside(world):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 * 1024 * 1024)
        self._socket.bind((device, 0))
        self._socket.settimeout(0.2)
        self._seen, self._lock, self._stop = Seen(), threading.Lock(), threading.Event()
        self._marks, self._marked = itertools.count(1), threading.Condition()
        self._last_mark = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                frame, (_, _, kind, _, _) = self._socket.recvfrom(70_000)
            except TimeoutError:
                continue
            if kind != _PACKET_OUTGOING:
                self._count(frame)

    def _count(self, frame):
        peer, payload = parse(frame)
        if peer == ("udp", WORLD_ADDRESS, _MARKER_PORT):
            with self._marked:
                self._last_mark = int.from_bytes(payload[:8], "big")
                self._marked.notify_all()
            return
        with self._lock:
            self._seen.packets[peer] += 1
            if payload:
                self._seen.payload[peer] += len(payload)
                self._seen.times.append((WallClock().now_ns(), peer, len(payload)))

    def take(self, node):
        """Return what was seen since the last call, and begin anew; raises as `peek` does."""
        seen = self.peek(node)
        with self._lock:
            self._seen = Seen()
        return seen

    def peek(self, node):
        """Return what was seen since the last `take`. A marker sent last tells that all before it was counted.

        Raises:
            RuntimeError: where the kernel dropped a frame of the capture, or the marker does not come.
        """
        mark = next(self._marks)
        with inside(node), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(mark.to_bytes(8, "big"), (WORLD_ADDRESS, _MARKER_PORT))
        with self._marked:
            if not self._marked.wait_for(lambda: self._last_mark == mark, timeout=10):
                raise RuntimeError("the capture does not see the marker: nothing it says can be believed")
        _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if dropped:
            raise RuntimeError(f"the capture lost {dropped} frames: nothing it says can be believed")
        with self._lock:
            packets = {peer: count for peer, count in self._seen.packets.items() if peer[0] != "kernel"}
            return Seen(Counter(packets), Counter(self._seen.payload), list(self._seen.times))

    def close(self):
        self._stop.set()
        self._thread.join(5)
        self._socket.close()


def parse(frame):
    """Return the peer that an Ethernet frame goes to, and the payload above IP, TCP or UDP."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x0806:
        return ("kernel", "arp", 0), b""
    if kind == 0x0800:
        header = (frame[14] & 15) * 4
        length = int.from_bytes(frame[16:18], "big")
        where = socket.inet_ntop(socket.AF_INET, frame[30:34])
        return _transport(frame[23], where, frame[14 + header : 14 + length])
    if kind == 0x86DD:
        length = int.from_bytes(frame[18:20], "big")
        where, body = socket.inet_ntop(socket.AF_INET6, frame[38:54]), frame[54 : 54 + length]
        following = frame[20]
        if following == 0:  # hop by hop options stand before a listener report
            following, body = body[0], body[8 + 8 * body[1] :]
        if following == 58 and body and body[0] in _ICMP6_HOUSEKEEPING:
            return ("kernel", "icmp6", 0), b""
        return _transport(following, where, body)
    return (f"ethertype-{kind:04x}", "", 0), frame[14:]


def _transport(number, where, body):
    name = _PROTOCOLS.get(number, f"ip-{number}")
    if name == "tcp" and len(body) >= 20:
        return (name, where, int.from_bytes(body[2:4], "big")), body[(body[12] >> 4) * 4 :]
    if name == "udp" and len(body) >= 8:
        return (name, where, int.from_bytes(body[2:4], "big")), body[8:]
    return (name, where, 0), body


class World:
    """The namespaces, the wire, and who answers on it. `seat` gives an address of a broker to a handler."""

    def __init__(self):
        self._stack = ExitStack()
        self.handlers = {}
        self.dns_queries = []
        self.trapped = Counter()
        self.threads = []
        self.failures = []

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _build(self):
        self.node = self._stack.enter_context(named("node"))
        self.world = self._stack.enter_context(named("world"))
        self._wire()
        call("ip", "netns", "exec", self.world, find("nft"), "-f", "-", text=_world_rules())
        self.capture = Capture(self.world, "wire")
        self._stack.callback(self.capture.close)
        for address in (BROKER_ADDRESS, OTHER_ADDRESS):
            self._listen(address, PORT, lambda connection, address=address: self._serve(address, connection))
        self._listen(ANY, TRAP_PORT, self._trap)
        self._listen("::", TRAP_PORT, self._trap)
        self._answer_dns()

    def _wire(self):
        def on(namespace, *words):
            call("ip", "-netns", namespace, *words)

        call(
            "ip", "link", "add", "wire", "netns", self.world, "type", "veth", "peer", "name", "eth0", "netns", self.node
        )
        for namespace, device, four, six in (
            (self.node, "eth0", NODE_ADDRESS, NODE_ADDRESS6),
            (self.world, "wire", WORLD_ADDRESS, WORLD_ADDRESS6),
        ):
            on(namespace, "address", "add", f"{four}/24", "dev", device)
            on(namespace, "-6", "address", "add", f"{six}/64", "dev", device, "nodad")
            on(namespace, "link", "set", "lo", "up")
            on(namespace, "link", "set", device, "up")
        on(self.node, "route", "add", "default", "via", WORLD_ADDRESS)
        on(self.node, "-6", "route", "add", "default", "via", WORLD_ADDRESS6)
        for address in (BROKER_ADDRESS, OTHER_ADDRESS):
            on(self.world, "address", "add", f"{address}/32", "dev", "wire")
        # Every other address is the world's too, but only for what comes in by the wire.
        for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
            on(self.world, family, "route", "add", "local", everything, "dev", "lo", "table", "100")
            on(self.world, family, "rule", "add", "pref", "100", "iif", "wire", "lookup", "100")

    def _listen(self, address, port, handle):
        with inside(self.world):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        self._stack.callback(listener.close)
        self._stack.callback(_wake, listener)

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=self._guarded, args=(handle, connection), daemon=True)
                thread.start()
                self.threads.append(thread)  # after: `settle` joins what is here

        threading.Thread(target=accept, daemon=True).start()

    def _guarded(self, handle, connection):
        with connection:
            connection.settimeout(15)
            with suppress(OSError):
                handle(connection)

    def _serve(self, address, connection):
        handler = self.handlers.get(address)
        if handler is not None:
            handler(connection)

    def _trap(self, connection):
        while data := connection.recv(65536):
            self.trapped[connection.getsockname()[0]] += len(data)

    def _answer_dns(self):
        with inside(self.world):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((WORLD_ADDRESS, 53))
        self._stack.callback(server.close)
        self._stack.callback(_wake, server)

        def answer():
            while True:
                try:
                    query, sender = server.recvfrom(1500)
                except OSError:
                    return
                if not query:
                    return
                self.dns_queries.append(query)
                with suppress(ValueError):
                    server.sendto(_dns_answer(query), sender)

        threading.Thread(target=answer, daemon=True).start()

    def settle(self):
        """Wait until what was accepted is served to its end; then counters of handlers are whole."""
        deadline = perf_ns() + 20_000_000_000
        for thread in self.threads:
            thread.join(max(0.0, (deadline - perf_ns()) / 1e9))
        self.threads = [thread for thread in self.threads if thread.is_alive()]

    def dial_local(self, port):
        """Return a connection to a broker on the world's loopback."""
        with inside(self.world):
            return socket.create_connection(("127.0.0.1", port), timeout=10)


def _wake(sock):
    """End a thread's accept or recv: closing the socket alone does not."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _dns_answer(query):
    """Return that whatever is asked lives at the trap, for a second."""
    question = query[12 : query.index(b"\0", 12) + 5]
    record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 1, 4) + socket.inet_aton(TRAP_ADDRESS)
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record


def _world_rules():
    seats = f"{{ {BROKER_ADDRESS}, {OTHER_ADDRESS} }}"
    return (
        "table inet traps {\n\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat;\n"
        f"\t\tiifname wire ip daddr {seats} tcp dport {PORT} accept\n"
        f"\t\tiifname wire meta l4proto tcp redirect to :{TRAP_PORT}\n\t}}\n}}\n"
    )
