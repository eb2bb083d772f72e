"""Encrypted files beside the cipher alone (`cryptography`, on the same bytes in memory) and beside plain files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.contest import Contender, Contest
from bench.plugin import Size
from model_forensics.files import EncryptionKey, Seal, create_file, open_content, pieces_of

PIECE = 1 << 20
SEAL = Seal(EncryptionKey(bytes(range(32))), "bench")
RAW = AESGCM(bytes(range(32)))


def nonces(count: int) -> list[bytes]:
    return [number.to_bytes(12, "big") for number in range(count)]


def write(path: Path, piece: bytes, count: int, seal: Seal | None) -> int:
    with create_file(path, seal) as out:
        return sum(out.write(piece) for _ in range(count))


def read(path: Path, seal: Seal | None) -> int:
    return sum(len(piece) for piece in pieces_of(open_content(path, seal)))


def check(total: int) -> Callable[[int], None]:
    def same(result: int) -> None:
        assert result == total

    return same


def test_writing(contest: Contest, size: Size, tmp_path: Path) -> None:
    piece, count = bytes(range(256)) * (PIECE // 256), size(128, 3)
    total = count * PIECE
    contest.run(
        "encrypted file, written",
        unit="B",
        given=f"{count} MiB, in pieces of 1 MiB, without fsync",
        contenders=[
            Contender("sealed file", lambda: write(tmp_path / "a", piece, count, SEAL), check(total), total, True),
            Contender("plain file", lambda: write(tmp_path / "b", piece, count, None), check(total), total, True),
            Contender(
                "AES-GCM of cryptography, in memory",
                lambda: sum(len(RAW.encrypt(nonce, piece, None)) - 16 for nonce in nonces(count)),
                check(total),
                total,
            ),
        ],
    )


def test_reading(contest: Contest, size: Size, tmp_path: Path) -> None:
    piece, count = bytes(range(256)) * (PIECE // 256), size(128, 3)
    total = count * PIECE
    write(tmp_path / "a", piece, count, SEAL)
    write(tmp_path / "b", piece, count, None)
    stored = RAW.encrypt(bytes(12), piece, None)
    contest.run(
        "encrypted file, read",
        unit="B",
        given=f"{count} MiB, in order, from the page cache",
        contenders=[
            Contender("sealed file", lambda: read(tmp_path / "a", SEAL), check(total), total, True),
            Contender("plain file", lambda: read(tmp_path / "b", None), check(total), total, True),
            Contender(
                "AES-GCM of cryptography, in memory",
                lambda: sum(len(RAW.decrypt(bytes(12), stored, None)) for _ in range(count)),
                check(total),
                total,
            ),
        ],
    )
