// A self-signed X.509 certificate for an Ed25519 key, written in DER by hand: Node can read
// certificates but not make them, and this much of RFC 5280 is short.
import { createPublicKey, randomBytes, sign } from "node:crypto";

const TAG = {
  integer: 0x02,
  bitString: 0x03,
  oid: 0x06,
  utf8String: 0x0c,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  version: 0xa0,
};

const ED25519 = der("sequence", der("oid", Buffer.from("2b6570", "hex"))); // 1.3.101.112
const COMMON_NAME = der("oid", Buffer.from("550403", "hex")); // 2.5.4.3
const V3 = der("version", der("integer", Buffer.of(2)));
// Dates mean nothing to a peer; RFC 5280 writes "never" like the second one.
const VALIDITY = der("sequence", time("20000101000000Z"), time("99991231235959Z"));

/** The certificate as PEM; `commonName` is for people who look at it and means nothing. */
export function selfSigned(privateKey, commonName = "peernet") {
  const name = distinguishedName(commonName);
  const publicKey = createPublicKey(privateKey).export({ type: "spki", format: "der" });
  const toBeSigned = der("sequence", V3, serialNumber(), ED25519, name, VALIDITY, name, publicKey);
  const signature = sign(null, toBeSigned, privateKey);
  return pem(der("sequence", toBeSigned, ED25519, der("bitString", Buffer.of(0), signature)));
}

function der(type, ...parts) {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(TAG[type]), derLength(content.length), content]);
}

function derLength(length) {
  if (length < 0x80) return Buffer.of(length);
  if (length < 0x100) return Buffer.of(0x81, length);
  return Buffer.of(0x82, length >> 8, length & 0xff);
}

function time(text) {
  return der("generalizedTime", Buffer.from(text));
}

function serialNumber() {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0] & 0x7f) | 0x40; // positive, and its first byte is not a superfluous zero
  return der("integer", bytes);
}

function distinguishedName(commonName) {
  const attribute = der("sequence", COMMON_NAME, der("utf8String", Buffer.from(commonName)));
  return der("sequence", der("set", attribute));
}

function pem(bytes) {
  const lines = bytes.toString("base64").match(/.{1,64}/g);
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
