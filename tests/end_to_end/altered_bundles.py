"""A bundle altered: its envelope, its certificate, the log's entry, the proof and the checkpoint."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from builder.sandbox.keys import Key
from tests.end_to_end.alterations import Forger, Json, flipped, refused


def _edit_payload(forger: Forger, edit: Callable[[Json], object]) -> None:
    statement, bundle = forger.statement(), forger.bundle()
    edit(statement)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    forger.put(bundle)


def _edit_bundle(forger: Forger, edit: Callable[[Json], object]) -> None:
    bundle = forger.bundle()
    edit(bundle)
    forger.put(bundle)


def _edit_entry(forger: Forger, edit: Callable[[Json], object]) -> None:
    _edit_bundle(forger, lambda bundle: edit(bundle["verificationMaterial"]["tlogEntries"][0]))


def _edit_proof(forger: Forger, edit: Callable[[Json], object]) -> None:
    _edit_entry(forger, lambda entry: edit(entry["inclusionProof"]))


def _edit_note(forger: Forger, edit: Callable[[list[str]], object]) -> None:
    """The lines of the checkpoint in the bundle: origin, size, root, nothing, signature."""

    def change(proof: Json) -> None:
        lines = proof["checkpoint"]["envelope"].split("\n")
        edit(lines)
        proof["checkpoint"]["envelope"] = "\n".join(lines)

    _edit_proof(forger, change)


# The envelope


@refused("signature", "DSSE: invalid signature")
def _the_subject_of_the_statement(forger: Forger) -> None:
    _edit_payload(forger, lambda said: said["subject"][0]["digest"].update(sha256="0" * 64))


@refused("signature", "DSSE: invalid signature")
def _the_recipe_in_the_statement(forger: Forger) -> None:
    _edit_payload(
        forger, lambda said: said["predicate"]["buildDefinition"]["externalParameters"].update(recipeDigest="x")
    )


@refused("signature", "DSSE: invalid signature")
def _the_signature(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(
        sig=flipped(bundle["dsseEnvelope"]["signatures"][0]["sig"])))  # fmt: skip


@refused("signature", "DSSE: invalid signature")
def _a_signature_by_another_key(forger: Forger) -> None:
    bundle = forger.bundle()
    payload, kind = base64.b64decode(bundle["dsseEnvelope"]["payload"]), bundle["dsseEnvelope"]["payloadType"].encode()
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(Key.generate().sign(encoded)).decode()
    forger.put(bundle)


@refused("signature", "exactly one signature")
def _no_signature(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle["dsseEnvelope"].update(signatures=[]))


@refused("signature", "exactly one signature")
def _two_signatures(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}))


@refused("signature", "DSSE: invalid signature")
def _the_payloads_type(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"))


@refused("signature", "Exactly one of messageSignature or dsseEnvelope")
def _no_envelope(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle.pop("dsseEnvelope"))


@refused("signature", "log entry payload hash does not match bundle")
def _the_envelope_of_another_bundle(forger: Forger) -> None:
    other = forger.bundle("tests")["dsseEnvelope"]
    _edit_bundle(forger, lambda bundle: bundle.update(dsseEnvelope=other))


@refused("signature", "mediaType: Input should be")
def _the_form_of_the_bundle(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=9"))


# The certificate


@refused("signature", "candidates exhausted: signature does not match")
def _a_bit_of_the_certificates_signature(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle["verificationMaterial"]["certificate"].update(
        rawBytes=flipped(bundle["verificationMaterial"]["certificate"]["rawBytes"])))  # fmt: skip


@refused("signature", "candidates exhausted: signature does not match")
def _the_name_in_the_certificate(forger: Forger) -> None:
    raw = base64.b64decode(forger.bundle()["verificationMaterial"]["certificate"]["rawBytes"])
    other = raw.replace(b"sandbox.invalid/goldsmith", b"sandbox.invalid/silvermit")
    assert other != raw
    _edit_bundle(forger, lambda bundle: bundle["verificationMaterial"]["certificate"].update(
        rawBytes=base64.b64encode(other).decode()))  # fmt: skip


@refused("ledger inclusion", "does not name the provenance that verifies")
def _the_same_bundle_written_otherwise(forger: Forger) -> None:
    forger.put(dict(reversed(forger.bundle().items())))


@refused("signature", "verificationMaterial: Value error")
def _no_certificate(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle["verificationMaterial"].pop("certificate"))


# The log's entry, its promise, its proof


@refused("signature", "inclusion proof contains invalid root hash")
def _the_entrys_body(forger: Forger) -> None:
    def edit(entry: Json) -> None:
        body = json.loads(base64.b64decode(entry["canonicalizedBody"]))
        body["spec"]["payloadHash"]["value"] = "0" * 64
        entry["canonicalizedBody"] = base64.b64encode(json.dumps(body).encode()).decode()

    _edit_entry(forger, edit)


@refused("signature", "SET: invalid inclusion promise")
def _the_entrys_index(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry.update(logIndex=str(int(entry["logIndex"]) + 1)))


@refused("signature", "SET: invalid inclusion promise")
def _the_entrys_time(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry.update(integratedTime=str(int(entry["integratedTime"]) + 1)))


@refused("signature", "cert is not valid at validation time")
def _the_entrys_time_years_later(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry.update(integratedTime=str(int(entry["integratedTime"]) + 10**8)))


@refused("signature", "no key of a transparency log that was valid at 1970")
def _no_time(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry.update(integratedTime="0"))


@refused("signature", "SET: invalid inclusion promise")
def _the_logs_name(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry["logId"].update(keyId=flipped(entry["logId"]["keyId"])))


@refused("signature", "Unsupported DSSE log entry type: hashedrekord")
def _the_entrys_kind(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry["kindVersion"].update(kind="hashedrekord"))


@refused("signature", "SET: invalid inclusion promise")
def _the_promise(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry["inclusionPromise"].update(
        signedEntryTimestamp=flipped(entry["inclusionPromise"]["signedEntryTimestamp"])))  # fmt: skip


@refused("signature", "must contain an inclusion promise")
def _no_promise(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry.pop("inclusionPromise"))


@refused("signature", "exactly one log entry")
def _no_entry_of_the_log(forger: Forger) -> None:
    _edit_bundle(forger, lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[]))


@refused("signature", "log entry payload hash does not match bundle")
def _the_entry_of_another_bundle(forger: Forger) -> None:
    other = forger.bundle("tests")["verificationMaterial"]["tlogEntries"]
    _edit_bundle(forger, lambda bundle: bundle["verificationMaterial"].update(tlogEntries=other))


@refused("signature", "inclusionProof: Field required")
def _no_proof(forger: Forger) -> None:
    _edit_entry(forger, lambda entry: entry.pop("inclusionProof"))


@refused("signature", "inclusion proof contains invalid root hash")
def _a_hash_of_the_proof(forger: Forger) -> None:
    _edit_proof(forger, lambda proof: proof["hashes"].__setitem__(0, flipped(proof["hashes"][0])))


@refused("signature", "inclusion proof has wrong size")
def _one_hash_of_the_proof_fewer(forger: Forger) -> None:
    _edit_proof(forger, lambda proof: proof["hashes"].pop())


@refused("signature", "inclusion proof has wrong size")
def _one_hash_of_the_proof_more(forger: Forger) -> None:
    _edit_proof(forger, lambda proof: proof["hashes"].append(proof["hashes"][0]))


@refused("signature", "inclusion proof")
def _the_index_in_the_proof(forger: Forger) -> None:
    _edit_proof(forger, lambda proof: proof.update(logIndex=str(int(proof["logIndex"]) - 1)))


@refused("signature", "proof")
def _the_size_of_the_tree_in_the_proof(forger: Forger) -> None:
    _edit_proof(forger, lambda proof: proof.update(treeSize=str(int(proof["treeSize"]) + 1)))


@refused("signature", "inclusion proof contains invalid root hash")
def _the_root_in_the_proof(forger: Forger) -> None:
    _edit_proof(forger, lambda proof: proof.update(rootHash=flipped(proof["rootHash"])))


@refused("signature", "checkpoint: invalid signature")
def _the_checkpoints_origin(forger: Forger) -> None:
    _edit_note(forger, lambda lines: lines.__setitem__(0, "x" + lines[0]))


@refused("signature", "checkpoint: invalid signature")
def _the_checkpoints_size(forger: Forger) -> None:
    _edit_note(forger, lambda lines: lines.__setitem__(1, str(int(lines[1]) + 1)))


@refused("signature", "checkpoint: invalid signature")
def _the_checkpoints_root(forger: Forger) -> None:
    _edit_note(forger, lambda lines: lines.__setitem__(2, flipped(lines[2])))


@refused("signature", "checkpoint: invalid signature")
def _the_checkpoints_signature(forger: Forger) -> None:
    def edit(lines: list[str]) -> None:
        *name, signature = lines[4].split(" ")
        lines[4] = " ".join([*name, flipped(signature)])

    _edit_note(forger, edit)


@refused("signature", "must contain at least one signature")
def _no_signature_of_the_checkpoint(forger: Forger) -> None:
    _edit_note(forger, lambda lines: lines.__delitem__(4))


@refused("signature", "entry must contain inclusion proof, with checkpoint")
def _no_checkpoint(forger: Forger) -> None:
    _edit_proof(forger, lambda proof: proof.pop("checkpoint"))
