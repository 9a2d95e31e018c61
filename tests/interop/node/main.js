// A peernet peer on the command line: JSON lines in are commands, JSON lines out are events.
import { createHash } from "node:crypto";
import readline from "node:readline";
import { parseArgs } from "node:util";

import { ProtocolError } from "./errors.js";
import { FrameReader } from "./frames.js";
import { Identity } from "./identity.js";
import { decodePacket, kindOf, toJSON } from "./packets.js";
import { dial, listen } from "./transport.js";

const USAGE = `usage: node main.js dial peer://[IDENTIFIER@]HOST:PORT [options]
       node main.js listen HOST:PORT [options]
       node main.js decode < LINES        each line a frame in hexadecimal
options: --network NAME   --key FILE   --heartbeat MILLISECONDS`;

const DATA_FORMAT_MISC = 3;
const FRAME_MAX = 1_048_576;

const connected = new Map(); // identifier -> Peer

const modes = {
  async dial(address, options) {
    report({ event: "ready", identifier: options.identity.identifier });
    const peer = await dial(address, options);
    follow(peer);
    peer.once("closed", ({ by }) => {
      input.close();
      process.exitCode = by === "nobody" ? 1 : 0;
    });
    const input = takeCommands(() => peer.disconnect("SHUTDOWN"));
  },

  async listen(hostAndPort, options) {
    const admits = (peer) => (connected.has(peer.identifier) ? "DUPLICATE" : undefined);
    const failed = (error) => report({ event: "failed", message: error.message });
    const { server, address } = await listen(hostAndPort, { ...options, admits }, follow, failed);
    const { identifier } = options.identity;
    report({ event: "ready", identifier, address: `peer://${identifier}@${address}` });
    takeCommands(() => {
      server.close();
      for (const peer of connected.values()) peer.disconnect("SHUTDOWN");
    });
  },

  async decode() {
    for await (const line of readline.createInterface({ input: process.stdin })) {
      report(decoded(Buffer.from(line.trim(), "hex")));
    }
  },
};

const commands = {
  send: (peer, text) => peer.send("pure_message", { message: text }),
  data: (peer, base64, { name = "" }) =>
    peer.send("data_transmission", { format: DATA_FORMAT_MISC, data: Buffer.from(base64, "base64"), name }),
  frame: (peer, hex) => peer.sendRaw(Buffer.from(hex, "hex")),
  ping: (peer) => peer.ping(),
  trust: (peer, trusted) => {
    peer.trusted = trusted;
  },
  close: (peer) => peer.disconnect("CLOSED"),
};

/** Reports what a peer does until it is gone. */
function follow(peer) {
  const tell = (event, details = {}) => report({ event, identifier: peer.identifier, ...details });
  peer.on("open", () => {
    connected.set(peer.identifier, peer);
    tell("open", { address: peer.address });
  });
  peer.on("message", (text) => tell("message", { text }));
  peer.on("data", ({ format, data, name }) =>
    tell("data", { format, name, size: data.length, sha256: createHash("sha256").update(data).digest("hex") }),
  );
  peer.on("pong", (milliseconds) => tell("pong", { milliseconds }));
  peer.on("skipped", (size) => tell("skipped", { size }));
  peer.on("refused", (kind) => tell("refused", { kind }));
  peer.on("closed", (goodbye) => {
    if (connected.get(peer.identifier) === peer) connected.delete(peer.identifier);
    tell("disconnect", goodbye);
  });
}

/** Runs the commands on stdin for every connected peer; `stop` is called where they end. */
function takeCommands(stop) {
  const input = readline.createInterface({ input: process.stdin });
  input.on("line", (line) => {
    try {
      run(JSON.parse(line));
    } catch (error) {
      report({ event: "error", message: error.message });
    }
  });
  input.on("close", stop);
  return input;
}

function run(command) {
  const [name] = Object.keys(command).filter((key) => Object.hasOwn(commands, key));
  if (name === undefined) throw new Error(`unknown command; known are ${Object.keys(commands).join(", ")}`);
  if (connected.size === 0) throw new Error("nobody is connected");
  for (const peer of connected.values()) commands[name](peer, command[name], command);
}

/** What a frame holds, or what is wrong with it. */
function decoded(frame) {
  const frames = new FrameReader(FRAME_MAX);
  frames.push(frame);
  try {
    const bytes = frames.next();
    if (bytes === undefined) return { incomplete: true };
    const kind = kindOf(bytes);
    return kind === undefined ? { skipped: true } : { kind, packet: toJSON(decodePacket(bytes)) };
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return { broken: error.reason, message: error.message };
  }
}

function report(event) {
  process.stdout.write(JSON.stringify(event) + "\n");
}

function parseCommandLine() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      network: { type: "string", default: "peernet" },
      key: { type: "string" },
      heartbeat: { type: "string", default: "15000" },
    },
  });
  const [mode, address] = positionals;
  if (!Object.hasOwn(modes, mode ?? "")) throw new Error(USAGE);
  return { mode, address, values };
}

try {
  const { mode, address, values } = parseCommandLine();
  const identity = values.key === undefined ? Identity.generate() : Identity.kept(values.key);
  await modes[mode](address, { identity, network: values.network, heartbeatMs: Number(values.heartbeat) });
} catch (error) {
  report({ event: "failed", message: error.message });
  process.exitCode = 1;
}
