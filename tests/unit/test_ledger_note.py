"""Signed notes and checkpoints are read as their specifications say, by the vectors of those and of Go's sumdb."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import SettingsInvalid
from builder.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from builder.ledger.note import (
    Kind,
    Note,
    NoteInvalid,
    NoteNotSigned,
    NoteSignature,
    VerifierKey,
    VerifierKeyInvalid,
    parse_key,
    parse_note,
    verified,
)
from builder.ledger.signing import KeyNotWritten, LedgerKey, generate_key

# golang.org/x/mod, sumdb/note/note_test.go
PETER_SEED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
# C2SP signed-note, "Example"
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# C2SP tlog-cosignature: a checkpoint with a cosignature, whose keys are not published
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/"
    "Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe"
    "+mbIUBkBIfZ+qnA==\n"
)
# golang.org/x/mod, sumdb/tlog/note_test.go
GO_TREE = "go.sum database tree\n123456789012\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n"


def cosigned(text: str, private: Ed25519PrivateKey, name: str, time: int) -> NoteSignature:
    """C2SP tlog-cosignature, "Ed25519 signed message"."""
    key = VerifierKey(name, Kind.COSIGNATURE, private.public_key().public_bytes_raw())
    signature = private.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
    return NoteSignature(name, key.id, time.to_bytes(8, "big") + signature)


class TestKeys:
    @pytest.mark.parametrize("text", [PETER, ENOCH, EXAMPLE_KEY])
    def test_a_published_key_has_the_id_that_it_gives(self, text: str) -> None:
        assert str(parse_key(text)) == text

    def test_no_part_of_a_key_and_no_changed_key_is_one(self) -> None:
        mangled = {PETER[start:end] for start in range(len(PETER)) for end in range(start + 1, len(PETER) + 1)}
        mangled |= {PETER[:at] + chr(ord(PETER[at]) + 1) + PETER[at + 1 :] for at in range(len(PETER))}
        mangled -= {PETER}
        mangled |= {  # of another length, and of an algorithm that nobody knows, each with the id that fits
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        }
        for text in mangled:
            with pytest.raises(VerifierKeyInvalid):
                parse_key(text)

    def test_the_same_key_for_cosignatures_has_another_id(self) -> None:
        key = parse_key(PETER)
        assert VerifierKey(key.name, Kind.COSIGNATURE, key.public).id != key.id


class TestNotes:
    def test_signing_gives_the_published_bytes(self) -> None:
        private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(PETER_SEED)[1:])
        peter = parse_key(PETER)
        assert private.public_key().public_bytes_raw() == peter.public
        note = Note(TEXT, (NoteSignature(peter.name, peter.id, private.sign(TEXT.encode())),))
        assert note.encode().decode() == f"{TEXT}\n{PETER_LINE}"

    def test_the_example_of_the_specification_verifies(self) -> None:
        note = parse_note(EXAMPLE.encode())
        assert verified(note, [parse_key(EXAMPLE_KEY)]) == {parse_key(EXAMPLE_KEY): None}
        assert note.encode() == EXAMPLE.encode()

    def test_signatures_of_others_are_kept_and_ignored(self) -> None:
        note = parse_note(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode())
        assert verified(note, [parse_key(PETER)]) == {parse_key(PETER): None}
        assert set(verified(note, [parse_key(PETER), parse_key(ENOCH)])) == {parse_key(PETER), parse_key(ENOCH)}
        assert [one.name for one in note.signatures] == ["PeterNeumann", "EnochRoot"]

    def test_without_a_signature_of_a_known_key_a_note_says_nothing(self) -> None:
        with pytest.raises(NoteNotSigned, match="PeterNeumann"):
            verified(parse_note(f"{TEXT}\n{PETER_LINE}".encode()), [parse_key(ENOCH)])
        with pytest.raises(NoteNotSigned):
            verified(parse_note(f"{TEXT}\n{PETER_LINE}".encode()), [])

    def test_one_bad_signature_of_a_known_key_spoils_the_note(self) -> None:
        bad = PETER_LINE[:60] + "ABCD" + PETER_LINE[60:]
        for lines in (bad, ENOCH_LINE + bad):
            with pytest.raises(NoteNotSigned, match=r"PeterNeumann\+c74f20a3 does not hold"):
                verified(parse_note(f"{TEXT}\n{lines}".encode()), [parse_key(PETER), parse_key(ENOCH)])
        with pytest.raises(NoteNotSigned):
            verified(parse_note(f"{TEXT.replace('your', 'my')}\n{PETER_LINE}".encode()), [parse_key(PETER)])

    @pytest.mark.parametrize(
        "content",
        [
            TEXT, f"{TEXT}\n", f"{TEXT}\n{PETER_LINE[:-1]}", f"\x01{TEXT}\n{PETER_LINE}",
            f"{TEXT}\n— Bad Name x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6=\n",
            f"{TEXT}\n{PETER_LINE}Unexpected line.\n", f"{TEXT}\n{PETER_LINE * 101}", "", "\n", "\n\n",
            f"{TEXT}\n{PETER_LINE}\n", f"{TEXT}\n— a+b ABCDABCD\n", f"{TEXT}\n— a ABCDAB==\n", f"{TEXT}\n— a ABC=\n",
            f"{TEXT}\n- {PETER_LINE[2:]}", f"{TEXT}\n{PETER_LINE[:-1]}\r\n", f"{TEXT}\n{PETER_LINE[:-2]}\n",
        ],
    )  # fmt: skip
    def test_what_is_not_of_the_form_is_refused(self, content: str) -> None:
        with pytest.raises(NoteInvalid):
            parse_note(content.encode())

    def test_what_is_not_utf_8_or_too_long_is_refused(self) -> None:
        with pytest.raises(NoteInvalid):
            parse_note(b"\xff" + f"{TEXT}\n{PETER_LINE}".encode())
        with pytest.raises(NoteInvalid):
            parse_note(b"a\n" * 500_001 + f"\n{PETER_LINE}".encode())

    @given(st.binary(max_size=200) | st.text(alphabet="a—\n +=AB", max_size=60).map(str.encode))
    def test_anything_is_read_or_refused_and_read_again_as_it_is_written(self, content: bytes) -> None:
        try:
            note = parse_note(content)
        except NoteInvalid:
            return
        assert note.encode() == content


class TestCosignatures:
    def test_the_published_cosigned_checkpoint_is_read(self) -> None:
        note = parse_note(COSIGNED.encode())
        assert parse_checkpoint(note.text).size == 20852163
        witness = note.signatures[1]
        assert witness.name == "witness.example.com/w1"
        assert int.from_bytes(witness.data[:8], "big") == 1679315147  # as the specification quotes it
        assert len(witness.data) == 8 + 64

    def test_a_witness_is_told_with_its_time(self) -> None:
        private = Ed25519PrivateKey.generate()
        key = VerifierKey("w.example/1", Kind.COSIGNATURE, private.public_key().public_bytes_raw())
        note = Note(GO_TREE, (cosigned(GO_TREE, private, key.name, 1679315147),))
        assert verified(note, [key]) == {key: 1679315147}
        assert str(parse_key(str(key))) == str(key)

    def test_another_time_another_checkpoint_and_a_plain_signature_are_refused(self) -> None:
        private = Ed25519PrivateKey.generate()
        key = VerifierKey("w.example/1", Kind.COSIGNATURE, private.public_key().public_bytes_raw())
        good = cosigned(GO_TREE, private, key.name, 1679315147)
        later = NoteSignature(good.name, good.key_id, (1679315148).to_bytes(8, "big") + good.data[8:])
        plain = NoteSignature(good.name, good.key_id, private.sign(GO_TREE.encode()))
        untimed = NoteSignature(good.name, good.key_id, good.data[8:])
        far = cosigned(GO_TREE, private, key.name, 1 << 63)
        for signature in (later, plain, untimed, far):
            with pytest.raises(NoteNotSigned):
                verified(Note(GO_TREE, (signature,)), [key])
        with pytest.raises(NoteNotSigned):
            verified(Note(GO_TREE.replace("12\n", "13\n"), (good,)), [key])


class TestCheckpoints:
    def test_one_is_written_as_it_was_read(self) -> None:
        found = parse_checkpoint(GO_TREE)
        assert (found.origin, found.size) == ("go.sum database tree", 123456789012)
        assert found.text == GO_TREE

    def test_lines_that_follow_are_let_pass(self) -> None:
        assert parse_checkpoint(GO_TREE + "JOE\n" * 3) == parse_checkpoint(GO_TREE)

    @pytest.mark.parametrize(
        "text",
        [
            "", "\n", "a\n1\n", GO_TREE.replace("go.sum database tree", ""), GO_TREE.replace("123456789012", "0x1"),
            GO_TREE.replace("123", "0123"), GO_TREE.replace("123456789012", "-1"), GO_TREE.replace("b0=\n", "b=\n"),
            GO_TREE.replace("b0=\n", "b1=\n"), GO_TREE.replace("b0=\n", "TOOBIG=\n"), GO_TREE + "\nJOE\n",
            GO_TREE.replace("123456789012", "١"), GO_TREE.replace("123456789012", "0"),
            GO_TREE.replace("123456789012", " 1"), GO_TREE.replace("123456789012", "1" * 20),
        ],
    )  # fmt: skip
    def test_what_is_not_of_the_form_is_refused(self, text: str) -> None:
        with pytest.raises(NoteInvalid):
            parse_checkpoint(text)

    def test_one_that_is_signed_is_opened_by_its_logs_key_alone(self, tmp_path: Path) -> None:
        generate_key(tmp_path / "key")
        key, stranger = (LedgerKey.load(tmp_path / "key", name) for name in ("log.example/a", "log.example/b"))
        checkpoint = Checkpoint("log.example/a", 7, bytes(range(32)))
        note = key.sign(checkpoint).encode()
        assert open_checkpoint(note, [key.verifier]).checkpoint == checkpoint
        assert key.sign(checkpoint).encode() == note
        with pytest.raises(NoteNotSigned):
            open_checkpoint(note, [stranger.verifier])
        with pytest.raises(NoteNotSigned, match=r"no key of log\.example/a"):
            open_checkpoint(stranger.sign(checkpoint).encode(), [stranger.verifier])

    def test_a_witness_alone_does_not_make_one(self, tmp_path: Path) -> None:
        generate_key(tmp_path / "key")
        key = LedgerKey.load(tmp_path / "key", "log.example/a")
        private = Ed25519PrivateKey.generate()
        witness = VerifierKey("w.example/1", Kind.COSIGNATURE, private.public_key().public_bytes_raw())
        note = key.sign(Checkpoint("log.example/a", 7, bytes(32)))
        line = cosigned(note.text, private, witness.name, 5)
        both = Note(note.text, (*note.signatures, line))
        assert open_checkpoint(both.encode(), [key.verifier], [witness]).witnesses == {"w.example/1": 5}
        with pytest.raises(NoteNotSigned):
            open_checkpoint(Note(note.text, (line,)).encode(), [key.verifier], [witness])


class TestKeyFiles:
    def test_a_new_one_is_its_owners_alone_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            generate_key(tmp_path / "key")
        finally:
            os.umask(before)
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        LedgerKey.load(tmp_path / "key", "a")

    def test_none_is_ever_written_over(self, tmp_path: Path) -> None:
        generate_key(tmp_path / "key")
        kept = (tmp_path / "key").read_bytes()
        with pytest.raises(KeyNotWritten):
            generate_key(tmp_path / "key")
        assert (tmp_path / "key").read_bytes() == kept
        with pytest.raises(KeyNotWritten):
            generate_key(tmp_path / "missing" / "key")

    def test_one_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        generate_key(tmp_path / "key")
        (tmp_path / "key").chmod(0o640)
        with pytest.raises(SettingsInvalid, match=r"read by others \(mode 0640\)"):
            LedgerKey.load(tmp_path / "key", "a")

    def test_what_is_no_ed25519_key_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsInvalid, match="cannot be read"):
            LedgerKey.load(tmp_path / "key", "a")
        (tmp_path / "key").touch(0o600)
        with pytest.raises(SettingsInvalid, match="no private key"):
            LedgerKey.load(tmp_path / "key", "a")
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "key").write_bytes(pem)
        with pytest.raises(SettingsInvalid, match="not an Ed25519 key"):
            LedgerKey.load(tmp_path / "key", "a")
