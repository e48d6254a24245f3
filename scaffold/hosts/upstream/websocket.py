"""A WebSocket at the built-in upstream: every message comes back as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from wsproto import WSConnection


class Echo:
    """An open WebSocket. `head` is the answer that opens it; `ended` says that one side has closed it."""

    def __init__(self, connection: WSConnection, head: bytes) -> None:
        self._connection = connection
        self.head = head
        self.ended = False

    @classmethod
    def accepting(cls, target: bytes, headers: list[tuple[bytes, bytes]]) -> Self | None:
        """Open the WebSocket that a GET asks for; None if it asks for none, or not as RFC 6455 says."""
        import h11
        from wsproto import ConnectionType, WSConnection
        from wsproto.events import AcceptConnection, Request
        from wsproto.utilities import ProtocolError

        connection = WSConnection(ConnectionType.SERVER)
        try:
            connection.initiate_upgrade_connection(headers, target.decode("latin-1"))
            requests = [event for event in connection.events() if isinstance(event, Request)]
            protocol = next((name for request in requests for name in request.subprotocols), None)
            return cls(connection, connection.send(AcceptConnection(subprotocol=protocol)))
        except (ProtocolError, h11.ProtocolError):
            return None

    def answer(self, data: bytes) -> bytes:
        """What to send when these bytes have come."""
        from wsproto.events import CloseConnection, Message, Ping

        answers = []
        self._connection.receive_data(data)
        for event in self._connection.events():
            if isinstance(event, Message):
                answers.append(self._connection.send(event))
            elif isinstance(event, Ping | CloseConnection):
                answers.append(self._connection.send(event.response()))
                self.ended = isinstance(event, CloseConnection)
        return b"".join(answers)
