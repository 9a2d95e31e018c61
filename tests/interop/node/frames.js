// Frames: the length of a packet as a varint, then the packet.
import { ProtocolError } from "./errors.js";

const LENGTH_BYTES_MAX = 5;

/**
 * Cuts a stream of bytes into frames.
 *
 * `limit` holds for every length that is read after it was set, so whoever changes it while
 * frames arrive must take them out one by one.
 */
export class FrameReader {
  #chunks = [];
  #size = 0;
  #expected;

  constructor(limit) {
    this.limit = limit;
  }

  push(chunk) {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
  }

  /** The next packet's bytes, or undefined until more has arrived. */
  next() {
    this.#expected ??= this.#readLength();
    if (this.#expected === undefined || this.#size < this.#expected) return undefined;
    const frame = this.#take(this.#expected);
    this.#expected = undefined;
    return frame;
  }

  #readLength() {
    const bytes = this.#joined();
    let length = 0;
    for (let i = 0; i < Math.min(bytes.length, LENGTH_BYTES_MAX); i++) {
      length += (bytes[i] & 0x7f) * 2 ** (7 * i); // not <<: five bytes exceed 32 bits
      if (bytes[i] < 0x80) {
        if (length > this.limit) {
          throw new ProtocolError("FRAME_TOO_BIG", `frame of ${length} bytes, limit ${this.limit}`);
        }
        this.#take(i + 1);
        return length;
      }
    }
    if (bytes.length >= LENGTH_BYTES_MAX) throw new ProtocolError("FRAME_TOO_BIG", "length of more than 5 bytes");
    return undefined;
  }

  #take(count) {
    const bytes = this.#joined();
    this.#chunks = [bytes.subarray(count)];
    this.#size -= count;
    return bytes.subarray(0, count);
  }

  #joined() {
    if (this.#chunks.length !== 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0];
  }
}
