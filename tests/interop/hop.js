// RESERVE of circuit relay version 2, by hand: js-libp2p does not show what its relay answered.

import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { RecordEnvelope } from '@libp2p/peer-record'
import { multiaddr } from '@multiformats/multiaddr'
import { ask } from './ask.js'
import { decode } from './wire.js'

export const HOP = '/libp2p/circuit/relay/0.2.0/hop'

const OK = 100

// The place that the relay at the other end of `connection` gives: `{ expire, addresses, voucher, limited }`.
export async function reserve (connection) {
  const { 1: [type], 3: [place] = [], 4: limit, 5: [status] } = await ask(connection, HOP, { 1: 0 })
  if (type !== 2 || status !== OK) throw new Error(`RESERVE was answered with type ${type}, status ${status}`)
  const { 1: [expire], 2: addresses, 3: [voucher] } = decode(place)
  return { expire, addresses: addresses.map((bytes) => multiaddr(bytes)), voucher, limited: limit !== undefined }
}

// What a voucher says, once its signature has been verified: `{ signer, relay, peer, expiration }`.
export async function openVoucher (voucher) {
  const envelope = await RecordEnvelope.openAndCertify(voucher, 'libp2p-relay-rsvp')
  const { 1: [relay], 2: [peer], 3: [expiration] } = decode(envelope.payload)
  return { type: Buffer.from(envelope.payloadType), signer: peerIdFromPublicKey(envelope.publicKey), relay, peer, expiration }
}
