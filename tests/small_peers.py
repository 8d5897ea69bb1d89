"""Processes of the benchmark whose matrices and streamed images are small."""

from benchmark import measure, peer_ours, peers

MATRIX_SIZE, STREAMED_SIDE = 512, 64


def small_peers(monkeypatch, processes) -> None:
    """Lets the benchmark start these, of a multiprocessing context."""
    monkeypatch.setattr(peers, "PROCESSES", processes)
    monkeypatch.setattr(peers, "serve", serve_small)
    monkeypatch.setattr(measure, "MATRIX_GFLOP", 2 * MATRIX_SIZE**3 / 1e9)


serve = peers.serve


def serve_small(name, work, task, connection) -> None:
    peer_ours.MATRIX_SIZE, peer_ours.STREAMED_SIDE = MATRIX_SIZE, STREAMED_SIDE
    serve(name, work, task, connection)
