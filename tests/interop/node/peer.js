// One connection to another peer, from the TLS handshake to the goodbye.
import { EventEmitter } from "node:events";

import { ProtocolError } from "./errors.js";
import { FrameReader } from "./frames.js";
import { hostAndPort } from "./identity.js";
import { decodePacket, encodeFrame, kindOf, packetLimit, reasonName, reasonNumber } from "./packets.js";

const VERSION = 1;
const AGENT = "peernet-interop-node/0.0";
const FRAME_MAX_BEFORE_HELLO = 4096;
const FRAME_MAX = 1_048_576;
// Half of the ten seconds that the other side grants; what comes before has the other half.
export const HANDSHAKE_MS = 5_000;
const MESSAGE_MAX = 128;
const GOODBYE_MS = 2_000;
const SILENCE_MS = 30_000;
const UNREAD_ANSWERS_MAX = 1_048_576;

// Never gated. The last one stands for a packet that its sender could not send again, and nobody is told of it.
const CONTROL_KINDS = new Set(["hello", "heartbeat", "acknowledge", "disconnect", "withdrawn"]);

const State = Object.freeze({
  START: "START",
  HELLO_SENT: "HELLO_SENT",
  HELLO_RECEIVED: "HELLO_RECEIVED",
  OPEN: "OPEN",
  CLOSED: "CLOSED",
});

/** What a received packet leads to; "any other kind" is `other`, and what is missing is an error. */
const RECEIVED = {
  START: { hello: State.HELLO_RECEIVED, disconnect: State.CLOSED },
  HELLO_SENT: { hello: State.OPEN, disconnect: State.CLOSED },
  HELLO_RECEIVED: { disconnect: State.CLOSED },
  OPEN: { disconnect: State.CLOSED, other: State.OPEN },
  CLOSED: {},
};

/**
 * A peer at the other end of a TLS socket whose handshake is done.
 *
 * Events: `open`, `message` (text), `data` (format, bytes, name), `pong` (milliseconds),
 * `skipped` (a packet of an unknown kind), `refused` (kind), and as the last one `closed`
 * ({by, reason, message}), where `by` is "us", "peer", or "nobody" for a lost connection.
 */
export class Peer extends EventEmitter {
  #socket;
  #options;
  #state = State.START;
  #frames = new FrameReader(FRAME_MAX_BEFORE_HELLO);
  #frameMaxOfPeer = FRAME_MAX_BEFORE_HELLO;
  #goodbye = { by: "nobody", reason: null, message: "connection lost" };
  #pings = new Map();
  #lastRequest = 0;
  #deadline;
  #heartbeat;
  #silence;

  /**
   * `identifier` is what the peer's certificate has proven. `options`: `identity`, `network`, `dialled`,
   * `heartbeatMs`, `listenAddresses`, and `admits(peer)`, which returns undefined or the reason why the
   * peer is not welcome.
   */
  constructor(socket, identifier, options) {
    super();
    this.#socket = socket;
    this.#options = options;
    this.trusted = false;
    this.identifier = identifier;
    this.address = hostAndPort(socket.remoteAddress, socket.remotePort);
    socket.setNoDelay(true);
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("error", (error) => this.#lost(error));
    socket.on("close", () => this.#ended());
    this.#deadline = setTimeout(() => this.disconnect("HANDSHAKE_TIMEOUT"), HANDSHAKE_MS);
    if (options.dialled) {
      this.#sayHello();
      this.#state = State.HELLO_SENT;
    }
  }

  get open() {
    return this.#state === State.OPEN;
  }

  send(kind, body, envelope = {}) {
    if (!this.open) throw new Error(`${this.address} is not open`);
    this.#write(kind, body, { source_origin_time: Date.now(), ...envelope });
  }

  /** Asks the peer for a sign of life. */
  ping() {
    const requestId = ++this.#lastRequest;
    this.#pings.set(requestId, performance.now());
    this.send("heartbeat", {}, { request_id: requestId });
  }

  /** Sends bytes as they are, to see what the peer thinks of them. */
  sendRaw(bytes) {
    this.#socket.write(bytes);
  }

  disconnect(reason, message = "") {
    if (this.#state === State.CLOSED) return;
    this.#write("disconnect", { reason: reasonNumber(reason), message: message.slice(0, MESSAGE_MAX) });
    this.#close({ by: "us", reason, message });
    // What still arrives is read and dropped until the peer closes as well.
    this.#socket.end();
    this.#deadline = setTimeout(() => this.#socket.destroy(), GOODBYE_MS);
  }

  // Receiving

  #receive(chunk) {
    if (this.#state === State.CLOSED) return;
    this.#silence?.refresh();
    this.#frames.push(chunk);
    try {
      this.#handleFrames();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.disconnect(error.reason, error.message);
    }
  }

  #handleFrames() {
    let bytes;
    while (this.#state !== State.CLOSED && (bytes = this.#frames.next()) !== undefined) {
      this.#handlePacket(bytes);
    }
  }

  #handlePacket(bytes) {
    const kind = kindOf(bytes);
    const transitions = RECEIVED[this.#state];
    const state = transitions[kind] ?? (kind === "hello" ? undefined : transitions.other);
    if (state === undefined) {
      throw new ProtocolError("UNEXPECTED_PACKET", `${kind ?? "unknown kind"} in state ${this.#state}`);
    }
    if (kind === undefined) {
      this.emit("skipped", bytes.length);
      return;
    }
    if (bytes.length > packetLimit(kind, this.#frames.limit)) {
      throw new ProtocolError("FRAME_TOO_BIG", `${kind} of ${bytes.length} bytes`);
    }
    if (!this.#permits(kind)) {
      this.emit("refused", kind);
      return;
    }
    const packet = decodePacket(bytes);
    this.#checkOrigin(packet.source_origin_identifier);
    this.#state = state;
    this.#handlers[kind]?.(packet[kind], packet);
  }

  #permits(kind) {
    return this.trusted || CONTROL_KINDS.has(kind) || kind === "pure_message";
  }

  #checkOrigin(identifier) {
    if (identifier !== "" && identifier !== this.identifier) {
      throw new ProtocolError("ORIGIN_MISMATCH", `packet in the name of ${identifier}`);
    }
  }

  /** Kinds that are not here are taken and ignored. */
  #handlers = {
    hello: (hello) => this.#greeted(hello),
    heartbeat: (_, packet) => this.#answer(packet),
    disconnect: ({ reason, message }) => {
      this.#close({ by: "peer", reason: reasonName(reason), message });
      this.#socket.destroySoon();
    },
    pure_message: ({ message }) => this.emit("message", message),
    data_transmission: ({ format, data, name }) => this.emit("data", { format, data, name }),
  };

  #greeted(hello) {
    const refusal = this.#refusal(hello);
    if (refusal !== undefined) {
      this.disconnect(refusal);
      return;
    }
    if (!this.#options.dialled) this.#sayHello();
    this.#state = State.OPEN;
    this.#frames.limit = FRAME_MAX;
    this.#frameMaxOfPeer = hello.max_frame || FRAME_MAX;
    clearTimeout(this.#deadline);
    this.#heartbeat = setTimeout(() => this.send("heartbeat", {}), this.#options.heartbeatMs);
    this.#silence = setTimeout(() => this.disconnect("TIMEOUT"), silenceAllowed(hello.heartbeat_interval_ms));
    this.emit("open");
  }

  #refusal(hello) {
    if (hello.protocol_min > VERSION || hello.protocol_max < VERSION) return "WRONG_VERSION";
    if (hello.network_name !== this.#options.network) return "WRONG_NETWORK";
    if (hello.identifier !== "" && hello.identifier !== this.identifier) return "ORIGIN_MISMATCH";
    if (this.identifier === this.#options.identity.identifier) return "SELF_CONNECTION";
    return this.#options.admits?.(this);
  }

  #answer({ request_id: requestId, reply_to: replyTo }) {
    const asked = this.#pings.get(Number(replyTo));
    if (asked !== undefined) {
      this.#pings.delete(Number(replyTo));
      this.emit("pong", performance.now() - asked);
    }
    if (Number(requestId) !== 0 && this.#socket.writableLength < UNREAD_ANSWERS_MAX) {
      this.send("heartbeat", {}, { reply_to: requestId });
    }
  }

  // Sending

  #sayHello() {
    this.#write("hello", {
      protocol_min: VERSION,
      protocol_max: VERSION,
      network_name: this.#options.network,
      agent: AGENT,
      listen_addresses: this.#options.listenAddresses ?? [],
      observed_address: this.address,
      heartbeat_interval_ms: this.#options.heartbeatMs,
      max_frame: FRAME_MAX,
    });
  }

  #write(kind, body, envelope = {}) {
    this.#socket.write(encodeFrame(kind, body, envelope, this.#frameMaxOfPeer));
    this.#heartbeat?.refresh();
  }

  // Closing

  #close(goodbye) {
    this.#state = State.CLOSED;
    this.#goodbye = goodbye;
    this.#stopTimers();
  }

  #lost(error) {
    if (this.#state !== State.CLOSED) this.#goodbye.message = error.message;
  }

  #ended() {
    this.#state = State.CLOSED;
    this.#stopTimers();
    this.emit("closed", this.#goodbye);
  }

  #stopTimers() {
    for (const timer of [this.#deadline, this.#heartbeat, this.#silence]) clearTimeout(timer);
  }
}

/** How long a peer that announced this interval may stay silent. */
function silenceAllowed(announcedMs) {
  return Math.max(SILENCE_MS, 2 * Math.min(announcedMs, 10 * SILENCE_MS));
}
