// `/rendezvous/1.0.0`, by hand: there is no maintained client of it for js-libp2p.

import { PeerRecord, RecordEnvelope } from '@libp2p/peer-record'
import { ask } from './ask.js'
import { decode, encode } from './wire.js'

export const RENDEZVOUS = '/rendezvous/1.0.0'

// Registers `peer` and where it is reached, signed in the form of the specification; the seconds that it lasts.
export async function register (peer, connection, namespace) {
  const record = new PeerRecord({ peerId: peer.peerId, multiaddrs: peer.getMultiaddrs() })
  const signed = (await RecordEnvelope.seal(record, peer.key)).marshal()
  const answer = await ask(connection, RENDEZVOUS, { 1: 0, 2: encode({ 1: namespace, 2: signed }) })
  const { 1: [status], 3: [ttl] = [] } = decode(answer[3][0])
  if (answer[1][0] !== 1 || status !== 0) throw new Error(`REGISTER was answered with status ${status}`)
  return ttl
}

// The records of all who are found in `namespace`, verified.
export async function discover (connection, namespace) {
  const answer = await ask(connection, RENDEZVOUS, { 1: 3, 5: encode({ 1: namespace }) })
  const { 1: found = [], 3: [status] } = decode(answer[6][0])
  if (answer[1][0] !== 4 || status !== 0) throw new Error(`DISCOVER was answered with status ${status}`)
  return Promise.all(found.map(async (registration) => {
    const envelope = await RecordEnvelope.openAndCertify(decode(registration)[2][0], PeerRecord.DOMAIN)
    return PeerRecord.createFromProtobuf(envelope.payload)
  }))
}
