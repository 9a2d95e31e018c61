// Packets: the messages of packet.proto, and the rules that protobuf does not check by itself.
import { fileURLToPath } from "node:url";

import protobuf from "protobufjs";

import { ProtocolError } from "./errors.js";

const PROTO = fileURLToPath(new URL("../../../proto/peernet/v1/packet.proto", import.meta.url));
const FIRST_BODY = 16;
const MAX_FIELDS = 64;
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;
const TAG_BYTES_MAX = 5; // and of lengths; other numbers have up to ten
const NUMBER_BYTES_MAX = 10;
const TAG_END = 2 ** 32; // the first that is none: 29 bits for the number of the field, 3 for the wire type
const LEAST_MAX_FRAME = 4096;
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
  const packet = parsing(() => Packet.decode(bytes));
  const limit = packet.hello?.max_frame ?? 0;
  if (limit > 0 && limit < LEAST_MAX_FRAME) throw new ProtocolError("BAD_PACKET", `max_frame of ${limit}`);
  return packet;
}

/** The packet as plain JSON: snake_case names, names for enums, base64 for bytes. */
export function toJSON(packet) {
  return Packet.toObject(packet, { longs: String, enums: String, bytes: String });
}

/** Every field numbered 16 or higher. Written by hand: protobufjs forgives more than the protocol does. */
function bodyFields(bytes) {
  const bodies = [];
  let position = 0;
  for (let fields = 1; position < bytes.length; fields++) {
    if (fields > MAX_FIELDS) throw new Error("too many fields");
    const tag = readVarint(bytes, position, TAG_BYTES_MAX);
    if (tag.value >= TAG_END) throw new Error("a field number of 2^29 or more");
    const number = Math.floor(tag.value / 8);
    if (number === 0) throw new Error("field number 0");
    const wireType = tag.value % 8;
    if (number >= FIRST_BODY) bodies.push({ number, wireType });
    position = endOfValue(bytes, tag.end, wireType);
  }
  return bodies;
}

function endOfValue(bytes, position, wireType) {
  const end = valueEnd(bytes, position, wireType);
  if (end > bytes.length) throw new Error("a field that reaches beyond the packet");
  return end;
}

function valueEnd(bytes, position, wireType) {
  switch (wireType) {
    case VARINT:
      return readVarint(bytes, position, NUMBER_BYTES_MAX).end;
    case FIXED64:
      return position + 8;
    case FIXED32:
      return position + 4;
    case LENGTH_DELIMITED: {
      const length = readVarint(bytes, position, TAG_BYTES_MAX);
      return length.end + length.value;
    }
    default:
      throw new Error(`wire type ${wireType}`);
  }
}

/** Of numbers beyond 2^53 the value is rounded, which matters to nobody here. */
function readVarint(bytes, position, bytesMax) {
  let value = 0;
  for (let i = 0; i < bytesMax && position + i < bytes.length; i++) {
    value += (bytes[position + i] & 0x7f) * 2 ** (7 * i);
    if (bytes[position + i] < 0x80) return { value, end: position + i + 1 };
  }
  throw new Error("a broken varint");
}

function parsing(parse) {
  try {
    return parse();
  } catch (error) {
    throw new ProtocolError("BAD_PACKET", error.message);
  }
}
