// Mutual TLS 1.3, dialled or accepted: what has to be right before a Peer may exist.
import { constants } from "node:crypto";
import tls from "node:tls";

import { hostAndPort, identifierOf, parseAddress } from "./identity.js";
import { HANDSHAKE_MS, Peer } from "./peer.js";

/** Connects to `peer://[identifier@]host:port`, and hangs up if somebody else answers there. */
export function dial(address, options) {
  const { identifier, host, port } = parseAddress(address);
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host, port, timeout: HANDSHAKE_MS, ...security(options.identity) });
    socket.once("timeout", () => socket.destroy(new Error("no TLS handshake in time")));
    socket.once("error", reject);
    socket.once("secureConnect", () => {
      socket.setTimeout(0);
      try {
        const proven = provenIdentifier(socket);
        checkPin(identifier, proven);
        resolve(new Peer(socket, proven, { ...options, dialled: true }));
      } catch (error) {
        socket.destroy();
        reject(error);
      }
    });
  });
}

/** Listens on `host:port`; calls `onPeer(peer)` for every client that proves who it is, else `onFailure(error)`. */
export function listen(address, options, onPeer, onFailure) {
  const { host, port } = parseAddress(`peer://${address}`);
  const server = tls.createServer({
    handshakeTimeout: HANDSHAKE_MS,
    requestCert: true,
    ...security(options.identity),
  });
  server.on("tlsClientError", (error, socket) => {
    socket.destroy();
    onFailure(error);
  });
  server.on("secureConnection", (socket) => {
    try {
      const listenAddresses = [addressOf(server)];
      onPeer(new Peer(socket, provenIdentifier(socket), { ...options, listenAddresses, dialled: false }));
    } catch (error) {
      socket.destroy();
      onFailure(error);
    }
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => resolve({ server, address: addressOf(server) }));
  });
}

function addressOf(server) {
  const { address, port } = server.address();
  return hostAndPort(address, port);
}

function security({ key, certificate }) {
  return {
    key,
    cert: certificate,
    minVersion: "TLSv1.3",
    rejectUnauthorized: false, // no authority vouches for a peer: its identifier does
    secureOptions: constants.SSL_OP_NO_TICKET, // nothing is kept that could be resumed
  };
}

/** To be called once per socket: some versions of Node hand the certificate out only the first time. */
function provenIdentifier(socket) {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) throw new Error("a peer without a certificate");
  return identifierOf(certificate);
}

function checkPin(expected, proven) {
  if (expected !== undefined && expected !== proven) {
    throw new Error(`expected ${expected}, but ${proven} answered`);
  }
}
