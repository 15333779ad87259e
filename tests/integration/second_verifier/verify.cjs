// Verifies bundles with Sigstore's verifier in JavaScript, offline. Standard input is
// {"trustedRoot", "identity", "issuer", "bundles": {NAME: BUNDLE}}; for each name, standard output has
// {"payloadType", "payload"} or {"refused"}.
const { readFileSync } = require("node:fs");
const { bundleFromJSON } = require("@sigstore/bundle");
const { TrustedRoot } = require("@sigstore/protobuf-specs");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

const asked = JSON.parse(readFileSync(0, "utf-8"));
const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(asked.trustedRoot)));
const escaped = asked.identity.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const policy = { subjectAlternativeName: `^${escaped}$`, extensions: { issuer: asked.issuer } };

function verified(content) {
  try {
    const bundle = bundleFromJSON(content);
    verifier.verify(toSignedEntity(bundle), policy);
    const { payloadType, payload } = bundle.content.dsseEnvelope;
    return { payloadType, payload: payload.toString("base64") };
  } catch (error) {
    return { refused: `${error.code ?? error.name}: ${error.message}` };
  }
}

const told = Object.entries(asked.bundles).map(([name, content]) => [name, verified(content)]);
console.log(JSON.stringify(Object.fromEntries(told)));
