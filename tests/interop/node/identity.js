// Who a peer is: its key, the certificate that shows it, and the identifier computed from it.
import { X509Certificate, createHash, createPrivateKey, generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";

import { selfSigned } from "./certificate.js";

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
const ADDRESS = /^peer:\/\/(?:([a-z2-7]{52})@)?(\[[0-9a-fA-F:.%]+\]|[^:@/[\]]+):(\d{1,5})$/;

export class Identity {
  constructor(privateKey) {
    this.key = privateKey.export({ type: "pkcs8", format: "pem" });
    this.certificate = selfSigned(privateKey);
    this.identifier = identifierOf(new X509Certificate(this.certificate));
  }

  static generate() {
    return new Identity(generateKeyPairSync("ed25519").privateKey);
  }

  /** The identity whose key is in a PEM file, which is made at first use. */
  static kept(path) {
    if (existsSync(path)) return new Identity(createPrivateKey(readFileSync(path)));
    const identity = Identity.generate();
    writeFileSync(path, identity.key, { mode: 0o600, flag: "wx" });
    return identity;
  }
}

/** The identifier that a certificate proves; throws if its key is of a kind that is not used. */
export function identifierOf(certificate) {
  const { asymmetricKeyType, asymmetricKeyDetails } = certificate.publicKey;
  const accepted =
    asymmetricKeyType === "ed25519" ||
    (asymmetricKeyType === "ec" && asymmetricKeyDetails.namedCurve === "prime256v1");
  if (!accepted) throw new Error(`certificate with a key that is not accepted: ${asymmetricKeyType}`);
  const publicKey = certificate.publicKey.export({ type: "spki", format: "der" });
  return base32(createHash("sha256").update(publicKey).digest());
}

/** What `peer://[identifier@]host:port` says; `identifier` is undefined if it names none. */
export function parseAddress(text) {
  const [, identifier, host, port] = ADDRESS.exec(text) ?? [];
  if (host === undefined || Number(port) > 65535) throw new Error(`not a peer address: ${text}`);
  return { identifier, host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

export function hostAndPort(host, port) {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function base32(bytes) {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.match(/.{1,5}/g).map((group) => BASE32[parseInt(group.padEnd(5, "0"), 2)]).join("");
}
