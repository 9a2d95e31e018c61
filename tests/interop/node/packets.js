// Packets: the messages of packet.proto, and the rules that protobuf does not check by itself.
import { fileURLToPath } from "node:url";

import protobuf from "protobufjs";

import { ProtocolError } from "./errors.js";

const PROTO = fileURLToPath(new URL("../../../proto/peernet/v1/packet.proto", import.meta.url));
const FIRST_BODY = 16;
const MAX_FIELDS = 64;
const LENGTH_DELIMITED = 2;
const GROUP = 3; // proto3 has none, so none is skipped either
const BULK_KINDS = new Set(["pure_message", "data_transmission"]);
export const SMALL_PACKET_MAX = 65_536;

const root = new protobuf.Root().loadSync(PROTO, { keepCase: true });
const Packet = root.lookupType("peernet.v1.Packet");
const Reasons = root.lookupEnum("peernet.v1.DisconnectReason");
const REASON_PREFIX = "DISCONNECT_REASON_";

export function reasonNumber(name) {
  return Reasons.values[REASON_PREFIX + name];
}

/** The name of a reason; those from the future count as unspecified. */
export function reasonName(number) {
  return (Reasons.valuesById[number] ?? Reasons.valuesById[0]).slice(REASON_PREFIX.length);
}

/** The most bytes that a packet of this kind may have where the frame limit is `frameLimit`. */
export function packetLimit(kind, frameLimit) {
  return BULK_KINDS.has(kind) ? frameLimit : Math.min(frameLimit, SMALL_PACKET_MAX);
}

/** The bytes of a frame; throws a RangeError if the receiver would not accept them. */
export function encodeFrame(kind, body, envelope, frameLimit) {
  const writer = Packet.encode(Packet.fromObject({ ...envelope, [kind]: body }));
  const limit = packetLimit(kind, frameLimit);
  if (writer.len > limit) throw new RangeError(`${kind} of ${writer.len} bytes, the peer accepts ${limit}`);
  return writer.ldelim().finish();
}

/** The kind of a packet, undefined for one from the future; looks at no body's content. */
export function kindOf(bytes) {
  const bodies = parsing(() => bodyFields(bytes));
  if (bodies.length !== 1) throw new ProtocolError("BAD_PACKET", `packet with ${bodies.length} bodies`);
  const { number, wireType } = bodies[0];
  if (wireType !== LENGTH_DELIMITED) throw new ProtocolError("BAD_PACKET", `body ${number} is no message`);
  return Packet.fieldsById[number]?.name;
}

export function decodePacket(bytes) {
  return parsing(() => Packet.decode(bytes));
}

/** The packet as plain JSON: snake_case names, names for enums, base64 for bytes. */
export function toJSON(packet) {
  return Packet.toObject(packet, { longs: String, enums: String, bytes: String });
}

function bodyFields(bytes) {
  const reader = protobuf.Reader.create(bytes);
  const bodies = [];
  let fields = 0;
  while (reader.pos < reader.len) {
    if (++fields > MAX_FIELDS) throw new Error("too many fields");
    const tag = reader.uint32();
    const number = tag >>> 3;
    const wireType = tag & 7;
    if (wireType === GROUP) throw new Error("a group");
    if (number >= FIRST_BODY) bodies.push({ number, wireType });
    reader.skipType(wireType, 0, number);
  }
  return bodies;
}

function parsing(parse) {
  try {
    return parse();
  } catch (error) {
    throw new ProtocolError("BAD_PACKET", error.message);
  }
}
