"""Altered and signed again, swapped or left out: statements, what is beside them, and the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.end_to_end.alterations import WHOLE, Forger, flipped, refused

PROOF, ENTRY, RECORD = "ledger/proof.tlog-proof", "ledger/entry.json", "record.json"


# Signed in earnest, by others


@refused("signature identity", "SANs do not match")
def _a_stranger_signs_the_same(forger: Forger) -> None:
    forger.sign(forger.statement(), by=forger.stranger)


@refused("signature", "candidates exhausted: signature does not match")
def _another_sigstore_signs_the_same(forger: Forger) -> None:
    forger.sign(forger.statement(), by=forger.foreign)


# Signed in earnest, by the service itself


@refused("ledger inclusion", "does not name the provenance that verifies")
def _the_service_signs_the_same_again(forger: Forger) -> None:
    forger.sign(forger.statement())


@refused("subject digest", "does not speak of")
def _the_provenance_of_something_else(forger: Forger) -> None:
    statement = forger.statement()
    statement["subject"][0]["digest"]["sha256"] = "0" * 64
    forger.sign(statement)


@refused("predicate type", "but no https://slsa.dev/provenance/v1")
def _provenance_of_another_kind(forger: Forger) -> None:
    forger.sign({**forger.statement(), "predicateType": "https://slsa.dev/provenance/v0.2"})


@refused("provenance", "runDetails.builder: Field required")
def _provenance_that_names_no_builder(forger: Forger) -> None:
    statement = forger.statement()
    del statement["predicate"]["runDetails"]["builder"]
    forger.sign(statement)


@refused("expected builder", "https://other.example/builder; expected is")
def _another_builder(forger: Forger) -> None:
    statement = forger.statement()
    statement["predicate"]["runDetails"]["builder"]["id"] = "https://other.example/builder"
    forger.sign(statement)


@refused("build type", "urn:other:build; expected is")
def _another_build_type(forger: Forger) -> None:
    statement = forger.statement()
    statement["predicate"]["buildDefinition"]["buildType"] = "urn:other:build"
    forger.sign(statement)


@refused("recipe digest", "the recipe that is quoted has")
def _another_recipe_than_its_digest(forger: Forger) -> None:
    statement = forger.statement()
    statement["predicate"]["buildDefinition"]["externalParameters"]["recipe"]["spec"]["packages"] = ["netcat"]
    forger.sign(statement)


@refused("documents", "the provenance does not name it")
def _an_inventory_that_the_provenance_does_not_name(forger: Forger) -> None:
    statement = forger.statement()
    byproducts = statement["predicate"]["runDetails"]["byproducts"]
    statement["predicate"]["runDetails"]["byproducts"] = [one for one in byproducts if one["name"] != "inventory"]
    forger.sign(statement)


@refused("references", "name another inventory than the provenance")
def _references_to_another_inventory(forger: Forger) -> None:
    statement = forger.statement("references")
    for one in statement["predicate"]["references"]:
        if one["name"] == "inventory":
            one["digest"]["sha256"] = "0" * 64
    forger.sign(statement, "references")


@refused("gate", "not a SLSA Verification Summary v1 that passed")
def _a_verdict_that_failed(forger: Forger) -> None:
    statement = forger.statement("verdict")
    statement["predicate"]["verificationResult"] = "FAILED"
    forger.sign(statement, "verdict")


@refused("tests", "not an in-toto test result v0.1 that passed")
def _tests_that_failed(forger: Forger) -> None:
    statement = forger.statement("tests")
    statement["predicate"]["result"] = "FAILED"
    forger.sign(statement, "tests")


@refused("scan", "not an in-toto vulnerability predicate")
def _a_scan_of_another_form(forger: Forger) -> None:
    statement = forger.statement("scan-attestation")
    del statement["predicate"]["scanner"]["db"]
    forger.sign(statement, "scan-attestation")


@refused("sbom", "no CycloneDX document")
def _a_bill_of_materials_of_another_form(forger: Forger) -> None:
    statement = forger.statement("sbom-attestation")
    statement["predicate"]["bomFormat"] = "Other"
    forger.sign(statement, "sbom-attestation")


# What is beside it


@refused("gate", "no https://slsa.dev/verification_summary/v1 that holds")
def _no_verdict(forger: Forger) -> None:
    del forger.members["bundles/verdict.json"]


@refused("tests", "no https://in-toto.io/attestation/test-result/v0.1 that holds")
def _tests_of_another_image(forger: Forger) -> None:
    statement = forger.statement("tests")
    statement["subject"][0]["digest"]["sha256"] = "0" * 64
    forger.sign(statement, "tests")


@refused("scan", "no https://in-toto.io/attestation/vulns/v0.1 that holds")
def _a_scan_by_a_stranger(forger: Forger) -> None:
    forger.sign(forger.statement("scan-attestation"), "scan-attestation", by=forger.stranger)


@refused("signature", "no signature is attached")
def _no_bundle_at_all(forger: Forger) -> None:
    for name in [one for one in forger.members if one.startswith("bundles/")]:
        del forger.members[name]


@refused("subject digest", "does not speak of")
def _the_manifest(forger: Forger) -> None:
    forger.members["manifest.json"] = forger.members["manifest.json"].replace(b"{", b"{ ", 1)


@refused(WHOLE, "config.json is sha256:")
def _the_config(forger: Forger) -> None:
    forger.members["config.json"] += b" "


@refused(WHOLE, "SHA256SUMS")
def _a_sum(forger: Forger) -> None:
    forger.members["SHA256SUMS"] = b"0" * 64 + b"  manifest.json\n"


@refused("documents", "inventory is sha256:")
def _the_inventory(forger: Forger) -> None:
    forger.members["inventory.jsonl.zst"] += b" "


@refused("documents", "sbom-cyclonedx is sha256:")
def _the_bill_of_materials(forger: Forger) -> None:
    forger.members["sbom.cdx.json"] += b" "


@refused("documents", "log is sha256:")
def _the_log_of_the_build(forger: Forger) -> None:
    forger.members["log.jsonl"] = forger.members["log.jsonl"].replace(b"a", b"b", 1)


# The ledger


@refused("ledger inclusion", "no proof is at hand")
def _no_proof_of_the_ledger(forger: Forger) -> None:
    del forger.members[PROOF]


@refused("ledger inclusion", "no proof is at hand")
def _no_row_of_the_ledger(forger: Forger) -> None:
    del forger.members[ENTRY]


def _edit_lines(forger: Forger, edit: Callable[[list[bytes], int], object]) -> None:
    """The ledger's proof by lines: header, index, hashes, nothing, then the checkpoint, at the index that is given."""
    lines = forger.members[PROOF].split(b"\n")
    edit(lines, lines.index(b"") + 1)
    forger.members[PROOF] = b"\n".join(lines)


@refused("ledger inclusion", "does not begin with c2sp.org/tlog-proof@v1")
def _the_form_of_the_ledgers_proof(forger: Forger) -> None:
    _edit_lines(forger, lambda lines, _: lines.__setitem__(0, b"c2sp.org/tlog-proof@v2"))


@refused("ledger inclusion", "has no entry")
def _the_row_number(forger: Forger) -> None:
    _edit_lines(forger, lambda lines, _: lines.__setitem__(1, b"index %d" % (int(lines[1].split()[1]) + 1)))


@refused("ledger inclusion", "leads to another root")
def _a_hash_of_the_ledgers_proof(forger: Forger) -> None:
    _edit_lines(forger, lambda lines, note: lines.__setitem__(note - 2, flipped(lines[note - 2].decode()).encode()))


@refused("ledger inclusion", "proof is shorter than the tree is high")
def _one_hash_of_the_ledgers_proof_fewer(forger: Forger) -> None:
    _edit_lines(forger, lambda lines, note: lines.__delitem__(note - 2))


@refused("ledger inclusion", "does not hold")
def _the_ledgers_origin(forger: Forger) -> None:
    _edit_lines(forger, lambda lines, note: lines.__setitem__(note, b"log.example/other"))


@refused("ledger inclusion", "does not hold")
def _the_ledgers_size(forger: Forger) -> None:
    _edit_lines(forger, lambda lines, note: lines.__setitem__(note + 1, b"%d" % (int(lines[note + 1]) + 1)))


@refused("ledger inclusion", "does not hold")
def _the_ledgers_root(forger: Forger) -> None:
    _edit_lines(forger, lambda lines, note: lines.__setitem__(note + 2, flipped(lines[note + 2].decode()).encode()))


@refused("ledger inclusion", "does not hold")
def _the_ledgers_signature(forger: Forger) -> None:
    def edit(lines: list[bytes], note: int) -> None:
        *name, signature = lines[note + 4].decode().split(" ")
        lines[note + 4] = " ".join([*name, flipped(signature)]).encode()

    _edit_lines(forger, edit)


@refused("ledger inclusion", "leads to another root")
def _a_row_of_the_ledger(forger: Forger) -> None:
    forger.members[ENTRY] = forger.members[ENTRY].replace(b'"recordedAt":"2', b'"recordedAt":"3')


@refused("ledger inclusion", "not the one at hand")
def _the_record(forger: Forger) -> None:
    record = json.loads(forger.members[RECORD])
    forger.members[RECORD] = json.dumps({**record, "requester": "somebody else"}).encode()
