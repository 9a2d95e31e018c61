/** The other side broke the protocol; `reason` names what it is told in the disconnect. */
export class ProtocolError extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}
